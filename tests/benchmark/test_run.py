"""A benchmark from the corpus to the result: stages, what is refused, and what goes on."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.effects import rms
from voiceflow.audio.io import Recording, load_mono, read, write
from voiceflow.benchmark.compare import compare_results, differences
from voiceflow.benchmark.main import run, run_sweep
from voiceflow.benchmark.protocols import Trial
from voiceflow.benchmark.result import without_times
from voiceflow.benchmark.run import Benchmark, trials_of, utterances_of
from voiceflow.benchmark.systems import Corpus, stretch
from voiceflow.benchmark.work import Judge
from voiceflow.cli.prepare import read_utterances
from voiceflow.config import SampleConfig, UserError
from voiceflow.data.executors import Ray
from voiceflow.data.manifest import Utterance
from voiceflow.files import read_json
from voiceflow.model_folder import ModelFolder

SCORERS = "fsd-log-mel,pocketsphinx"
SPEAKERS = ("1089", "1995")


@pytest.fixture(scope="module")
def utterances(speech_dir: Path) -> list[Utterance]:
    """The shortest six of each of two speakers, and texts of the others."""
    every = read_utterances(speech_dir / "LibriSpeech", "test-clean")
    chosen = []
    for speaker in SPEAKERS:
        theirs = [u for u in every if u.speaker == speaker]
        chosen += sorted(theirs, key=lambda u: (u.seconds, u.id))[:6]
    return chosen


Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(utterances: list[Utterance], tiny_voice: Path) -> Ask:
    """(out, protocol, ...) to what stands in its results.json."""

    def asked(out: Path, protocol: str = "voicebox", **more: Any) -> list[dict[str, Any]]:
        told: dict[str, Any] = {
            "protocols": [protocol], "corpus": {"corpus": "LibriSpeech", "subset": "test-clean"},
            "out": out, "voice": str(tiny_voice), "scorers": SCORERS, "limit": 2,
        }  # fmt: skip
        return run(utterances, **{**told, **more})

    return asked


@pytest.fixture(scope="module")
def done(ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmark") / "first"
    ask(out)
    return out


def rows(results: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["task"], row["system"]): row for row in results["rows"]}


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


@pytest.fixture(scope="module")
def hearing(tiny_voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny voice with mini's aligner, which finds words around noise."""
    folder = tmp_path_factory.mktemp("hearing") / "tiny"
    shutil.copytree(tiny_voice, folder)
    mini = ModelFolder.open("mini").path
    for name in ("aligner.safetensors", "features.json", "phones.json"):
        shutil.copy(mini / name, folder / name)
    config, theirs = (yaml.safe_load((f / "config.yaml").read_text()) for f in (folder, mini))
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "aligner": theirs["aligner"]}))
    return folder


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
