"""Border differences by hand."""

import pytest

from voiceflow.alignment.types import Alignment, Phone, Word
from voiceflow.measures.alignment import compare, summarise


def said(shift: float, first: str = "HH", text: str = "HE") -> Alignment:
    start, inner, end = 0.5 + shift, 0.7 + shift, 0.9 + shift
    word = Word(text, start, end, (Phone(first, start, inner), Phone("IY1", inner, end)))
    return Alignment((Word.silence(0, start), word, Word.silence(end, 2.0)), 2.0)


def test_differences_are_other_minus_reference() -> None:
    differences = compare(said(0), said(0.03))
    assert differences.words == pytest.approx((0.03, 0.03))
    assert differences.phones == pytest.approx((0.03,))


def test_phones_are_compared_only_where_the_word_is_said_alike() -> None:
    assert compare(said(0), said(0.01, first="W")).phones == ()


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="same words"):
        compare(said(0), said(0, text="SHE"))


def test_summary() -> None:
    summary = summarise([-0.01, 0.01, 0.02, 0.04, 0.1])
    assert summary.borders == 5
    assert summary.offset_seconds == summary.median_seconds == pytest.approx(0.02)
    assert (summary.within_20_ms, summary.within_50_ms) == (0.6, 0.8)
    with pytest.raises(ValueError, match="border"):
        summarise([])
