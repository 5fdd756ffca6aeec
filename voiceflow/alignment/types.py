"""What an alignment is: words and their phones in seconds, covering the audio without a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from voiceflow.text.phones import SILENCE

TOLERANCE_SECONDS = 1e-6
SAMPLE_RATE = 16_000  # what aligners listen to


class AlignmentError(Exception):
    """An utterance that could not be aligned; the message is the reason."""


@dataclass(frozen=True)
class Phone:
    """One phone (without word position), from `start` to `end` in seconds."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True)
class Word:
    """One word, or a silence (empty text, the one phone SIL), with its phones, in seconds."""

    text: str
    start: float
    end: float
    phones: tuple[Phone, ...]

    @classmethod
    def silence(cls, start: float, end: float) -> Word:
        """The pause from `start` to `end`."""
        return cls("", start, end, (Phone(SILENCE, start, end),))


@dataclass(frozen=True)
class Alignment:
    """Words and silences that cover 0 to `seconds` without gap or overlap.

    score: the aligner's average acoustic log score per frame, None where it gives none.
    Raises ValueError where the borders do not meet, or a word's phones do not fill it.
    """

    words: tuple[Word, ...]
    seconds: float
    score: float | None = None

    def __post_init__(self) -> None:
        _check_cover("words", self.words, 0.0, self.seconds)
        for word in self.words:
            _check_cover(f"phones of {word.text or 'silence'!r}", word.phones, word.start, word.end)
            symbols = [phone.symbol for phone in word.phones]
            if word.text == "" and symbols != [SILENCE]:
                raise ValueError(f"silence holds the one phone {SILENCE}, found {symbols}")
            if word.text and SILENCE in symbols:
                raise ValueError(f"word {word.text!r} holds a silence: {symbols}")

    def spoken(self) -> tuple[Word, ...]:
        """The words that have text, in order."""
        return tuple(word for word in self.words if word.text)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; see `from_dict`."""
        return {
            "seconds": self.seconds,
            "score": self.score,
            "words": [
                {
                    "text": word.text,
                    "start": word.start,
                    "end": word.end,
                    "phones": [[phone.symbol, phone.start, phone.end] for phone in word.phones],
                }
                for word in self.words
            ],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Alignment:
        """What `to_dict` gave."""
        words = tuple(
            Word(w["text"], w["start"], w["end"], tuple(Phone(*phone) for phone in w["phones"]))
            for w in values["words"]
        )
        return cls(words, values["seconds"], values["score"])


class Aligner(Protocol):
    """Finds when each word and phone of a transcript is spoken."""

    name: str

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        """wave: (n,) float32 mono at 16 kHz. Raises AlignmentError with the reason."""
        ...


def _check_cover(what: str, parts: Sequence[Word | Phone], start: float, end: float) -> None:
    if not parts:
        if end - start > TOLERANCE_SECONDS or what != "words":
            raise ValueError(f"{what}: nothing covers {start} to {end} s")
        return
    borders = [start, *(b for part in parts for b in (part.start, part.end)), end]
    for left, right in zip(borders[::2], borders[1::2], strict=True):
        if not abs(right - left) <= TOLERANCE_SECONDS:
            raise ValueError(f"{what}: gap or overlap between {left} and {right} s")
    for left, right in pairwise([part.start for part in parts] + [end]):
        if not left <= right + TOLERANCE_SECONDS:
            raise ValueError(f"{what}: {left} s comes after {right} s")
