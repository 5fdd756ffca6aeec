"""Pairs of real speech and the same made wrong: how they are drawn, scored and counted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voiceflow.alignment.types import Alignment, Phone, Word
from voiceflow.benchmark import likelihood
from voiceflow.benchmark.compare import differences
from voiceflow.benchmark.likelihood import (
    WAYS,
    Weigher,
    around,
    draw_pairs,
    figures_of,
    runs_of,
    said_in_span,
)
from voiceflow.benchmark.main import run
from voiceflow.benchmark.protocols import Trial, trial_for
from voiceflow.benchmark.result import without_times
from voiceflow.benchmark.run import trials_of
from voiceflow.benchmark.systems import Corpus
from voiceflow.cli.prepare import read_utterances
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.files import read_json, write_json
from voiceflow.generation.likelihood import Scored
from voiceflow.generation.plan import Plan
from voiceflow.measures.infill import Gap
from voiceflow.text.normalise import words_of
from voiceflow.voice import Voice

TEXTS = ("THE OLD HOUSE ON A HILL", "WE SAW THE BIG SEA", "A DOG RAN TO HIM AGAIN")


def spoken() -> list[Utterance]:
    """Three utterances of each of two speakers, half a second a word."""
    return [
        Utterance(f"{s}-1-{i:04d}", "none.flac", text, s, seconds=len(text.split()) / 2)
        for s in ("7", "8") for i, text in enumerate(TEXTS)
    ]  # fmt: skip


def aligned(utterance: Utterance) -> Alignment:
    edges = [n / 2 for n in range(len(utterance.text.split()) + 1)]
    words = [
        Word(word, start, end, (Phone("AH", start, end),))
        for word, start, end in zip(utterance.text.split(), edges, edges[1:], strict=False)
    ]
    return Alignment(tuple(words), edges[-1])


def runs(utterance: Utterance) -> list[Gap]:
    return runs_of(aligned(utterance))


def drawn(utterance: Utterance, seed: int = 0) -> Trial:
    trial = draw_pairs(utterance, spoken(), spoken(), runs, seed)
    assert trial is not None
    return trial


def test_runs_are_of_whole_words_with_a_word_on_either_side() -> None:
    found = [run.words for run in runs(spoken()[0])]
    assert found == [("OLD",), ("OLD", "HOUSE"), ("HOUSE",), ("HOUSE", "ON"), ("ON",), ("ON", "A"),
                     ("A",)]  # fmt: skip


@pytest.mark.parametrize("utterance", spoken(), ids=lambda u: u.id)
def test_what_a_pair_is_made_wrong_with(utterance: Utterance) -> None:
    trial = drawn(utterance)
    right = said_in_span(trial, words_of(utterance.text))
    n_phones = likelihood._n_phones
    first, last = round(2 * trial.span_start), round(2 * trial.span_end)
    words = utterance.text.split()
    assert right == words[first:last]
    assert trial.text.split() == [*words[:first], *trial.words.split(), *words[last:]]
    assert not {*right} & {*trial.words.split()}
    assert n_phones(trial.words.split()) == n_phones(right)
    assert not trial.prompt.startswith(trial.speaker)
    assert trial.prompt_end - trial.prompt_start == trial.span_end - trial.span_start
    theirs = next(u for u in spoken() if u.id == trial.prompt).text.split()
    first, last = round(2 * trial.prompt_start), round(2 * trial.prompt_end)
    assert trial.prompt_text.split() == theirs[first:last]


def test_pairs_depend_on_seed_and_id_alone() -> None:
    utterance = spoken()[0]
    moved = replace(utterance, audio="/elsewhere.wav")
    assert drawn(moved) == drawn(utterance)
    assert len({drawn(utterance, seed) for seed in range(8)}) > 1


def test_none_where_nothing_fits() -> None:
    utterance = spoken()[0]
    assert draw_pairs(utterance, spoken(), spoken(), lambda _: [], 0) is None
    alone = [u for u in spoken() if u.speaker == "7"]
    assert draw_pairs(utterance, alone, spoken(), runs, 0) is None
    assert draw_pairs(utterance, spoken(), [utterance], runs, 0) is None


def test_context_is_cut_away() -> None:
    mel = torch.arange(20.0)[:, None].expand(20, 3)
    mask = torch.zeros(20, dtype=torch.bool)
    mask[8:12] = True
    plan = Plan(("A", "B", "C", "D"), (5, 3, 4, 8), mel, mask, ((8, 12),))
    cut, x = around(plan, mel, 4, 2)
    assert (cut.durations, cut.gaps) == ((1, 3, 4, 2), ((4, 8),))
    assert x[:, 0].tolist() == list(range(4, 14))
    assert torch.equal(cut.context, x)
    assert cut.mask.tolist() == [False] * 4 + [True] * 4 + [False] * 2


def test_figures_of_a_way() -> None:
    way = WAYS[0]
    scores: list[Any] = [{way: x, f"{way}, error": 0.1} for x in (0.3, 0.1, -0.1, 0.5)]
    scores.append({way: None, f"{way}, error": None})  # not finite
    found = figures_of(way, scores, ["1", "1", "2", "2", "2"])
    assert found["pairs in order"]["value"] == 0.75
    assert (found["pairs in order"]["low"], found["pairs in order"]["high"]) == (0.5, 1)
    assert found["bits saved"]["value"] == pytest.approx(0.2)
    assert found["standard error"]["value"] == pytest.approx(np.sqrt(0.2 / 3) / 2)
    assert found["error of the probes"]["value"] == pytest.approx(0.1)
    assert {figure["count"] for figure in found.values()} == {4}
    assert figures_of(way, [], []) == {}


@pytest.fixture(scope="module")
def utterances(speech_dir: Path) -> list[Utterance]:
    every = read_utterances(speech_dir / "LibriSpeech", "test-clean")
    chosen = []
    for speaker in ("1089", "1995"):
        theirs = [u for u in every if u.speaker == speaker and (u.seconds or 0) >= 4]
        chosen += sorted(theirs, key=lambda u: (u.seconds, u.id))[:3]
    return chosen


Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(utterances: list[Utterance], tiny_voice: Path) -> Ask:
    def asked(out: Path, **more: Any) -> list[dict[str, Any]]:
        told: dict[str, Any] = {
            "protocols": ["likelihood"], "corpus": {"corpus": "LibriSpeech"}, "out": out,
            "voice": str(tiny_voice), "scorers": "hubert", "limit": 2,
        }  # fmt: skip
        return run(utterances, **{**told, **more})

    return asked


@pytest.fixture(scope="module")
def done(ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("likelihood") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "STEPS", 1)
        ask(out)
    return out


def test_the_result_says_all(done: Path) -> None:
    results = read_json(done / "results.json")
    assert [r["system"] for r in results["rows"]] == [f"tiny, {way}" for way in WAYS]
    assert set(results["scorers"]) == {"likelihood"}
    for row in results["rows"]:
        assert (row["trials"], row["failed"]) == (2, 0)
        assert 0 <= row["figures"]["pairs in order"]["value"] <= 1
    told = results["trials"][0]["scores"]["tiny-0"]["likelihood"]
    numbers = (way + more for way in WAYS for more in ("", ", error", ", in order"))
    assert set(told) == {"real", "frames", *numbers}
    assert 40 <= told["frames"] <= 100
    page = (done / "report.html").read_text("utf-8")
    for text in ((done / "results.md").read_text("utf-8"), page):
        assert "swapped words" in text
        assert "pairs in order" in text
    assert not (done / "audio").exists()


def test_two_results_are_compared_pair_by_pair(done: Path) -> None:
    results = read_json(done / "results.json")
    found = {row["metric"]: row for row in differences(results, results)}
    for row in results["rows"]:
        way = row["system"].removeprefix("tiny, ")
        for figure in ("pairs in order", "bits saved"):
            same = found.pop(f"{figure}, {way}")
            assert same["a"] == pytest.approx(row["figures"][figure]["value"])
            assert same["difference"] == same["low"] == same["high"] == 0
    assert not found


def test_it_goes_on_where_it_stopped(done: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "STEPS", 1)
    before = read_json(done / "results.json")
    first, second = sorted((done / "scores" / "likelihood" / "tiny-0").iterdir())
    kept = first.stat().st_mtime_ns
    second.unlink()
    [results] = ask(done)
    assert first.stat().st_mtime_ns == kept
    assert without_times(results) == without_times(before)


def test_scores_of_other_settings_are_not_mixed(done: Path, ask: Ask) -> None:
    path = done / "scores" / "likelihood" / "scorer.json"
    settings = read_json(path)
    write_json(path, {**settings, "steps": 99})
    with pytest.raises(UserError, match=r"another likelihood told \(other: steps\): remove"):
        ask(done)
    write_json(path, settings)


def test_what_is_refused(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="likelihood is measured of voices alone"):
        ask(tmp_path / "out", outputs=tmp_path)


def test_both_of_a_pair_have_the_same_frames_and_context(
    done: Path, utterances: list[Utterance], tiny_voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of the span is in the context."""
    voice, corpus = Voice.load(tiny_voice), Corpus({u.id: u for u in utterances})
    [trial, _] = trials_of(done)
    scored: list[tuple[Plan, torch.Tensor]] = []

    def score(_: Weigher, plan: Plan, mel: torch.Tensor) -> Scored:
        scored.append((plan, mel))
        return Scored(torch.zeros(2), 1, 1)

    monkeypatch.setattr(Weigher, "_score", score)
    Weigher(corpus, voice, voice.settings(), 0).weigh(trial)
    (real, mel), (swapped, same), (other, moved), (sound, replaced), (noise, noisy) = scored
    assert all(torch.equal(plan.mask, real.mask) for plan, _ in scored)
    for plan in (swapped, sound, noise):
        assert torch.equal(plan.context, real.context)
    assert not torch.equal(other.context, real.context)
    assert torch.equal(same, mel)
    assert torch.equal(moved[real.mask], mel[real.mask])
    assert not torch.equal(replaced[real.mask], mel[real.mask])
    assert noisy[real.mask].mean() > mel[real.mask].mean()
    assert swapped.phones != real.phones
    assert (noise.phones, noise.durations) == (real.phones, real.durations)
    assert all(bool((plan.context[plan.mask] == 0).all()) for plan, _ in scored)


def test_a_trial_that_fails_stops_no_other(ask: Ask, tmp_path: Path) -> None:
    def weigh(_: Weigher, trial: Trial) -> Any:
        if trial.speaker == "1089":
            raise UserError("no fit")
        return {k: 0.5 for way in WAYS for k in (way, f"{way}, error")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Weigher, "weigh", weigh)
        [results] = ask(tmp_path / "out")
    row = results["rows"][0]
    assert (row["trials"], row["failed"]) == (1, 1)
    assert row["figures"]["pairs in order"]["value"] == 1
    assert results["trials"][0]["failed"] == {"tiny-0": "no fit"}


def test_a_trial_says_its_utterances_text_unless_told_otherwise() -> None:
    utterance = spoken()[0]
    assert trial_for("speed", utterance).text == utterance.text
    assert trial_for("likelihood", utterance, text="OTHER").text == "OTHER"
