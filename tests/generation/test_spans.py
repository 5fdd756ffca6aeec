"""Spans as they are typed, in order, within the audio, apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.config import UserError
from voiceflow.generation.spans import Span, Spanlike, as_span, check_spans, parse_span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("1.20:1.85", Span(1.2, 1.85, None)),
        ("0:3", Span(0.0, 3.0, None)),
        (".5:2.", Span(0.5, 2.0, None)),
        (" 1 : 2 ", Span(1.0, 2.0, None)),
        ("1:2=NEW WORDS", Span(1.0, 2.0, "NEW WORDS")),
        ("1:2 = one, two = three ", Span(1.0, 2.0, "one, two = three")),
        ("1:2=two\nlines", Span(1.0, 2.0, "two\nlines")),
        ("1:2=", Span(1.0, 2.0, "")),
    ],
)
def test_a_span_is_read(text: str, span: Span) -> None:
    assert parse_span(text) == span


@given(st.decimals(0, 9999, places=4), st.decimals(0, 9999, places=4), st.text("AB '=:1"))
def test_whatever_is_written_is_read(start: float, end: float, words: str) -> None:
    assert parse_span(f"{start}:{end}") == (float(start), float(end), None)
    assert parse_span(f"{start}:{end}={words}") == (float(start), float(end), words.strip())


@pytest.mark.parametrize(
    "text", ["", "1", "1-2", "1:", ":2", "-1:2", "1:2:3", "1,5:2", "1e1:2", "nan:1", "a:b", "1:2 W"]
)
def test_what_is_no_span_is_shown_with_the_form(text: str) -> None:
    with pytest.raises(UserError, match="START:END in seconds") as raised:
        parse_span(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    "told", [(1, 2.5, "A B"), Span(1.0, 2.5, "A B"), "1:2.5=A B"], ids=lambda v: type(v).__name__
)
def test_a_span_may_be_told_in_three_ways(told: Spanlike) -> None:
    assert as_span(told) == Span(1.0, 2.5, "A B")


@pytest.mark.parametrize("told", [(1.0,), (1, 2, "A", "B"), (1, 2, 3), 1.5, ("one", "two"), None])
def test_what_is_told_and_is_no_span_is_shown(told: Any) -> None:
    with pytest.raises(UserError, match=r"a span is \(start, end\) in seconds"):
        as_span(told)


@given(st.permutations([Span(0, 1, "A"), Span(1, 1.5), Span(2, 2.5, "B"), Span(9.5, 10)]))
def test_spans_come_back_in_order_of_time_with_their_words(spans: list[Span]) -> None:
    ordered = [Span(0, 1, "A"), Span(1, 1.5), Span(2, 2.5, "B"), Span(9.5, 10)]
    assert check_spans(spans, 10.0) == ordered


@pytest.mark.parametrize(
    ("spans", "why"),
    [
        ([], "no span to fill"),
        ([Span(2, 1)], "span 2:1 is reversed or empty"),
        ([Span(1, 1)], "span 1:1 is reversed or empty"),
        ([Span(4, 4.5), Span(5, 5.001)], "span 5:5.001 is outside the audio, which lasts 5.00 s"),
        ([Span(-0.1, 1)], "span -0.1:1 is outside"),
        ([Span(6, 7)], "span 6:7 is outside"),
        ([Span(1, 2, "B"), Span(0, 1.5, "A")], "spans 0:1.5 and 1:2 overlap"),
        ([Span(0, 4), Span(1, 2)], "spans 0:4 and 1:2 overlap"),
        ([Span(1, 2), Span(3, 4), Span(1, 2)], "spans 1:2 and 1:2 overlap"),
    ],
)
def test_spans_that_cannot_be_filled(spans: list[Span], why: str) -> None:
    with pytest.raises(UserError, match=why):
        check_spans(spans, 5.0)


def test_a_span_may_end_with_the_audio_as_it_is_written_in_seconds() -> None:
    seconds = 80001 / 16000
    written = round(seconds, 6)
    assert written > seconds
    assert check_spans([Span(4, written)], seconds) == [Span(4, written)]
    with pytest.raises(UserError, match="outside"):
        check_spans([Span(4, 5.0001)], seconds)


def test_the_same_span_twice_overlaps_whatever_its_words() -> None:
    with pytest.raises(UserError, match="overlap"):
        check_spans([Span(1, 2, "A"), Span(1, 2)], 5)
