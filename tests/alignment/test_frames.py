"""Seconds to frames: for any alignment the durations sum to the number of frames."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.alignment.frames import FramedAlignment, FramedWord, to_frames
from voiceflow.alignment.types import Alignment, Phone, Word
from voiceflow.text.phones import (
    ARPABET,
    SILENCE,
    PhoneTable,
    positioned,
    with_ghost_silences,
)

lengths = st.one_of(st.just(0.0), st.floats(0.0, 0.5))


@st.composite
def alignments(draw: st.DrawFn) -> Alignment:
    """Words of one to four phones, pauses, some or none, between; any length, zero too."""
    words: list[Word] = []
    clock = 0.0
    for i in range(draw(st.integers(0, 6))):
        for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
            words.append(Word.silence(clock, clock := clock + draw(lengths)))
        phones = []
        start = clock
        for symbol in draw(st.lists(st.sampled_from(ARPABET), min_size=1, max_size=4)):
            phones.append(Phone(symbol, clock, clock := clock + draw(lengths)))
        words.append(Word(f"W{i}", start, clock, tuple(phones)))
    if not words or draw(st.booleans()):
        words.append(Word.silence(clock, clock := clock + draw(lengths)))
    return Alignment(tuple(words), clock)


@given(
    alignment=alignments(),
    n_frames=st.integers(0, 400),
    hop_seconds=st.floats(1e-4, 1.0),
)
def test_any_alignment(alignment: Alignment, n_frames: int, hop_seconds: float) -> None:
    framed = to_frames(alignment, n_frames, hop_seconds)
    assert sum(framed.durations) == n_frames
    assert all(duration >= 0 for duration in framed.durations)
    assert (
        len(framed.phones) == len(framed.durations) == len(PhoneTable.english().ids(framed.phones))
    )
    spoken = alignment.spoken()
    assert [word.text for word in framed.words] == [word.text for word in spoken]
    expected = 1
    for framed_word, word in zip(framed.words, spoken, strict=True):
        first, last = framed_word.first_phone, framed_word.first_phone + framed_word.n_phones
        assert first == expected
        assert list(framed.phones[first:last]) == positioned([p.symbol for p in word.phones])
        assert framed.phones[first - 1] == framed.phones[last] == SILENCE
        expected = last + 1
    assert expected == len(framed.phones)


def borders(framed: FramedAlignment) -> list[int]:
    """The frame before which each phone ends."""
    return list(accumulate(framed.durations))


@given(alignment=alignments(), hop_seconds=st.floats(0.001, 0.05))
def test_borders_stand_on_the_nearest_frame(alignment: Alignment, hop_seconds: float) -> None:
    n_frames = 1 + int(alignment.seconds / hop_seconds)
    framed = to_frames(alignment, n_frames, hop_seconds)
    told = []
    for word in alignment.spoken():
        told += [*(phone.start for phone in word.phones), word.end]
    found = borders(framed)
    assert found == sorted(found) and found[-1] == n_frames
    for border, seconds in zip(found[:-1], told, strict=True):
        assert abs(border - seconds / hop_seconds) <= 0.5 + 1e-6


@given(alignment=alignments(), n_frames=st.integers(0, 400), more=st.integers(0, 400))
def test_fewer_frames_cut_the_end_and_move_nothing(
    alignment: Alignment, n_frames: int, more: int
) -> None:
    short = borders(to_frames(alignment, n_frames, 0.01))
    long = borders(to_frames(alignment, n_frames + more, 0.01))
    assert short == [min(border, n_frames) for border in long]


@given(alignment=alignments(), n_frames=st.integers(0, 400))
def test_a_silence_stands_between_words_whatever_pauses_there_are(
    alignment: Alignment, n_frames: int
) -> None:
    framed = to_frames(alignment, n_frames, 0.01)
    spoken = [[phone.symbol for phone in word.phones] for word in alignment.spoken()]
    assert list(framed.phones) == with_ghost_silences(spoken)


jitters = st.floats(-4e-7, 4e-7)  # seconds; two of them are within an alignment's tolerance


@given(
    words=st.lists(st.tuples(st.integers(0, 5), jitters, jitters), min_size=1, max_size=8),
    n_frames=st.integers(0, 30),
)
def test_borders_that_overlap_a_little_never_go_back(
    words: list[tuple[int, float, float]], n_frames: int
) -> None:
    """Words that end half way between two frames, the next begun a little before or after."""
    made: list[Word] = []
    clock, start = 0, 0.0
    for half_frames, late, early in words:
        clock += half_frames
        end = clock * 0.005 + late
        made.append(Word("A", start, end, (Phone("AH", start, end),)))
        start = clock * 0.005 + early
    framed = to_frames(Alignment(tuple(made), made[-1].end), n_frames, 0.01)
    assert min(framed.durations) >= 0
    assert sum(framed.durations) == n_frames


def test_one_word_by_hand() -> None:
    phones = (Phone("AH", 0.104, 0.2), Phone("T", 0.2, 0.296))
    alignment = Alignment((Word.silence(0, 0.104), Word("AT", 0.104, 0.296, phones)), 0.296)
    framed = to_frames(alignment, 30, 0.01)
    assert framed.phones == ("SIL", "AH_B", "T_E", "SIL")
    assert framed.durations == (10, 10, 10, 0)
    assert framed.words == (FramedWord("AT", 1, 2),)


def test_borders_beyond_the_end_are_clipped() -> None:
    word = Word("A", 0.5, 2.0, (Phone("AH", 0.5, 2.0),))
    framed = to_frames(Alignment((Word.silence(0, 0.5), word), 2.0), 20, 0.1)
    assert framed.durations == (5, 15, 0)
    assert to_frames(Alignment((Word.silence(0, 0.5), word), 2.0), 3, 0.1).durations == (3, 0, 0)


def test_no_words_is_all_silence() -> None:
    assert to_frames(Alignment((), 0.0), 7, 0.01).durations == (7,)
    assert to_frames(Alignment((Word.silence(0, 1),), 1.0), 101, 0.01).phones == ("SIL",)


@pytest.mark.parametrize(("n_frames", "hop_seconds"), [(-1, 0.01), (1, 0.0), (1, float("nan"))])
def test_impossible_grids(n_frames: int, hop_seconds: float) -> None:
    with pytest.raises(ValueError, match="n_frames"):
        to_frames(Alignment((), 0.0), n_frames, hop_seconds)
