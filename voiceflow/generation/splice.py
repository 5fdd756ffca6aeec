"""New sound put into a recording whose other samples stay as they are, bit for bit.

A cross-fade takes the 10 ms just outside its span, so that nothing of the old sound is heard
inside it. At the recording's ends there is less room or none, and the fade is as much shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voiceflow.audio.effects import cross_fade, rms
from voiceflow.audio.io import Recording, from_float, to_float

FADE_SECONDS = 0.010
# How far beside a span the loudness of each channel is taken.
_NEAR_SECONDS = 0.5
# Channels that cancel in the mean have no finite level against it.
_LARGEST_CHANNEL_GAIN = 4.0


@dataclass(frozen=True)
class Fill:
    """What replaces the samples start_sample:end_sample of a recording.

    samples: (m,) float, mono, at the recording's rate: the new sound with a margin of
    `fade_length(rate)` samples before and after it. Its length without the margins may differ
    from the span's; margins that reach beyond the recording are not heard.
    """

    start_sample: int
    end_sample: int
    samples: np.ndarray


def fade_length(sample_rate: int) -> int:
    """Samples of one cross-fade, which is also the margin of a Fill."""
    return round(FADE_SECONDS * sample_rate)


def cut(wave: np.ndarray, start: int, end: int, sample_rate: int) -> np.ndarray:
    """(m,) samples start:end of a wave with a Fill's margins, zero where the wave has ended."""
    fade = fade_length(sample_rate)
    piece = wave[max(start - fade, 0) : max(end + fade, 0)]
    before = max(fade - start, 0)
    return np.pad(piece, (before, end - start + 2 * fade - before - len(piece)))


def splice(original: Recording, pieces: Sequence[Fill]) -> Recording:
    """The recording with its spans replaced, in its own sample type.

    Every sample that is farther than `fade_length` from all spans is the original's. Two spans
    less than two fades apart are joined by one cross-fade between their new sounds. In a
    recording of several channels each gets the fill at that channel's level near the span.
    Raises ValueError for spans that overlap or leave the recording, and for fills shorter than
    their margins or not finite.
    """
    fade = fade_length(original.sample_rate)
    pieces = sorted(pieces, key=lambda piece: (piece.start_sample, piece.end_sample))
    _check(original, pieces, fade)

    old, n = to_float(original.samples), len(original.samples)
    parts, done = [], 0
    for piece in _joined(pieces, fade):
        start, end = piece.start_sample, piece.end_sample
        before, after = min(fade, start), min(fade, n - end)
        heard = piece.samples[fade - before : len(piece.samples) - fade + after]
        sound = heard[:, None] * _channel_gains(old, start, end, original.sample_rate)
        last = len(sound) - after
        sound[:before] = cross_fade(old[start - before : start], sound[:before])
        sound[last:] = cross_fade(sound[last:], old[end : end + after])
        parts += [original.samples[done : start - before], from_float(sound, original.subtype)]
        done = end + after
    parts.append(original.samples[done:])
    return Recording(np.concatenate(parts), original.sample_rate, original.subtype)


def _check(original: Recording, pieces: Sequence[Fill], fade: int) -> None:
    done = 0
    for piece in pieces:
        start, end, n = piece.start_sample, piece.end_sample, len(original.samples)
        if not done <= start <= end <= n:
            raise ValueError(
                f"the span of samples {start}:{end} must be in order, inside the {n} samples of "
                f"the recording, and clear of the span before it, which ends at {done}"
            )
        if piece.samples.ndim != 1 or len(piece.samples) < 2 * fade:
            raise ValueError(
                f"a fill needs (m,) samples with two margins of {fade}: {piece.samples.shape}"
            )
        if not np.isfinite(piece.samples).all():
            raise ValueError(f"the fill of the span {start}:{end} holds NaN or infinity")
        done = end


def _joined(pieces: Sequence[Fill], fade: int) -> list[Fill]:
    """The pieces, in which those with no room for two cross-fades between them have become one."""
    joined: list[Fill] = []
    for piece in pieces:
        overlap = 2 * fade - (piece.start_sample - joined[-1].end_sample) if joined else 0
        if overlap > 0:
            first, a, b = joined[-1], joined[-1].samples, piece.samples
            middle = cross_fade(a[-overlap:], b[:overlap])
            sound = np.concatenate([a[:-overlap], middle, b[overlap:]])
            joined[-1] = Fill(first.start_sample, piece.end_sample, sound)
        else:
            joined.append(piece)
    return joined


def _channel_gains(old: np.ndarray, start: int, end: int, sample_rate: int) -> np.ndarray:
    """(C,) level of each channel against that of their mean, near the span or else everywhere."""
    near = round(_NEAR_SECONDS * sample_rate)
    beside = np.concatenate([old[max(start - near, 0) : start], old[end : end + near]])
    for context in (beside, old):
        level, mean_level = rms(context, axis=0), rms(context.mean(axis=1))
        if old.shape[1] > 1 and level.any():
            quietest = level.max() / _LARGEST_CHANNEL_GAIN
            return level / max(float(mean_level), float(quietest))
    return np.ones(old.shape[1])
