"""Recordings of any length, aligned window by window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from voiceflow.alignment.ctc import CtcAligner
from voiceflow.alignment.long import LONGEST_SECONDS, LongAligner
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError
from voiceflow.audio.io import load_mono
from voiceflow.text.normalise import words_of

COUNT = 22  # utterances, two minutes


@pytest.fixture(scope="module")
def recogniser() -> CtcAligner:
    return CtcAligner.of_voice("mini")


@pytest.fixture(scope="module")
def said(speech_dir: Path) -> tuple[list[np.ndarray], list[list[str]]]:
    """Utterances of test-clean, of several readers, and their words."""
    folder = speech_dir / "LibriSpeech" / "test-clean"
    texts = dict(
        line.split(" ", 1)
        for file in sorted(folder.glob("*/*/*.trans.txt"))
        for line in file.read_text("utf-8").splitlines()
    )
    files = sorted(folder.glob("*/*/*.flac"))[:: 280 // COUNT][:COUNT]
    return ([load_mono(f, SAMPLE_RATE) for f in files], [words_of(texts[f.stem]) for f in files])


class Short:
    """An aligner that must not be asked for what is long."""

    name = "short"

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        raise AlignmentError(f"asked for {len(words)} words")


def flat(words: Sequence[Sequence[str]]) -> list[str]:
    return [word for some in words for word in some]


def test_a_long_recording_is_found_as_its_utterances_are(
    recogniser: CtcAligner, said: tuple[list[np.ndarray], list[list[str]]]
) -> None:
    waves, words = said
    wave = np.concatenate(waves)
    assert len(wave) > 1.5 * LONGEST_SECONDS * SAMPLE_RATE
    found = LongAligner(Short(), lambda: recogniser).align(wave, flat(words), "long")
    assert [word.text for word in found.spoken()] == flat(words)
    assert found.seconds == len(wave) / SAMPLE_RATE
    alone, start = [], 0.0
    for one, transcript in zip(waves, words, strict=True):
        alone += [start + w.start for w in recogniser.align(one, transcript).spoken()]
        start += len(one) / SAMPLE_RATE
    apart = np.abs(np.array([w.start for w in found.spoken()]) - alone)
    assert np.median(apart) < 0.011  # half an output of the recogniser
    assert np.quantile(apart, 0.95) < 0.06


def test_a_short_recording_is_the_other_aligners() -> None:
    def no_recogniser() -> CtcAligner:
        raise AssertionError("not to be asked for")

    wave = np.zeros(round(LONGEST_SECONDS * SAMPLE_RATE), np.float32)
    with pytest.raises(AlignmentError, match="asked for 2 words"):
        LongAligner(Short(), no_recogniser).align(wave, ["A", "B"], "short")


def test_what_does_not_fit_is_named_with_its_time(
    recogniser: CtcAligner, said: tuple[list[np.ndarray], list[list[str]]]
) -> None:
    waves, words = said
    wave, aligner = np.concatenate(waves), LongAligner(Short(), lambda: recogniser)
    backwards = [*words[:12], *reversed(words[12:])]
    with pytest.raises(AlignmentError, match=r"long: from 0:0\d:\d\d on the text .* does not seem"):
        aligner.align(wave, flat(backwards), "long")
    with pytest.raises(AlignmentError, match=r"long: (the text ends at|from 0:0)"):
        aligner.align(wave, flat(words[:6]), "long")
    with pytest.raises(AlignmentError, match=r"long: from 0:00:00 on the text"):
        aligner.align(wave, flat(list(reversed(words))), "long")


def test_a_sound_without_pauses_or_words_ends(recogniser: CtcAligner) -> None:
    rng = np.random.default_rng(0)
    wave = (0.1 * rng.standard_normal(90 * SAMPLE_RATE)).astype(np.float32)
    with pytest.raises(AlignmentError):
        LongAligner(Short(), lambda: recogniser).align(wave, ["HELLO"] * 400, "noise")
