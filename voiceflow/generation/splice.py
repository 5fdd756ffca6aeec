"""New sound put into a recording whose other samples stay as they are, bit for bit.

A cross-fade takes the 10 ms just outside its span, so that nothing of the old sound is heard
inside it. At the recording's ends there is less room or none, and the fade is as much shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voiceflow.audio.effects import active_rms, cross_fade
from voiceflow.audio.io import Recording, from_float, to_float

FADE_SECONDS = 0.010
# How far beside a span the loudness of each channel is taken.
_NEAR_SECONDS = 1.0
# Channels that cancel in the mean have no finite level against it.
_LARGEST_CHANNEL_GAIN = 4.0


@dataclass(frozen=True)
class Fill:
    """What replaces the samples start_sample:end_sample of a recording.

    samples: (m,) float, mono, or (m, C) for a recording of C channels, at its rate: the new sound
    with a margin before and after it. Its length without the margins may differ from the span's;
    margins that reach beyond the recording are not heard.
    margin: samples of each margin; None for `fade_length(rate)`, the least. Of a wider one only
    the innermost `fade_length` is heard: the rest is what `level.matched` measures by.
    """

    start_sample: int
    end_sample: int
    samples: np.ndarray
    margin: int | None = None

    @property
    def span(self) -> tuple[int, int]:
        """The first sample that is replaced, and the first after it that is not."""
        return self.start_sample, self.end_sample


def fade_length(sample_rate: int) -> int:
    """Samples of one cross-fade, which is also the margin of a Fill that names none."""
    return round(FADE_SECONDS * sample_rate)


def cut(
    wave: np.ndarray, start: int, end: int, sample_rate: int, margin: int | None = None
) -> np.ndarray:
    """(m,) samples start:end of a wave with a Fill's margins, zero where the wave has ended.

    margin: samples of each; None for `fade_length(sample_rate)`.
    """
    wide = fade_length(sample_rate) if margin is None else margin
    piece = wave[max(start - wide, 0) : max(end + wide, 0)]
    before = max(wide - start, 0)
    return np.pad(piece, (before, end - start + 2 * wide - before - len(piece)))


def splice(original: Recording, pieces: Sequence[Fill]) -> Recording:
    """The recording with its spans replaced, in its own sample type.

    Every sample that is farther than `fade_length` from all spans is the original's. Two spans
    less than two fades apart are joined by one cross-fade between their new sounds. In a
    recording of several channels each gets a mono fill at that channel's level near the span.
    Raises ValueError for spans that overlap or leave the recording, and for fills shorter than
    their margins or not finite.
    """
    fade = fade_length(original.sample_rate)
    pieces = in_order(original, pieces)
    old, n = to_float(original.samples), len(original.samples)
    spans = [piece.span for piece in pieces]
    sounds = [_heard(piece, fade, old, spans, original.sample_rate) for piece in pieces]

    parts, done = [], 0
    for piece in _joined(sounds, fade):
        start, end = piece.span
        before, after = min(fade, start), min(fade, n - end)
        sound = piece.samples[fade - before : len(piece.samples) - fade + after].copy()
        last = len(sound) - after
        sound[:before] = cross_fade(old[start - before : start], sound[:before])
        sound[last:] = cross_fade(sound[last:], old[end : end + after])
        parts += [original.samples[done : start - before], from_float(sound, original.subtype)]
        done = end + after
    parts.append(original.samples[done:])
    return Recording(np.concatenate(parts), original.sample_rate, original.subtype)


def in_order(original: Recording, pieces: Sequence[Fill]) -> list[Fill]:
    """The pieces by time; raises ValueError for those that do not fit, as `splice` says."""
    fade = fade_length(original.sample_rate)
    ordered = sorted(pieces, key=lambda piece: piece.span)
    n, channels = original.samples.shape
    done = 0
    for piece in ordered:
        start, end = piece.span
        margin = fade if piece.margin is None else piece.margin
        if not done <= start <= end <= n:
            raise ValueError(
                f"the span of samples {start}:{end} must be in order, inside the {n} samples of "
                f"the recording, and clear of the span before it, which ends at {done}"
            )
        if margin < fade:
            raise ValueError(f"a fill's margin must hold the cross-fade of {fade}: {margin}")
        if piece.samples.shape[1:] not in ((), (channels,)) or len(piece.samples) < 2 * margin:
            raise ValueError(
                f"a fill needs (m,) or (m, {channels}) samples with two margins of {margin}: "
                f"{piece.samples.shape}"
            )
        if not np.isfinite(piece.samples).all():
            raise ValueError(f"the fill of the span {start}:{end} holds NaN or infinity")
        done = end
    return ordered


def kept_beside(
    spans: Sequence[tuple[int, int]], span: tuple[int, int], reach: int, n: int
) -> list[tuple[int, int]]:
    """The runs of samples within `reach` of a span that none of the ordered spans replaces.

    n: samples of the recording.
    """
    done, end = max(span[0] - reach, 0), min(span[1] + reach, n)
    runs = []
    for first, last in [*spans, (end, end)]:
        if done < min(first, end):
            runs.append((done, min(first, end)))
        done = max(done, last)
    return runs


def channel_gains(
    old: np.ndarray, spans: Sequence[tuple[int, int]], span: tuple[int, int], sample_rate: int
) -> np.ndarray:
    """(C,) level of each channel against that of their mean, where there is speech.

    old: (n, C) float. Within a second of the span, or else anywhere outside of the spans; 1 where
    all is silent.
    """
    if old.shape[1] == 1:
        return np.ones(1)
    for reach in (round(_NEAR_SECONDS * sample_rate), len(old)):
        parts = [old[first:last] for first, last in kept_beside(spans, span, reach, len(old))]
        with_mean = [np.column_stack([part, part.mean(axis=1)]) for part in parts]
        *level, mean_level = active_rms(with_mean, sample_rate) if parts else [0.0]
        if any(level):
            return np.array(level) / max(mean_level, max(level) / _LARGEST_CHANNEL_GAIN)
    return np.ones(old.shape[1])


def _heard(
    piece: Fill, fade: int, old: np.ndarray, spans: Sequence[tuple[int, int]], sample_rate: int
) -> Fill:
    """A piece with margins of one fade, (m, C)."""
    unheard = 0 if piece.margin is None else piece.margin - fade
    sound = piece.samples[unheard : len(piece.samples) - unheard]
    if sound.ndim == 1:
        sound = sound[:, None] * channel_gains(old, spans, piece.span, sample_rate)
    return Fill(*piece.span, sound)


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
