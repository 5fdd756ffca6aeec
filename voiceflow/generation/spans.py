"""What a person asks to be filled: stretches of a recording, in seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from voiceflow.config import UserError

_SPAN = re.compile(
    r"\s*(?P<start>\d+(?:\.\d*)?|\.\d+)\s*:\s*(?P<end>\d+(?:\.\d*)?|\.\d+)\s*"
    r"(?:=(?P<words>.*))?",
    re.DOTALL,
)


class Span(NamedTuple):
    """A stretch of the recording to be filled, in seconds.

    `words` are those to be heard in it, where the recording does not hold them (unheard); None
    means that the recording already says what the transcript says (heard).
    """

    start: float
    end: float
    words: str | None = None


def parse_span(text: str) -> Span:
    """Read `1.20:1.85` or `1.20:1.85=NEW WORDS`; raises UserError where it is neither."""
    found = _SPAN.fullmatch(text)
    if not found:
        raise UserError(
            "a span is START:END in seconds, as 1.20:1.85 or '1.20:1.85=NEW WORDS'; "
            f"found {text!r}"
        )
    words = found["words"]
    return Span(
        float(found["start"]), float(found["end"]), None if words is None else words.strip()
    )


# A str as `parse_span` reads it.
Spanlike = Span | tuple[float, float] | tuple[float, float, str] | str


def as_span(asked: Spanlike) -> Span:
    """A span, however it was told; raises UserError where it is none."""
    if isinstance(asked, str):
        return parse_span(asked)
    try:
        start, end, *words = asked
        span = Span(float(start), float(end), *words)
    except (TypeError, ValueError) as error:
        raise _no_span(asked) from error
    if not isinstance(span.words, str | None):
        raise _no_span(asked)
    return span


def without_words(spans: Sequence[Span]) -> Sequence[Span]:
    """The spans; raises UserError where one has words, of a task whose text holds them."""
    if any(span.words is not None for span in spans):
        raise UserError("the spans of denoise are START:END alone: the text holds their words")
    return spans


def _no_span(asked: object) -> UserError:
    return UserError(
        "a span is (start, end) in seconds, (start, end, new words) or '1.20:1.85=NEW WORDS'; "
        f"found {asked!r}"
    )


def check_spans(spans: Sequence[Span], seconds: float) -> list[Span]:
    """The spans in order of time.

    Raises UserError for none, a reversed one, one outside the `seconds` of audio, or overlaps.
    """
    if not spans:
        raise UserError("no span to fill: give at least one as START:END in seconds")
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    for span in ordered:
        shown = f"span {span.start:g}:{span.end:g}"
        if span.end <= span.start:
            raise UserError(f"{shown} is reversed or empty: the end must come after the start")
        if span.start < 0 or span.end > seconds + 1e-6:
            raise UserError(
                f"{shown} is outside the audio, which lasts {seconds:.2f} s: choose a span within"
            )
    for left, right in pairwise(ordered):
        if right.start < left.end:
            raise UserError(
                f"spans {left.start:g}:{left.end:g} and {right.start:g}:{right.end:g} overlap: "
                "join them or move them apart"
            )
    return ordered
