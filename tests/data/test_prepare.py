"""Preparation: whole, resumable, with every failure listed, and never a mixture of settings."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from voiceflow.alignment.mfa import MfaAligner
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.data import prepare as module
from voiceflow.data.manifest import Utterance, read_manifest
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

    def prepare(self, spec: FeatureSpec = SPEC, **settings: str) -> Summary:
        aligner = partial(MfaAligner, self.folder)
        table = PhoneTable.english()
        return prepare(self.utterances, aligner, spec, self.out, table, settings)

    def files(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (self.out / "shards").iterdir()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD_UTTERANCES", 3)
        yield made


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
    assert summary.failed == 5
    assert summary.frames == total
    assert summary.hours == pytest.approx((0.4 + 0.45 + 0.6 + 0.5123) / 3600, rel=1e-3)
    assert str(summary).startswith("4 of 9 utterances prepared (44.44 %)")
    assert {u.id for u in read_manifest(corpus.out / "manifest.jsonl")} >= {"a1", "no-file"}


def test_what_cannot_is_listed_with_its_reason(corpus: Corpus, summary: Summary) -> None:
    lines = (corpus.out / "failed.jsonl").read_text().splitlines()
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
    for path in removed:
        path.unlink()
        del untouched[path]
    (corpus.out / "info.json").unlink()
    with pytest.raises(UserError, match="no prepared data here"):
        open_prepared(corpus.out)
    assert corpus.prepare(aligner="mfa") == summary
    assert {p: p.stat().st_mtime_ns for p in untouched} == untouched
    assert corpus.files() == before
    assert (corpus.out / "info.json").read_bytes() == info


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
    with pytest.raises(UserError, match=r"nothing could be prepared: .*failed\.jsonl"):
        corpus.prepare()
    assert json.loads((corpus.out / "failed.jsonl").read_text())["id"] == "bad"
    with pytest.raises(UserError, match="no prepared data"):
        open_prepared(corpus.out)


def test_an_empty_corpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no utterances"):
        Corpus(tmp_path).prepare()
    assert not (tmp_path / "out").exists()
