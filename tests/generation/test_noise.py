"""Noise that is found, and words that are aligned around it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_prep import librispeech
from voiceflow.alignment.ctc import CtcAligner
from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError, Phone, Word
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.generation.noise import AlignsAround, propose_spans
from voiceflow.text.normalise import words_of
from voiceflow.voice import Voice


class Doubts:
    """An aligner that doubts what it is told to."""

    def __init__(self, *spans: tuple[float, float], n_frames: int = 401) -> None:
        self.found = np.zeros(n_frames)
        for start, end in spans:
            self.found[round(start * 100) : round(end * 100)] = 10.0

    def doubt(self, wave: np.ndarray, alignment: Alignment) -> np.ndarray:
        return self.found


def said(*edges: float) -> Alignment:
    """One word of a phone between any two edges."""
    phones = tuple(Phone("AA", a, b) for a, b in pairwise(edges))
    return Alignment((Word("A", edges[0], edges[-1], phones),), edges[-1], None)


LOUD = np.random.default_rng(0).normal(0, 0.1, 4 * SAMPLE_RATE).astype(np.float32)
QUICK = said(*np.arange(0, 4.01, 0.2).tolist())


def test_doubtful_stretches_are_proposed_and_near_ones_joined() -> None:
    [(start, end)] = propose_spans(LOUD, QUICK, Doubts((1.0, 1.6), (1.9, 2.4)))  # type: ignore[arg-type]
    assert abs(start - 1.0) < 0.15
    assert abs(end - 2.4) < 0.15
    assert propose_spans(LOUD, QUICK, Doubts()) == []  # type: ignore[arg-type]


def test_what_is_soft_is_left_alone() -> None:
    soft = LOUD.copy()
    soft[SAMPLE_RATE : 2 * SAMPLE_RATE] *= 0.01
    assert propose_spans(soft, QUICK, Doubts((1.1, 1.9))) == []  # type: ignore[arg-type]


def test_a_phone_of_a_second_is_no_phone() -> None:
    long = said(0, 0.2, 0.4, 1.6, 1.8, 2.0, 2.2, 4.0 - 1.6, 2.6, 2.8, 3.0, 3.2, 3.4, 3.6, 3.8, 4.0)
    [(start, end)] = propose_spans(LOUD, long, Doubts())  # type: ignore[arg-type]
    assert abs(start - 0.4) < 0.15
    assert abs(end - 1.6) < 0.15


@pytest.fixture(scope="module")
def test_clean(speech_dir: Path) -> list[Utterance]:
    """The utterances of test-clean."""
    found = librispeech.read(speech_dir / "LibriSpeech", "test-clean")
    return [u for u in found if isinstance(u, Utterance)]


@pytest.fixture(scope="module")
def spoilt(test_clean: list[Utterance]) -> tuple[Utterance, np.ndarray, np.ndarray]:
    """An utterance, its sound, and the same with white noise at -10 dB from 2.0 to 3.5 s."""
    utterance = test_clean[0]
    wave = load_mono(utterance.audio, SAMPLE_RATE)
    noisy, part = wave.copy(), slice(2 * SAMPLE_RATE, int(3.5 * SAMPLE_RATE))
    level = np.sqrt(10 * np.mean(wave[part] ** 2))
    noisy[part] += np.random.default_rng(1).normal(0, level, 24000).astype(np.float32)
    return utterance, wave, noisy


def test_noise_in_speech_is_found(spoilt: tuple[Utterance, np.ndarray, np.ndarray]) -> None:
    utterance, wave, noisy = spoilt
    words, ctc = words_of(utterance.text), CtcAligner.of_voice("mini")
    sphinx = PocketsphinxAligner()
    found = propose_spans(noisy, sphinx.align(noisy, words, "noisy"), ctc)
    covered = np.zeros(len(noisy), bool)
    for start, end in found:
        covered[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = True
    assert covered[2 * SAMPLE_RATE : int(3.5 * SAMPLE_RATE)].mean() > 0.7
    assert covered.mean() < 0.5
    clean = propose_spans(wave, sphinx.align(wave, words, "clean"), ctc)
    assert sum(end - start for start, end in clean) < 0.1 * len(wave) / SAMPLE_RATE


def test_words_are_aligned_around_what_is_not_heard(
    spoilt: tuple[Utterance, np.ndarray, np.ndarray],
) -> None:
    """Those outside are where they are in the clean recording; a wrong text is refused."""
    utterance, wave, noisy = spoilt
    words, ctc = words_of(utterance.text), CtcAligner.of_voice("mini")
    clean = ctc.align(wave, words).spoken()
    around = AlignsAround(ctc, [(2.0, 3.5)])
    found = around.align(noisy, words, "noisy")
    assert found.score is None
    outside = [
        (a.start, b.start) for a, b in zip(found.spoken(), clean, strict=True)
        if b.start < 1.9 or b.start > 3.6
    ]  # fmt: skip
    assert len(outside) >= 5
    assert np.mean([abs(a - b) < 0.06 for a, b in outside]) > 0.8
    with pytest.raises(AlignmentError, match="does not seem to be what is said outside the spans"):
        around.align(noisy, ["SOMETHING", "ELSE", "ENTIRELY", "DIFFERENT"], "noisy")


def test_denoise_leaves_the_rest_and_refuses_clean_sound(
    test_clean: list[Utterance], tiny_voice_with_ears: Voice,
) -> None:
    utterance, voice = test_clean[0], tiny_voice_with_ears
    made = voice.denoise(utterance.audio, utterance.text, [(2.0, 2.4)], steps=1)
    before = voice._recording(utterance.audio)
    changed = np.flatnonzero((made.recording.samples != before.samples).any(axis=1)) / SAMPLE_RATE
    assert 1.5 < changed.min() < 2.1 < 2.3 < changed.max() < 2.9
    assert len(made.recording.samples) == len(before.samples)
    with pytest.raises(UserError, match="overlap"):
        voice.denoise(utterance.audio, utterance.text, [(1.0, 2.0), (1.5, 3.0)], steps=1)


@pytest.fixture(scope="module")
def tiny_voice_with_ears() -> Voice:
    """`mini`, since an untrained aligner hears nothing; one step is quick enough."""
    return Voice.load("mini")
