"""From seconds to frames: the one place in the project where this is done."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from voiceflow.alignment.types import Alignment
from voiceflow.text.phones import SILENCE, positioned


@dataclass(frozen=True)
class FramedWord:
    """A spoken word and where its phones stand in `FramedAlignment.phones`."""

    text: str
    first_phone: int
    n_phones: int


@dataclass(frozen=True)
class FramedAlignment:
    """Positioned phones with a silence between any two words and at both ends.

    durations: frames of each phone; they sum to the number of frames, and may be zero.
    words: the spoken words in order; silences belong to none.
    """

    phones: tuple[str, ...]
    durations: tuple[int, ...]
    words: tuple[FramedWord, ...]


def to_frames(alignment: Alignment, n_frames: int, hop_seconds: float) -> FramedAlignment:
    """Place every border on the nearest frame.

    Frame i is centred at `i * hop_seconds`, so the border at s seconds is before frame
    round(s / hop_seconds), clipped to [0, n_frames] and never before the border ahead of it.
    The last phone, a silence, takes what frames are left. Raises ValueError on a negative
    `n_frames` or a hop that is not positive.
    """
    if n_frames < 0 or not hop_seconds > 0:
        raise ValueError(f"expected n_frames >= 0 and a positive hop: {n_frames}, {hop_seconds}")
    phones: list[str] = [SILENCE]
    starts: list[float] = [0.0]
    words: list[FramedWord] = []
    for word in alignment.spoken():
        words.append(FramedWord(word.text, len(phones), len(word.phones)))
        phones += [*positioned([phone.symbol for phone in word.phones]), SILENCE]
        starts += [*(phone.start for phone in word.phones), word.end]
    borders = [0]
    for start in starts[1:]:
        nearest = int(min(start / hop_seconds, float(n_frames)) + 0.5)
        borders.append(max(borders[-1], min(nearest, n_frames)))
    durations = tuple(right - left for left, right in pairwise([*borders, n_frames]))
    return FramedAlignment(tuple(phones), durations, tuple(words))
