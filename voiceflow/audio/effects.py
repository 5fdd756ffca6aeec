"""What is done to waveforms beside changing their rate: levels, silence, cross-fades."""

from __future__ import annotations

import numpy as np


def rms(wave: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Root mean square of float samples, over everything or along an axis; 0 for no samples."""
    if wave.shape[axis or 0] == 0:
        return np.zeros(np.delete(wave.shape, axis) if axis is not None else ())
    level: np.ndarray = np.sqrt(np.mean(np.square(wave, dtype=np.float64), axis=axis))
    return level


def cross_fade(leaving: np.ndarray, entering: np.ndarray) -> np.ndarray:
    """One sound into another over their whole length, at constant power; both (n,) or (n, C).

    Linear weights a and b over sqrt(a^2 + b^2 + 2 r a b), r being the correlation of the two
    (Fink, Holters and Zölzer 2016): linear for equal sounds, equal-power for unrelated ones.
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
