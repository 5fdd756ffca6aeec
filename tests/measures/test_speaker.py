"""Whose voice it is: what is compared with what, and that the network tells speakers apart."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.measures.speaker import WINDOW_SECONDS, SpeakerLikeness, speaker_likeness

WINDOW = round(WINDOW_SECONDS * SAMPLE_RATE)


class Remembering(SpeakerLikeness):
    """Keeps what would be compared, and needs no library."""

    compared: tuple[np.ndarray, np.ndarray]

    def between(self, a: np.ndarray, b: np.ndarray) -> float:
        self.compared = (a, b)
        return 0.5


@given(st.integers(WINDOW + 2, 6 * SAMPLE_RATE), st.floats(0, 1), st.floats(0.02, 1.5))
def test_the_window_around_the_span_is_left_out_of_the_rest(
    n: int, place: float, seconds: float
) -> None:
    start = place * max(n / SAMPLE_RATE - seconds, 0)
    end = min(start + seconds, n / SAMPLE_RATE)
    likeness = object.__new__(Remembering)
    assert likeness.of_span(-np.arange(n), np.arange(n), start, end) == 0.5
    window, rest = likeness.compared
    assert len(window) == WINDOW
    first, last = -window[0], -window[-1]
    np.testing.assert_array_equal(window, -np.arange(first, last + 1))
    np.testing.assert_array_equal(rest, np.delete(np.arange(n), -window))
    assert first <= round(start * SAMPLE_RATE) + 1
    assert round(end * SAMPLE_RATE) - 1 <= last + 1
    before, after = round(start * SAMPLE_RATE) - first, last + 1 - round(end * SAMPLE_RATE)
    assert abs(before - after) <= 2 or first == 0 or last == n - 1


def test_a_wave_of_another_length_is_compared_as_far_as_both_go() -> None:
    likeness = object.__new__(Remembering)
    original = np.arange(3 * WINDOW)
    likeness.of_span(np.arange(2 * WINDOW), original, 2.9, 3.1)
    window, rest = likeness.compared
    np.testing.assert_array_equal(window, np.arange(WINDOW, 2 * WINDOW))
    np.testing.assert_array_equal(rest, np.delete(original, window))


def test_silence_has_no_voice() -> None:
    likeness = object.__new__(SpeakerLikeness)
    with pytest.raises(ValueError, match="no voice"):
        likeness.between(np.zeros(WINDOW, np.float32), np.ones(WINDOW, np.float32))


def test_without_the_library_there_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    assert speaker_likeness() is None
    with pytest.raises(UserError, match=r"pip install -e '\.\[eval\]'"):
        SpeakerLikeness()


def test_speakers_are_told_apart(test_clean: list[Utterance]) -> None:
    pytest.importorskip("resemblyzer")
    likeness = SpeakerLikeness()
    ids = ("1089-134686-0032", "1089-134686-0002", "4446-2273-0009")
    by_id = {u.id: load_mono(u.audio, SAMPLE_RATE) for u in test_clean if u.id in ids}
    one, same, other = (by_id[id] for id in ids)
    assert likeness.between(one, one) == pytest.approx(1, abs=1e-5)
    alike = likeness.between(one, same)
    assert likeness.between(same, one) == pytest.approx(alike, abs=1e-6)
    assert alike > likeness.between(one, other) + 0.1
    assert likeness.between(0.5 * one, same) == pytest.approx(alike, abs=0.02)
    assert likeness.of_span(one, one, 1.5, 2.0) > likeness.of_span(other, one, 1.5, 2.0)


def test_where_nothing_is_left_of_the_recording_there_is_no_likeness() -> None:
    likeness = object.__new__(Remembering)
    sound = np.ones(WINDOW)
    assert likeness.of_span(sound, sound, 0.5, 0.9) is None
    assert likeness.of_span(np.zeros(3 * WINDOW), np.ones(3 * WINDOW), 2.0, 2.5) is None
