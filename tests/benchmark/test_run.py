"""A benchmark from the corpus to the result: stages, what is refused, and what goes on."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.benchmark.asked import SCORERS, Ask, rows
from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.io import Recording, load_mono, read, write
from voiceflow.benchmark.compare import compare_results
from voiceflow.benchmark.main import run_sweep
from voiceflow.benchmark.result import without_times
from voiceflow.config import UserError
from voiceflow.data.executors import Ray
from voiceflow.data.manifest import Utterance
from voiceflow.files import read_json


def test_the_result_says_all(done: Path) -> None:
    results = read_json(done / "results.json")
    assert results["protocol"]["trials"] == 4
    assert results["protocol"]["speakers"] == 2
    assert results["protocol"]["subset"] == "test-clean"
    assert results["protocol"]["sha256"] == (done / "trials.sha256").read_text().split()[0]
    assert results["voice"]["settings"]["steps"] == 2
    assert len(results["voice"]["voice_fingerprint"]) == 16
    assert results["scorers"]["pocketsphinx"]["language_model"] == "en-us"
    assert set(rows(results)) == {
        (task, system)
        for task in ("cross-sentence", "continuation")
        for system in ("original", "resynthesis", "tiny-0")
    }
    original = rows(results)["cross-sentence", "original"]
    assert original["figures"]["WER (pocketsphinx)"]["value"] < 0.7
    assert original["figures"]["FSD (log-mel)"]["value"] == pytest.approx(0, abs=1e-6)
    made = rows(results)["cross-sentence", "tiny-0"]
    assert (made["nfe"], made["trials"], made["failed"]) == (4, 2, 0)
    assert made["network_passes"] == 8
    assert made["rtf"] > 0
    assert made["figures"]["WER (pocketsphinx)"]["value"] > 0.5  # it is not trained
    assert [r["system"] for r in results["reported"]].count("VALL-E") == 2
    assert "| original" in (done / "results.md").read_text()
    assert (done / "report.html").stat().st_size > 10_000


def test_sounds_are_what_the_protocol_asks_for(done: Path) -> None:
    trials = [json.loads(line) for line in (done / "trials.jsonl").read_text().splitlines()]
    for trial in trials:
        original, made, prompt = (
            load_mono(done / "audio" / system / f"{trial['id']}.wav", SAMPLE_RATE)
            for system in ("original", "tiny-0", "prompt")
        )
        told = read_json(done / "audio" / "tiny-0" / f"{trial['id']}.json")
        assert len(prompt) == pytest.approx(3 * SAMPLE_RATE, abs=1)
        if trial["task"] == "continuation":
            first, last = told["generated"]
            assert 2.5 * SAMPLE_RATE < first <= 3 * SAMPLE_RATE
            assert last == len(made)
            kept = first - SAMPLE_RATE // 10
            assert np.array_equal(made[:kept], original[:kept])
        else:
            assert told["generated"] == [0, len(made)]


def test_given_again_it_makes_nothing_anew(done: Path, ask: Ask) -> None:
    """And another scorer is added to the sounds that are there."""
    before = {p: p.stat().st_mtime_ns for p in (done / "audio").rglob("*.wav")}
    scores = {p: p.stat().st_mtime_ns for p in (done / "scores" / "pocketsphinx").rglob("0*.json")}
    [results] = ask(done, scorers=f"{SCORERS},pitch")
    assert before == {p: p.stat().st_mtime_ns for p in (done / "audio").rglob("*.wav")}
    assert scores == {p: p.stat().st_mtime_ns for p in scores}
    figures = rows(results)["cross-sentence", "resynthesis"]["figures"]
    assert 0 < figures["MCD (dB)"]["value"] < 10
    assert "MCD (dB)" not in rows(results)["cross-sentence", "tiny-0"]["figures"]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"seed": 1}, "seed, sha256"),
        ({"sampling": {"steps": 3}}, "settings"),
        ({"limit": 3}, "sha256"),
        ({"seeds": 2}, "seeds"),
    ],
)
def test_another_benchmark_needs_another_folder(
    done: Path, ask: Ask, more: dict[str, Any], what: str
) -> None:
    with pytest.raises(UserError, match=rf"holds another benchmark \(other: {what}\)"):
        ask(done, **more)


def test_scores_of_another_scorer_are_not_mixed(done: Path, ask: Ask, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "copy")
    path = tmp_path / "copy" / "scores" / "pocketsphinx" / "scorer.json"
    path.write_text(json.dumps({**read_json(path), "version": "0.1"}))
    with pytest.raises(UserError, match=r"another pocketsphinx told \(other: version\): remove"):
        ask(tmp_path / "copy")


@pytest.mark.long
def test_a_foreign_system_is_scored_from_a_folder(done: Path, ask: Ask, tmp_path: Path) -> None:
    """The originals, handed in at another rate and in stereo, get the originals' figures."""
    outputs = tmp_path / "theirs"
    outputs.mkdir()
    for path in (done / "audio" / "original").glob("*.wav"):
        recording = read(path)
        write(outputs / path.name,
              Recording(recording.samples.repeat(2, axis=1), SAMPLE_RATE, "PCM_16"))  # fmt: skip
    [results] = ask(tmp_path / "out", outputs=outputs, calibrate=False)
    assert {row["system"] for row in results["rows"]} == {"theirs"}
    found, calibrated = rows(results), rows(read_json(done / "results.json"))
    for task in ("cross-sentence", "continuation"):
        theirs, original = (
            of[task, system]["figures"]["WER (pocketsphinx)"]["value"]
            for of, system in ((found, "theirs"), (calibrated, "original"))
        )
        assert theirs == pytest.approx(original, abs=0.02)
    with pytest.raises(UserError, match="'original' is the name of a row of the result"):
        ask(tmp_path / "named", outputs=done / "audio" / "original")
    next(outputs.glob("*.wav")).unlink()
    with pytest.raises(UserError, match=r"lacks sounds of 1 of 4 trials .*expected as TRIAL\.wav"):
        ask(tmp_path / "other", outputs=outputs)
    assert not (tmp_path / "other").exists()


def test_seeds_are_pooled(ask: Ask, tmp_path: Path) -> None:
    [results] = ask(tmp_path / "out", seeds=2, scorers="pocketsphinx", limit=1)
    systems = [r["system"] for r in results["rows"] if r["task"] == "cross-sentence"]
    assert systems == ["original", "resynthesis", "tiny-0", "tiny-1", "tiny, 2 seeds"]
    assert rows(results)["cross-sentence", "tiny, 2 seeds"]["trials"] == 2
    a, b = (
        load_mono(next((tmp_path / "out" / "audio" / f"tiny-{seed}").glob("cross*.wav")), 16000)
        for seed in (0, 1)
    )
    assert not np.array_equal(a, b[: len(a)])


def test_what_can_be_known_is_said_before_anything_is_made(
    ask: Ask, tiny_voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="no scorer 'ears': there are pocketsphinx"):
        ask(out, scorers="ears")
    with pytest.raises(UserError, match="--scorers names none"):
        ask(out, scorers=" ,")
    with pytest.raises(UserError, match=r"benchmark configuration 'mine' does not exist"):
        ask(out, "mine")
    with pytest.raises(UserError, match="--list is for librispeech-pc"):
        ask(out, listed=tmp_path / "x.lst")
    with pytest.raises(UserError, match="speed is measured of voices alone"):
        ask(out, "speed", outputs=tmp_path)
    monkeypatch.setitem(sys.modules, "speechmos", None)
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(UserError, match=r"dnsmos: .*pip install.*; intrusive: .*pip install"):
        ask(tmp_path / "missing", scorers="dnsmos,intrusive")
    assert not (tmp_path / "missing" / "audio").exists()
    voice = tmp_path / "mute"
    shutil.copytree(tiny_voice, voice)
    config = (voice / "config.yaml").read_text()
    values = yaml.safe_load(config)
    values["duration"] = None
    (voice / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match="has no duration network, which cross-sentence"):
        ask(out, voice=str(voice))
    assert not out.exists()


def test_a_result_compared_with_itself(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare_results(done, done / "results.json")
    assert {row["metric"] for row in found} >= {"WER (pocketsphinx)", "CER (pocketsphinx)"}
    assert all(row["difference"] == row["low"] == row["high"] == 0 for row in found)
    assert all(row["b_is_better"] is None for row in found)
    assert "| cross-sentence | WER (pocketsphinx) |" in capsys.readouterr().out


@pytest.mark.long
def test_a_sweep_goes_over_all_settings(
    utterances: list[Utterance], tiny_voice: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {
        "protocol": "infill", "corpus": {"corpus": "LibriSpeech", "subset": "test-clean"},
        "out": tmp_path / "sweep", "voice": str(tiny_voice), "scorers": "pitch", "limit": 2,
        "seed": 0, "steps": [1, 2], "solvers": ["euler", "midpoint"], "guidances": [0.0, 1.0],
    }  # fmt: skip
    found = run_sweep(utterances, **asked)
    points = {(p["solver"], p["steps"], p["guidance"]): p for p in found["sweep"]}
    assert len(points) == 8
    assert [points["euler", n, 0.0]["nfe"] for n in (1, 2)] == [1, 2]
    assert points["midpoint", 2, 0.0]["network_passes"] == 4
    assert points["midpoint", 2, 1.0]["network_passes"] == 8
    assert all(p["figures"]["log-mel error"]["count"] == 2 for p in points.values())
    assert read_json(tmp_path / "sweep" / "sweep.json")["sweep"] == found["sweep"]
    assert "<svg" in (tmp_path / "sweep" / "sweep.html").read_text("utf-8")
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").rglob("*.wav")}
    run_sweep(utterances, **asked)
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").rglob("*.wav")}
    fewer = {**asked, "steps": [1], "solvers": ["euler"], "guidances": [0.0], "limit": 1}
    gridded = run_sweep(utterances, **{
        **fewer, "out": tmp_path / "grids", "grids": ["uniform", "sway:-0.5"],
    })  # fmt: skip
    assert [p["grid"] for p in gridded["sweep"]] == ["uniform", "sway:-0.5"]
    assert "euler, sway:-0.5, guidance 0" in (tmp_path / "grids" / "sweep.html").read_text("utf-8")
    with pytest.raises(UserError, match=r"a sweep is of .* or tasks, not of speed"):
        run_sweep(utterances, **{**asked, "protocol": "speed"})


@pytest.mark.long
def test_a_cluster_does_what_one_process_does(
    utterances: list[Utterance], ask: Ask, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    [a] = ask(tmp_path / "ray", executor=Ray("local"), scorers="fsd-log-mel")
    [b] = ask(tmp_path / "one", scorers="fsd-log-mel")
    assert without_times(a) == without_times(b)
