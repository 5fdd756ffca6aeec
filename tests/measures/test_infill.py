"""Gaps in real speech: how they are chosen, that they are not heard, and what their figures say."""

import json
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voiceflow import __version__
from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, Phone, Word
from voiceflow.audio.io import Recording, read, write
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.measures import infill
from voiceflow.measures.infill import (
    INTERPOLATION,
    LONGEST_SECONDS,
    MEAN_FRAME,
    ONE_SAMPLE,
    ORIGINAL,
    PHONE_MEANS,
    RESYNTHESIS,
    SHORTEST_SECONDS,
    Figures,
    InfillTrial,
    Row,
    choose_gap,
    gain,
    measure_infill,
    rows_of,
    silenced,
)
from voiceflow.measures.spectral import TrainingMeans
from voiceflow.measures.subject import fingerprint
from voiceflow.measures.words import PhoneRecogniser
from voiceflow.text.phones import SILENCE, with_ghost_silences
from voiceflow.voice import Voice


def spoken(*lengths: float, pauses: tuple[float, ...] = ()) -> Alignment:
    """W0, W1, ... of these lengths, each of two phones, with pauses (or none) before them."""
    words: list[Word] = []
    clock = 0.0
    for i, seconds in enumerate(lengths):
        pause = pauses[i] if i < len(pauses) else 0.0
        if pause:
            words.append(Word.silence(clock, clock := clock + pause))
        inner = clock + seconds / 2
        phones = (Phone(f"A{i}", clock, inner), Phone(f"B{i}", inner, clock + seconds))
        words.append(Word(f"W{i}", clock, clock := clock + seconds, phones))
    words.append(Word.silence(clock, clock + 0.3))
    return Alignment(tuple(words), clock + 0.3)


lengths = st.lists(st.floats(0.1, 0.7), max_size=9)


@given(lengths, st.lists(st.sampled_from([0.0, 0.2]), min_size=9, max_size=9), st.integers(0, 99))
def test_a_gap_is_a_run_of_inner_words_of_the_right_length(
    seconds: list[float], pauses: list[float], seed: int
) -> None:
    alignment = spoken(*seconds, pauses=tuple(pauses))
    words = alignment.spoken()
    every = [words[i : j + 1] for i in range(len(words)) for j in range(i, len(words))]
    runs = [
        run
        for run in every
        if SHORTEST_SECONDS <= run[-1].end - run[0].start <= LONGEST_SECONDS
        and words[0] not in run
        and words[-1] not in run
    ]
    gap = choose_gap(alignment, seed, "an id")
    if not runs:
        assert gap is None
        return
    assert gap is not None
    run = next(run for run in runs if (run[0].start, run[-1].end) == (gap.start, gap.end))
    assert gap.words == tuple(word.text for word in run)
    assert gap.phones == tuple(p.symbol for word in run for p in word.phones)
    assert choose_gap(alignment, seed, "an id") == gap


def test_every_run_comes_up_by_seed_and_by_id() -> None:
    alignment = spoken(0.3, 0.3, 0.3, 0.3, 0.3, 0.3)
    possible = {("W1", "W2"), ("W2", "W3"), ("W3", "W4"), ("W1", "W2", "W3"), ("W2", "W3", "W4")}
    by_seed = [choose_gap(alignment, seed, "x") for seed in range(100)]
    by_id = [choose_gap(alignment, 0, f"x{i}") for i in range(100)]
    for chosen in (by_seed, by_id):
        assert {gap.words for gap in chosen if gap} == possible


@pytest.mark.parametrize(
    "alignment",
    [spoken(), spoken(0.5), spoken(0.5, 0.5), spoken(0.5, 0.39, 0.5), spoken(0.5, 1.01, 0.5)],
)
def test_where_no_run_fits_there_is_no_gap(alignment: Alignment) -> None:
    assert choose_gap(alignment, 0, "x") is None
    assert choose_gap(spoken(0.5, 0.41, 0.5), 0, "x") is not None


def test_silenced_is_nothing_in_the_span_and_everything_else() -> None:
    samples = np.random.default_rng(0).integers(1, 99, size=(1000, 2), dtype=np.int16)
    before = samples.copy()
    made = silenced(Recording(samples, 1000, "PCM_16", Path("x.wav")), 0.3004, 0.6996)
    np.testing.assert_array_equal(samples, before)
    assert not made.samples[300:700].any()
    np.testing.assert_array_equal(made.samples[:300], before[:300])
    np.testing.assert_array_equal(made.samples[700:], before[700:])
    assert (made.sample_rate, made.subtype, made.path) == (1000, "PCM_16", Path("x.wav"))


def figures(
    mel_error: float | None, wave_error: float = 0.5, variance: float = 2.0,
    likeness: float | None = 0.5,
) -> Figures:  # fmt: skip
    mel_variance = None if mel_error is None else 2 * variance
    return Figures(mel_error, mel_variance, wave_error, variance, 0.25, likeness)


def test_rows_are_means_and_variances_stand_against_the_originals() -> None:
    trials = [
        {ORIGINAL: figures(None, 0.0, 4.0), "a": figures(1.0, 0.2, 1.0, 0.3)},
        {ORIGINAL: figures(None, 0.0, 6.0), "a": figures(2.0, 0.6, 2.0, 0.5)},
    ]
    original, a = rows_of(trials)
    assert original == Row(ORIGINAL, None, 0.0, None, 1.0, 0.25, 0.5)
    assert a.way == "a"
    assert (a.mel_error, a.wave_error) == pytest.approx((1.5, 0.4))
    assert (a.mel_variance_ratio, a.wave_variance_ratio) == pytest.approx((3 / 5, 1.5 / 5))
    assert (a.phones_found, a.likeness) == pytest.approx((0.25, 0.4))


def test_a_figure_that_one_trial_lacks_is_lacking() -> None:
    trials = [{ORIGINAL: figures(1.0, likeness=None)}, {ORIGINAL: figures(1.0, likeness=0.4)}]
    (row,) = rows_of(trials)
    assert row.likeness is None
    assert str(row).split() == ["original", "1.000", "0.500", "2.000", "1.000", "0.250", "-"]


def test_gain_is_the_share_of_interpolations_error_that_is_saved() -> None:
    trials = [
        {"a": figures(0.6), INTERPOLATION: figures(1.0)},
        {"a": figures(1.2), INTERPOLATION: figures(2.0)},
        {"a": figures(0.9), INTERPOLATION: figures(1.0)},
    ]
    assert gain(trials[:2], ["x", "y"], "a") == pytest.approx((0.4, 0.4, 0.4))
    assert gain(trials, ["x"] * 3, "a") == pytest.approx((1 - 2.7 / 4,) * 3)
    value, low, high = gain(trials, ["x", "y", "z"], "a")
    assert value == pytest.approx(1 - 2.7 / 4)
    assert (low, high) == pytest.approx((0.1, 0.4))
    assert gain(trials, ["x"] * 3, INTERPOLATION) == (0.0, 0.0, 0.0)


@dataclass
class Run:
    """One whole run with an untrained voice: what it returned, printed and wrote."""

    rows: dict[str, Row]
    printed: str
    record: dict[str, Any]
    voice: Voice
    means: TrainingMeans
    utterances: list[Utterance]


@pytest.fixture(scope="module")
def run(
    tiny_voice: Path, short_ones: list[Utterance], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Two gaps of two speakers, and one recording that is not there."""
    voice = Voice.load(tiny_voice)
    flat = torch.full((voice.features.n_mels,), -6.0)
    means = TrainingMeans({}, flat, "by hand")
    lost = Utterance("lost", "lost.flac", "NOBODY HEARS THIS", "z")
    out = tmp_path_factory.mktemp("infill") / "figures.json"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.setattr(infill, "speaker_likeness", lambda: None)
        rows = measure_infill(voice, [*short_ones, lost], means=means, samples=2, seed=3, out=out)
    record = json.loads(out.read_text())
    return Run({r.way: r for r in rows}, printed.getvalue(), record, voice, means, short_ones)


def test_every_way_has_its_row_in_order(run: Run) -> None:
    assert list(run.rows) == [
        ORIGINAL, RESYNTHESIS, ONE_SAMPLE, "mean of 2", INTERPOLATION, PHONE_MEANS, MEAN_FRAME
    ]  # fmt: skip
    assert all(str(row) in run.printed for row in run.rows.values())
    assert "2 gaps of 2 speakers" in run.printed
    assert "1 left out" in run.printed
    assert "pip install -e '.[eval]'" in run.printed  # for the likeness, which is not here


def test_what_is_known_of_an_untrained_voice_and_of_simple_fills(run: Run) -> None:
    original, resynthesis = run.rows[ORIGINAL], run.rows[RESYNTHESIS]
    assert (original.wave_error, original.wave_variance_ratio) == (0.0, 1.0)
    assert (original.mel_error, original.mel_variance_ratio) == (None, None)
    assert (resynthesis.mel_error, resynthesis.mel_variance_ratio) == (0.0, 1.0)
    others = [run.rows[way] for way in run.rows if way not in (ORIGINAL, RESYNTHESIS)]
    assert 0 < resynthesis.wave_error < 0.3 < min(row.wave_error for row in others)
    assert original.phones_found > 0.4 > max(row.phones_found for row in others)
    # An untrained network's velocity is zero: its samples are the noise itself, of the deviation
    # of the features; the mean of two has half the variance.
    one, two = (run.rows[way].mel_variance_ratio for way in (ONE_SAMPLE, "mean of 2"))
    assert one is not None and two is not None
    real = np.mean([g["figures"][ORIGINAL]["wave_variance"] for g in run.record["gaps"]])
    assert one * real == pytest.approx(run.voice.features.std**2, rel=0.05)
    assert two == pytest.approx(one / 2, rel=0.05)
    # No phone has a mean of its own here, so each has the mean frame, which is flat.
    assert replace(run.rows[PHONE_MEANS], way=MEAN_FRAME) == run.rows[MEAN_FRAME]
    assert run.rows[MEAN_FRAME].mel_variance_ratio == 0.0
    assert all(row.likeness is None for row in run.rows.values())


def test_the_record_holds_how_it_was_made_and_every_figure(run: Run) -> None:
    record, voice = run.record, run.voice
    assert record["voiceflow"] == __version__
    assert record["voice"] == str(voice.folder.path)
    assert record["voice_fingerprint"] == fingerprint(voice.folder.path)
    assert record["features_fingerprint"] == voice.features.fingerprint()
    assert record["settings"] == asdict(voice.folder.config.sample)
    assert record["settings"]["steps"] == 2
    assert record["seed"] == 3
    assert record["libraries"]["torch"] == torch.__version__
    assert record["training_means"] == "by hand"
    assert record["rows"] == [asdict(row) for row in run.rows.values()]
    assert [gap["id"] for gap in record["gaps"]] == [u.id for u in run.utterances]
    for gap, utterance in zip(record["gaps"], run.utterances, strict=True):
        assert set(gap["figures"]) == set(run.rows)
        assert SHORTEST_SECONDS <= gap["end"] - gap["start"] <= LONGEST_SECONDS
        assert " ".join(gap["words"]) in utterance.text
    (left_out,) = record["left_out"]
    assert left_out.startswith("lost: lost.flac does not exist")


def test_the_gain_is_that_of_the_rows(run: Run) -> None:
    for way in (ONE_SAMPLE, "mean of 2"):
        ours, interpolation = run.rows[way].mel_error, run.rows[INTERPOLATION].mel_error
        assert ours is not None and interpolation is not None
        found = run.record["error_below_interpolation"][way]
        assert found["share"] == pytest.approx(1 - ours / interpolation)
        assert found["low"] <= found["share"] <= found["high"]
        assert f"{way}: log-mel error {100 * found['share']:.1f} % below" in run.printed


class Listener:
    """In place of the network of speakers: remembers what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[np.ndarray, np.ndarray, float, float]] = []

    def of_span(self, wave: np.ndarray, original: np.ndarray, start: float, end: float) -> float:
        self.asked.append((wave, original, start, end))
        return 0.25


@pytest.fixture(scope="module")
def two_trials(
    tiny_voice: Path, short_ones: list[Utterance], tmp_path_factory: pytest.TempPathFactory
) -> tuple[InfillTrial, InfillTrial]:
    """Of a recording, and of the same one with noise where the gap is."""
    voice, utterance = Voice.load(tiny_voice), short_ones[0]
    gap = choose_gap(voice.align(utterance.audio, utterance.text), 0, utterance.id)
    assert gap is not None
    original = read(utterance.audio)
    first, last = round(gap.start * SAMPLE_RATE), round(gap.end * SAMPLE_RATE)
    samples = original.samples.copy()
    samples[first:last, 0] = 3000 * np.random.default_rng(0).normal(size=last - first)
    path = tmp_path_factory.mktemp("noise") / "noise.wav"
    write(path, replace(original, samples=samples))
    settings = voice.settings()
    return (
        InfillTrial(voice, utterance, gap, settings, 0),
        InfillTrial(voice, replace(utterance, audio=str(path)), gap, settings, 0),
    )


def test_nothing_of_the_gap_is_heard(two_trials: tuple[InfillTrial, InfillTrial]) -> None:
    a, b = two_trials
    assert not torch.equal(a.mel[a.first : a.last], b.mel[a.first : a.last])
    assert (a.plan.phones, a.plan.durations, a.plan.gaps) == (
        b.plan.phones, b.plan.durations, b.plan.gaps
    )  # fmt: skip
    assert torch.equal(a.plan.context, b.plan.context)
    assert torch.equal(a.plan.mask, b.plan.mask)
    fills, others = a.fills(2, None), b.fills(2, None)
    assert list(fills) == [RESYNTHESIS, ONE_SAMPLE, "mean of 2", INTERPOLATION]
    for way, fill in fills.items():
        assert torch.equal(fill, others[way]) == (way != RESYNTHESIS)


def test_fills_have_the_gaps_frames_and_the_gap_its_words(
    two_trials: tuple[InfillTrial, InfillTrial],
) -> None:
    trial, _ = two_trials
    n = trial.last - trial.first
    assert n == pytest.approx(100 * (trial.gap.end - trial.gap.start), abs=1)
    assert int(trial.plan.mask.sum()) == n
    missing = [slot.phone for slot in trial.layout.slots if slot.gap is not None]
    said = [english_lexicon().pronunciations(word)[0] for word in trial.gap.words]
    assert "".join(missing).strip(SILENCE) == "".join(with_ghost_silences(said)[1:-1])
    fills = trial.fills(3, TrainingMeans({}, torch.zeros(80), "by hand"))
    assert fills[ONE_SAMPLE].shape == (3, n, 80)
    assert {fill.shape for way, fill in fills.items() if way != ONE_SAMPLE} == {(n, 80)}
    assert torch.equal(fills["mean of 3"], fills[ONE_SAMPLE].mean(0))
    assert torch.equal(fills[ONE_SAMPLE], trial.samples(3)[:, trial.first : trial.last])
    line = torch.cat([
        trial.layout.mel[trial.first - 1][None], fills[INTERPOLATION],
        trial.layout.mel[trial.last][None],
    ])  # fmt: skip
    steps = line.diff(dim=0)
    torch.testing.assert_close(steps, steps.mean(0).expand_as(steps), rtol=0, atol=1e-4)


def test_likeness_is_asked_of_the_gap_against_the_original(
    two_trials: tuple[InfillTrial, InfillTrial],
) -> None:
    trial, _ = two_trials
    listener: Any = Listener()
    fill = trial.fills(1, None)[INTERPOLATION]
    found = trial.figures(fill, PhoneRecogniser(), listener)
    assert found.likeness == 0.25
    ((wave, original, start, end),) = listener.asked
    assert (start, end) == (trial.gap.start, trial.gap.end)
    np.testing.assert_array_equal(original, trial.original.mono())
    margin = round(0.01 * SAMPLE_RATE) + 1
    first, last = round(start * SAMPLE_RATE) - margin, round(end * SAMPLE_RATE) + margin
    np.testing.assert_array_equal(wave[:first], original[:first])
    np.testing.assert_array_equal(wave[last:], original[last:])
    assert np.any(wave[first + 400 : last - 400] != original[first + 400 : last - 400])


def test_no_gap_at_all(tiny_voice: Path) -> None:
    voice = Voice.load(tiny_voice)
    with pytest.raises(UserError, match=r"no gap could be measured \(no utterances\)"):
        measure_infill(voice, [])
    lost = [Utterance(f"u{i}", f"{i}.flac", "A", "z") for i in range(2)]
    with pytest.raises(UserError, match=r"\(u0: 0.flac does not exist.*; u1: 1.flac does"):
        measure_infill(voice, lost)
