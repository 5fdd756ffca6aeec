"""What each protocol makes and measures, from the trials to the rows of the result."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.benchmark.asked import Ask, rows
from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.effects import rms
from voiceflow.audio.io import load_mono
from voiceflow.benchmark.compare import differences
from voiceflow.benchmark.protocols import Trial
from voiceflow.benchmark.result import without_times
from voiceflow.benchmark.run import Benchmark, trials_of, utterances_of
from voiceflow.benchmark.systems import Corpus, stretch
from voiceflow.benchmark.work import Judge
from voiceflow.config import SampleConfig, UserError
from voiceflow.data.manifest import Utterance


def test_gaps_of_recordings(ask: Ask, tmp_path: Path) -> None:
    """The rest of the recording stays; the matching reference is the recording itself."""
    [results] = ask(tmp_path / "out", "infill", scorers="pitch,fsd-log-mel")
    made = rows(results)["infill", "tiny-0"]
    assert made["figures"]["log-mel error"]["value"] > 0.3
    assert (
        rows(results)["infill", "resynthesis"]["figures"]["log-mel error"]["value"]
        < made["figures"]["log-mel error"]["value"]
    )
    again = ask(tmp_path / "out", "infill", scorers="pitch,fsd-log-mel")
    assert without_times(again[0]) == without_times(results)
    trial = json.loads((tmp_path / "out" / "trials.jsonl").read_text().splitlines()[0])
    a, b = (
        load_mono(tmp_path / "out" / "audio" / s / f"{trial['id']}.wav", SAMPLE_RATE)
        for s in ("original", "tiny-0")
    )
    first = round((trial["span_start"] - 0.02) * SAMPLE_RATE)
    assert len(a) == len(b)
    assert np.array_equal(a[:first], b[:first])
    assert not np.array_equal(a, b)


def test_a_list_of_pairs(ask: Ask, utterances: list[Utterance], tmp_path: Path) -> None:
    """Three seeds of each, the whole reference as prompt."""
    reference, target = utterances[:2]
    path = tmp_path / "pc.lst"
    path.write_text("\t".join((
        reference.id, str(reference.seconds), reference.text.capitalize() + ".",
        target.id, str(target.seconds), target.text.capitalize() + ".",
    )) + "\n")  # fmt: skip
    [results] = ask(tmp_path / "out", "librispeech-pc", listed=path, scorers="fsd-log-mel")
    systems = [r["system"] for r in results["rows"]]
    assert systems == ["original", "resynthesis", "tiny-0", "tiny-1", "tiny-2", "tiny, 3 seeds"]
    assert all(r["failed"] == 0 for r in results["rows"])
    [trial] = [t["id"] for t in results["trials"]]
    prompt, original = (
        load_mono(tmp_path / "out" / "audio" / s / f"{trial}.wav", SAMPLE_RATE)
        for s in ("prompt", "original")
    )
    assert len(prompt) == pytest.approx((reference.seconds or 0) * SAMPLE_RATE, abs=200)
    assert len(original) == pytest.approx((target.seconds or 0) * SAMPLE_RATE, abs=200)


def test_all_tasks_in_one_list(
    ask: Ask, utterances: list[Utterance], hearing: Path, tmp_path: Path
) -> None:
    """Each is done, each beside the original and its resynthesis, and it goes on where it was."""
    asked = {"voice": str(hearing), "sampling": {"steps": 1}, "limit": 1, "scorers": "fsd-log-mel"}
    [results] = ask(tmp_path / "out", "tasks", **asked)
    found = rows(results)
    tasks = ("infill", "edit", "cross-sentence", "continuation", "denoise-50", "style")
    systems = ("original", "resynthesis", "tiny-0")
    assert set(found) == {
        *((task, system) for task in tasks for system in systems), ("denoise-50", "noisy"),
    }  # fmt: skip
    assert [(r["trials"], r["failed"]) for r in found.values()] == [(1, 0)] * 19
    sounds = list((tmp_path / "out" / "audio").rglob("*.wav"))
    made = {path: path.stat().st_mtime_ns for path in sounds}
    for path in (tmp_path / "out" / "audio" / "tiny-0").glob("style-*"):
        path.unlink()
    [again] = ask(tmp_path / "out", "tasks", **asked)
    assert without_times(again) == without_times(results)
    anew = {p for p, then in made.items() if p.stat().st_mtime_ns != then}
    assert [p.name[:5] for p in anew] == ["style"]

    benchmark = Benchmark(tmp_path / "out", str(hearing), SampleConfig())
    uncalibrated = replace(benchmark, calibrate=False)
    assert "original" in uncalibrated.systems(trials_of(tmp_path / "out"))  # what is kept
    assert uncalibrated.scored(trials_of(tmp_path / "out")) == [f"{hearing.name}-0"]
    judge = Judge(benchmark, ())
    trials = {t.task: t for t in trials_of(tmp_path / "out")}
    edit, style, noise = trials["edit"], trials["style"], trials["denoise-50"]
    [said] = [u.text for u in utterances if u.id == edit.utterance]
    for system in systems:
        sound = judge.heard(system, edit)
        first, last = sound.generated
        whole = len(sound.wave) / SAMPLE_RATE
        assert sound.text == (edit.text if system == "tiny-0" else said)
        assert last - first < SAMPLE_RATE * 2
        assert sound.prompt is not None
        assert len(sound.prompt) / SAMPLE_RATE == pytest.approx(
            edit.seconds - (edit.span_end - edit.span_start), abs=0.001
        )
        if system != "tiny-0":
            assert first / SAMPLE_RATE == pytest.approx(edit.span_start, abs=0.001)
            assert last / SAMPLE_RATE == pytest.approx(edit.span_end, abs=0.001)
            assert whole == pytest.approx(edit.seconds, abs=0.001)
    phones = [judge.heard(s, edit).phones for s in ("original", "tiny-0")]
    assert phones[0] != phones[1]
    assert len(judge.heard("tiny-0", style).wave) == len(judge.heard("original", style).wave)
    first, last = judge.heard("tiny-0", noise).generated
    assert first / SAMPLE_RATE == pytest.approx(noise.span_start, abs=0.5)
    assert last / SAMPLE_RATE == pytest.approx(noise.span_end, abs=0.5)
    with pytest.raises(UserError, match=r"holds another benchmark \(other: limit\)"):
        ask(tmp_path / "out", "tasks", **{**asked, "limit": 2})


def test_noise_is_as_loud_as_the_protocol_says(
    ask: Ask, hearing: Path, tmp_path: Path
) -> None:
    """And lies in its span alone; another system is given it by the list of trials."""
    asked = {"voice": str(hearing), "limit": 1, "trials_only": True}
    for name in ("one", "two"):
        assert ask(tmp_path / name, "denoise", **asked) == []
    trials = trials_of(tmp_path / "one")
    assert [t.task for t in trials] == ["denoise-30", "denoise-50", "denoise-70"]
    for trial in trials:
        path = Path("audio", "noisy", f"{trial.id}.wav")
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
        wave = load_mono(tmp_path / "one" / path, SAMPLE_RATE)
        clean = Corpus(utterances_of(tmp_path / "one")).wave(trial.utterance)
        first, last = (round(s * SAMPLE_RATE) for s in (trial.span_start, trial.span_end))
        assert np.array_equal(wave[:first], clean[:first])
        assert np.array_equal(wave[last:], clean[last:])
        noise = wave[first:last] - clean[first:last]
        assert 20 * np.log10(rms(clean[first:last]) / rms(noise)) == pytest.approx(-10, abs=0.2)
        assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.05  # white
    [results] = ask(tmp_path / "one", "denoise", voice=str(hearing), limit=1,
                    scorers="fsd-log-mel")  # fmt: skip
    assert {key: (r["trials"], r["failed"]) for key, r in rows(results).items()} == {
        (trial.task, system): (1, 0)
        for trial in trials for system in ("original", "resynthesis", "noisy", "tiny-0")
    }  # fmt: skip


def test_where_another_system_put_its_word() -> None:
    """What of an edit is not as long as in the recording is the new word's."""
    trial = Trial("t", "edit", "u", "s", 4.0, "", span_start=1.0, span_end=1.5)
    for seconds, last in ((4.0, 1.5), (4.3, 1.8), (3.8, 1.3), (2.0, 1.0)):
        found = stretch(trial, round(seconds * SAMPLE_RATE))
        assert found == (SAMPLE_RATE, round(last * SAMPLE_RATE))


def test_noise_needs_an_aligner(ask: Ask, tiny_voice: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_voice, tmp_path / "deaf")
    config = yaml.safe_load((tmp_path / "deaf" / "config.yaml").read_text())
    (tmp_path / "deaf" / "config.yaml").write_text(yaml.safe_dump({**config, "aligner": None}))
    with pytest.raises(UserError, match="has no aligner, which denoise-30, denoise-50, denoise-70"):
        ask(tmp_path / "out", "denoise", voice=str(tmp_path / "deaf"))


def test_diverse_has_no_guidance(ask: Ask, tmp_path: Path) -> None:
    """Each trial by another seed sounds otherwise; the sets are compared."""
    [results] = ask(
        tmp_path / "out", "diverse", seeds=2, sampling={"steps": 1}, scorers="fsd-log-mel"
    )
    assert results["voice"]["settings"]["guidance"] == 0
    found = rows(results)
    for system in ("tiny-0", "tiny-1"):
        row = found["diverse", system]
        assert (row["nfe"], row["network_passes"]) == (2, 2)
        assert row["figures"]["FSD (log-mel)"]["value"] > 0
    assert found["diverse", "original"]["figures"]["FSD (log-mel)"]["value"] < 1e-6
    [trial, _] = trials_of(tmp_path / "out")
    a, b = (
        load_mono(tmp_path / "out" / "audio" / system / f"{trial.id}.wav", SAMPLE_RATE)
        for system in ("tiny-0", "tiny-1")
    )
    assert len(a) != len(b) or not np.array_equal(a, b)


def test_durations_and_speed_need_no_scorer(ask: Ask, tmp_path: Path) -> None:
    [durations] = ask(tmp_path / "durations", "durations", scorers="hubert")
    assert [r["system"] for r in durations["rows"]] == [
        f"tiny, {way}, {aligner}"
        for aligner in ("pocketsphinx", "ctc") for way in ("regression", "flow")
    ]  # fmt: skip
    assert all(r["figures"]["MS-MAE (frames)"]["value"] > 0 for r in durations["rows"])
    assert list(durations["scorers"]) == ["durations"]
    same = differences(durations, durations)
    assert [row["metric"] for row in same] == [
        f"MS-MAE (frames), {r['system'].removeprefix('tiny, ')}" for r in durations["rows"]
    ]
    for row in same:
        of_the_table = next(r for r in durations["rows"] if row["metric"].endswith(
            r["system"].removeprefix("tiny, ")))["figures"]["MS-MAE (frames)"]["value"]  # fmt: skip
        assert row["a"] == pytest.approx(of_the_table)
        assert row["difference"] == row["low"] == row["high"] == 0
    other = {**durations, "scorers": {"durations": {"pocketsphinx": "another"}}}
    with pytest.raises(UserError, match=r"durations was another: .*pocketsphinx"):
        differences(durations, other)
