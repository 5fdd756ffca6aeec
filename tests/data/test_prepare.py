"""Preparation: whole, resumable, with every failure listed, and never a mixture of settings."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from voiceflow.alignment.mfa import MfaAligner
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.data import prepare as module
from voiceflow.data.executors import Executor, Processes
from voiceflow.data.manifest import Rejected, Utterance, read_manifest
from voiceflow.data.prepare import Summary, prepare
from voiceflow.data.shards import open_prepared
from voiceflow.text.phones import PhoneTable

SPEC = FeatureSpec()
RATE = SPEC.sample_rate
GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
{seconds}
<exists>
2
"IntervalTier"
"words"
0
{seconds}
3
0
0.1
""
0.1
{end}
"he"
{end}
{seconds}
""
"IntervalTier"
"phones"
0
{seconds}
4
0
0.1
"sil"
0.1
0.2
"{phone}"
0.2
{end}
"IY1"
{end}
{seconds}
"sil"
"""


class Corpus:
    """Noise of 0.4 to 0.6 s, each `he` with its TextGrid; some utterances cannot be prepared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.utterances: list[Utterance] = []

    def add(self, id: str, seconds: float = 0.5, grid: bool = True, phone: str = "HH") -> None:
        path = self.folder / f"{id}.wav"
        n = round(seconds * RATE)
        wave = np.random.default_rng(n).normal(0, 0.1, n)
        soundfile.write(path, wave, RATE, "PCM_16")
        if grid:
            text = GRID.format(seconds=seconds, end=seconds - 0.1, phone=phone)
            path.with_suffix(".TextGrid").write_text(text)
        self.utterances.append(Utterance(id, str(path), "He!", "s"))

    def prepare(
        self, spec: FeatureSpec = SPEC, out: Path | None = None, workers: int = 1, **settings: str
    ) -> Summary:
        summary = self.run(spec, out, Processes(workers), settings)
        assert summary is not None
        return summary

    def run(
        self,
        spec: FeatureSpec = SPEC,
        out: Path | None = None,
        executor: Executor | None = None,
        settings: dict[str, str] | None = None,
        **options: Any,
    ) -> Summary | None:
        aligner = partial(MfaAligner, self.folder)
        return prepare(
            self.utterances, aligner, spec, out or self.out, PhoneTable.english(),
            settings if settings is not None else {"aligner": "mfa"}, executor=executor,
            shard_utterances=3, **options,
        )  # fmt: skip

    def files(self, out: Path | None = None) -> dict[str, bytes]:
        folder = out or self.out
        parts = [*(folder / "alignments").iterdir(), *(folder / "shards").iterdir()]
        return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in parts}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Three shards of three: good ones, one failure of each kind, and a shard of failures alone."""
    made = Corpus(tmp_path_factory.mktemp("corpus"))
    made.add("a1", 0.4)
    made.add("a2", 0.45)
    made.add("no-grid", grid=False)
    made.add("odd-phone", phone="XX")
    made.add("b2", 0.6)
    made.add("b3", 0.5123)
    made.utterances.append(Utterance("no-file", str(made.folder / "none.wav"), "he", "s"))
    (made.folder / "noise.wav").write_bytes(b"not audio at all")
    made.utterances.append(Utterance("no-audio", str(made.folder / "noise.wav"), "he", "s"))
    made.utterances.append(Utterance("no-words", made.utterances[0].audio, "...", "s"))
    return made


@pytest.fixture(scope="module")
def summary(corpus: Corpus) -> Summary:
    return corpus.prepare(aligner="mfa")


def test_what_can_be_prepared_is(corpus: Corpus, summary: Summary) -> None:
    opened = open_prepared(corpus.out)
    assert list(opened.dataset["id"]) == ["a1", "a2", "b2", "b3"]
    total = 0
    for row, id in enumerate(["a1", "a2", "b2", "b3"]):
        wave = load_mono(corpus.folder / f"{id}.wav", RATE)
        _, phones, durations, mel = opened.framed(row)
        wanted = LogMel(SPEC)(torch.from_numpy(wave)).numpy().astype(np.float16)
        np.testing.assert_array_equal(mel, wanted)
        names = [opened.phones.symbols[p] for p in phones]
        assert names == ["SIL", "HH_B", "IY_E", "SIL"]
        assert durations[:2].tolist() == [10, 10]
        total += len(mel)
    assert summary.utterances == 4
    assert summary.rejected == 5
    assert summary.frames == total
    assert summary.hours == pytest.approx((0.4 + 0.45 + 0.6 + 0.5123) / 3600, rel=1e-3)
    assert str(summary).startswith("4 of 9 utterances prepared (44.44 %)")
    assert {u.id for u in read_manifest(corpus.out / "manifest.jsonl")} >= {"a1", "no-file"}


def test_what_cannot_is_listed_with_its_reason(corpus: Corpus, summary: Summary) -> None:
    lines = (corpus.out / "rejected.jsonl").read_text().splitlines()
    failed = {f["id"]: f for f in map(json.loads, lines)}
    assert list(failed) == ["no-grid", "odd-phone", "no-file", "no-audio", "no-words"]
    assert "no no-grid.TextGrid" in failed["no-grid"]["reason"]
    assert "'XX_B' is not in the model's table" in failed["odd-phone"]["reason"]
    assert "none.wav" in failed["no-file"]["reason"]
    assert all(f["reason"] and f["audio"].endswith(".wav") for f in failed.values())


def test_statistics_are_numpys(corpus: Corpus, summary: Summary) -> None:
    opened = open_prepared(corpus.out)
    values = np.concatenate([opened.framed(i)[3].reshape(-1) for i in range(4)]).astype(np.float64)
    assert opened.features.mean == pytest.approx(values.mean(), abs=1e-6)
    assert opened.features.std == pytest.approx(values.std(), abs=1e-6)
    assert opened.features == SPEC.with_statistics(opened.features.mean, opened.features.std)
    assert opened.info["frames"] == summary.frames
    assert opened.info["aligner"] == "mfa"


def test_a_second_run_makes_only_what_is_missing(corpus: Corpus, summary: Summary) -> None:
    before = corpus.files()
    info = (corpus.out / "info.json").read_bytes()
    untouched = {p: p.stat().st_mtime_ns for p in (corpus.out / "shards").iterdir()}
    removed = [p for p in untouched if p.name.startswith("00001")]
    assert len(removed) == 3
    aligned = (corpus.out / "alignments" / "00001.jsonl").stat().st_mtime_ns
    for path in removed:
        path.unlink()
        del untouched[path]
    (corpus.out / "info.json").unlink()
    with pytest.raises(UserError, match="no prepared data here"):
        open_prepared(corpus.out)
    assert corpus.prepare(aligner="mfa") == summary
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched
    assert corpus.files() == before
    assert (corpus.out / "alignments" / "00001.jsonl").stat().st_mtime_ns == aligned
    assert (corpus.out / "info.json").read_bytes() == info


def test_two_workers_make_the_same_bytes(corpus: Corpus, summary: Summary, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert corpus.prepare(out=again, workers=2, aligner="mfa") == summary
    assert corpus.files(again) == corpus.files()
    for name in ("info.json", "features.json", "rejected.jsonl", "split.json", "manifest.jsonl"):
        assert (again / name).read_bytes() == (corpus.out / name).read_bytes()


def test_the_stages_can_be_run_one_by_one(
    corpus: Corpus, summary: Summary, tmp_path: Path
) -> None:
    out = tmp_path / "staged"
    assert corpus.run(out=out, until="manifest") is None
    assert sorted(p.name for p in out.iterdir()) == [
        "manifest.jsonl", "rejected.manifest.jsonl", "request.json",
    ]  # fmt: skip
    assert corpus.run(out=out, until="align") is None
    assert not (out / "shards").exists()
    lines = (out / "alignments" / "00000.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a1", "a2", "no-grid"]
    assert json.loads(lines[0])["words"][1]["text"] == "HE"
    assert "no no-grid.TextGrid" in json.loads(lines[2])["reason"]
    assert corpus.run(out=out) == summary
    assert corpus.files(out) == corpus.files()
    with pytest.raises(UserError, match="stage 'bake' is not one of manifest, align, shards"):
        corpus.run(out=out, until="bake")


def test_what_the_corpus_rejects_and_ids_that_are_no_names_are_listed(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("good")
    good = corpus.utterances[0]
    corpus.utterances += [
        replace(good, text="another"),
        replace(good, id="../up"),
        replace(good, id="empty", text="  "),
        Rejected("said", "x.wav", "the corpus says so"),  # type: ignore[list-item]
    ]
    summary = corpus.prepare(aligner="mfa")
    assert (summary.utterances, summary.rejected) == (1, 4)
    lines = (corpus.out / "rejected.jsonl").read_text().splitlines()
    reasons = [json.loads(line)["reason"] for line in lines]
    for reason, part in zip(reasons, ("second time", "not an id", "empty", "says so"), strict=True):
        assert part in reason


def test_low_scores_are_rejected_where_that_is_asked_for(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.add("good")
    aligned = MfaAligner(tmp_path).align(np.zeros(RATE // 2, np.float32), ["HE"], "good")
    worker = module.Worker(
        module.Request(partial(MfaAligner, tmp_path), SPEC, PhoneTable.english(), tmp_path, -1.0)
    )
    for score, kept in ((-0.5, 1), (-1.5, 0), (None, 1)):
        result = worker.shard(0, corpus.utterances, {"good": replace(aligned, score=score)})
        assert result.n_utterances == kept
    said = (tmp_path / "shards" / "00000.rejected.jsonl").read_text()
    assert said == ""
    worker.shard(0, corpus.utterances, {"good": replace(aligned, score=-1.5)})
    assert "score -1.50 is under -1" in (tmp_path / "shards" / "00000.rejected.jsonl").read_text()


def test_other_settings_are_refused_and_nothing_is_touched(
    corpus: Corpus, summary: Summary
) -> None:
    before = corpus.files()
    for spec, settings, named in (
        (SPEC, {"aligner": "pocketsphinx"}, r"\(aligner\)"),
        (FeatureSpec(hop=200), {"aligner": "mfa"}, r"\(features\)"),
        (SPEC, {"aligner": "mfa", "stress": "True"}, r"\(stress\)"),
    ):
        with pytest.raises(UserError, match=named):
            corpus.prepare(spec, **settings)
    first = corpus.utterances.pop(0)
    with pytest.raises(UserError, match=r"\(manifest\)"):
        corpus.prepare(aligner="mfa")
    corpus.utterances.insert(0, first)
    assert corpus.files() == before


def test_when_nothing_can_be_prepared(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    Corpus(tmp_path).add("other")  # whose TextGrid makes the folder one of TextGrids
    corpus.add("bad", grid=False)
    with pytest.raises(UserError, match=r"nothing could be prepared: .*rejected\.jsonl"):
        corpus.prepare()
    assert json.loads((corpus.out / "rejected.jsonl").read_text())["id"] == "bad"
    with pytest.raises(UserError, match="no prepared data"):
        open_prepared(corpus.out)


def test_an_empty_corpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no utterances"):
        Corpus(tmp_path).prepare()
    assert not (tmp_path / "out").exists()


def test_a_corpus_that_cannot_be_read(tmp_path: Path) -> None:
    def items() -> Iterator[Utterance]:
        yield Utterance("a", "a.wav", "he", "s")
        raise PermissionError(13, "Permission denied", "corpus/b.trans.txt")

    with pytest.raises(UserError, match=r"the corpus cannot be read .*corpus/b.trans.txt"):
        prepare(
            items(), partial(MfaAligner, tmp_path), SPEC, tmp_path / "out", PhoneTable.english(), {}
        )
