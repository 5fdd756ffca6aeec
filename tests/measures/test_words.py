"""What a recogniser hears, and how it is counted."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.types import SAMPLE_RATE, Phone
from voiceflow.audio.io import load_mono
from voiceflow.data.manifest import Utterance
from voiceflow.measures.words import (
    TOLERANCE_SECONDS,
    PhoneRecogniser,
    WordRecogniser,
    longest_common,
    phones_within,
    word_errors,
)
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import ARPABET

letters = st.text("abc", max_size=8)
Sound = tuple[np.ndarray, Utterance]


def stands_in(part: Sequence[str], whole: str) -> bool:
    rest = iter(whole)
    return all(letter in rest for letter in part)


@given(letters, letters)
def test_the_longest_common_subsequence_is_that_of_brute_force(a: str, b: str) -> None:
    longest = max(
        n for n in range(len(a) + 1) for part in combinations(a, n) if stands_in(part, b)
    )
    assert longest_common(a, b) == longest_common(b, a) == longest


def test_common_phones_by_hand() -> None:
    assert longest_common("HH AH L OW".split(), "AH OW L OW".split()) == 3
    assert longest_common([], ["AH"]) == 0


@pytest.mark.parametrize(
    ("said", "heard", "errors", "words"),
    [
        ("THE CAT SAT DOWN", "the cat sat down", 0, 4),
        ("The cat, sat -- down!", "the cat sat down", 0, 4),
        ("THE CAT SAT DOWN", "the hat sat down", 1, 4),
        ("THE CAT SAT DOWN", "the sat down", 1, 4),
        ("THE CAT SAT DOWN", "and the cat sat right down", 2, 4),
        ("THE CAT SAT DOWN", "", 4, 4),
        ("A COLOUR", "a color", 0, 2),
        ("IT'S TWENTY ONE", "it is 21", 0, 3),
        ("DOWN", "cat sat down the", 3, 1),
        ("", "the cat", 2, 0),
        ("", "", 0, 0),
    ],
)
def test_word_errors(said: str, heard: str, errors: int, words: int) -> None:
    assert word_errors(said, heard) == (errors, words)


def test_phones_count_where_their_middle_lies_within_the_tolerance() -> None:
    step, start, end = 0.002, 1.0, 2.0
    low, high = start - TOLERANCE_SECONDS, end + TOLERANCE_SECONDS
    centres = {"B": low - step, "D": low + step, "F": 1.5, "G": high - step, "K": high + step}
    phones = [Phone(s, c - 0.4, c + 0.4) for s, c in centres.items()]
    assert phones_within(phones, start, end) == ["D", "F", "G"]
    assert phones_within([], start, end) == []


@pytest.fixture(scope="module")
def sounds(short_ones: list[Utterance]) -> list[Sound]:
    return [(load_mono(u.audio, SAMPLE_RATE), u) for u in short_ones]


def test_most_phones_are_heard_and_where_they_are_said(sounds: list[Sound]) -> None:
    recogniser, aligner = PhoneRecogniser(), PocketsphinxAligner()
    for wave, utterance in sounds:
        aligned = aligner.align(wave, words_of(utterance.text), utterance.id)
        heard = recogniser.recognise(wave)
        assert {phone.symbol for phone in heard} <= set(ARPABET)
        assert all(0 <= p.start < p.end <= len(wave) / SAMPLE_RATE for p in heard)
        assert all(p.end <= q.start + 1e-9 for p, q in pairwise(heard))
        said = [phone.symbol for word in aligned.spoken() for phone in word.phones]
        assert longest_common(said, [phone.symbol for phone in heard]) > 0.5 * len(said)
        in_place = sum(
            phone.symbol in phones_within(heard, phone.start, phone.end)
            for word in aligned.spoken()
            for phone in word.phones
        )
        assert in_place > 0.5 * len(said)


def test_most_words_are_heard(sounds: list[Sound]) -> None:
    recogniser = WordRecogniser()
    for wave, utterance in sounds:
        errors, words = word_errors(utterance.text, recogniser.recognise(wave))
        assert errors < 0.3 * words


@pytest.mark.parametrize("kind", [PhoneRecogniser, WordRecogniser])
def test_what_was_heard_before_changes_nothing(
    kind: type[PhoneRecogniser] | type[WordRecogniser], sounds: list[Sound]
) -> None:
    (wave, _), (other, _) = sounds
    wave = wave[: 2 * SAMPLE_RATE]
    recogniser = kind()
    first = recogniser.recognise(wave)
    noise = 0.3 * np.random.default_rng(0).normal(size=SAMPLE_RATE).astype(np.float32)
    for before in (noise, other[SAMPLE_RATE : 2 * SAMPLE_RATE]):
        assert recogniser.recognise(before) != first
        assert recogniser.recognise(wave) == first
