"""A generated span beside the original, frame by frame: pitch, voicing, cepstra, log-mels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound
from voiceflow.measures.spectral import log_mel_error

FEATURES = "voicebox16k"
F_MIN, F_MAX = 65.0, 500.0  # Hz
HOP = 160  # samples: frame i is centred on sample HOP * i, for the pitch as for the features
# So much of what lies around the span (0.5 s) is heard with it: the tracker follows a line.
AROUND_FRAMES = 50
COEFFICIENTS = 13


def pitch(wave: np.ndarray) -> np.ndarray:
    """(1 + n // 160,) Hz, NaN where a frame is unvoiced; wave: (n,) float mono at 16 kHz.

    By librosa's pYIN (Mauch and Dixon 2014), 65 to 500 Hz in steps of 10 cents.
    """
    import librosa

    f0, voiced, _ = librosa.pyin(wave, fmin=F_MIN, fmax=F_MAX, sr=SAMPLE_RATE, hop_length=HOP)
    return np.where(voiced, f0, np.nan)


def pitch_errors(made: np.ndarray, original: np.ndarray) -> tuple[float | None, float]:
    """Mean difference in cents, and the share of frames of which one only is voiced.

    made, original: (T,) Hz, NaN where unvoiced. The difference is |1200 log2(made / original)| over
    the frames that are voiced in both, None where there are none.
    """
    voiced = np.isfinite(made), np.isfinite(original)
    both = voiced[0] & voiced[1]
    wrong = float(np.mean(voiced[0] != voiced[1]))
    if not both.any():
        return None, wrong
    return float(np.abs(1200 * np.log2(made[both] / original[both])).mean()), wrong


def mel_cepstral_distortion(made: np.ndarray, original: np.ndarray) -> float:
    """Mel-cepstral distortion (Kubichek 1993) in dB, of two natural-log mels (T, M).

        10 / ln 10 * sqrt(2 * sum over k = 1 .. 13 of (c_k - c'_k)^2), meaned over frames,
        c_k = 2 / M * sum over j = 0 .. M - 1 of x_j cos(pi k (j + 1/2) / M)

    so x_j, the natural logarithm of the mel magnitude, is c_0 / 2 + sum of c_k cos(...), and c_0,
    the level, is left out. It is the root mean square over bands of the smoothed spectra's
    difference in dB. Frame stands beside frame, without warping, and the cepstra are those of the
    filter bank: not to be compared with figures of other cepstra, or after warping.
    Raises ValueError where the shapes differ.
    """
    if made.shape != original.shape:
        raise ValueError(f"expected two log-mels of one shape: {made.shape}, {original.shape}")
    bands = made.shape[1]
    angles = np.outer(np.arange(bands) + 0.5, np.arange(1, COEFFICIENTS + 1)) * np.pi / bands
    apart = (np.asarray(made, float) - original) @ np.cos(angles) * 2 / bands
    return float(10 / np.log(10) * np.sqrt(2 * (apart**2).sum(1)).mean())


class Pitch:
    """What was generated beside a reference of the same length, frame beside frame.

    f0_error_cents, voicing_error: `pitch_errors` of pYIN's pitch, heard in the span with 0.5 s
    around it. mcd_db: `mel_cepstral_distortion`, 10/ln 10 sqrt(2 sum (c_k - c'_k)^2) for k = 1..13
    of the DCT-II of the natural-log mel, without warping (Kubichek 1993). log_mel_error: mean
    absolute difference of the natural log-mels. The frames are those centred in the span.
    """

    def __init__(self) -> None:
        self._log_mel = LogMel(FeatureSpec.named(FEATURES))

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """Means over sounds."""
        return {
            "F0 error (cents)": Metric.mean("f0_error_cents", "lower"),
            "voicing error": Metric.mean("voicing_error", "lower", "%"),
            "MCD (dB)": Metric.mean("mcd_db", "lower"),
            "log-mel error": Metric.mean("log_mel_error", "lower"),
        }

    def settings(self) -> dict[str, Any]:
        """The tracker and its range, the front end, and what the cepstra are."""
        return {
            "pitch": "librosa.pyin",
            "version": metadata.version("librosa"),
            "f_min": F_MIN,
            "f_max": F_MAX,
            "hop": HOP,
            "around_seconds": AROUND_FRAMES * HOP / SAMPLE_RATE,
            "span": "frames centred in what was generated",
            "features": FEATURES,
            "fingerprint": self._log_mel.spec.fingerprint(),
            "mcd": "10/ln10 sqrt(2 sum (c_k - c'_k)^2), k = 1..13, c_k = 2/M DCT-II of the natural "
            "log of the mel magnitudes, frame beside frame without warping (Kubichek 1993)",
        }

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """The four, None where there is no reference of the same length or no frame in the span."""
        return [self._one(sound) for sound in sounds]

    def _one(self, sound: Sound) -> Score:
        wave, original = sound.wave, sound.reference
        # Frames whose centre is in the span: its last sample is not of it.
        first, last = (-(-sample // HOP) for sample in sound.generated)
        if original is None or len(original) != len(wave) or last <= first:
            return dict.fromkeys(("f0_error_cents", "voicing_error", "mcd_db", "log_mel_error"))
        start = max(first - AROUND_FRAMES, 0)
        cut = slice(start * HOP, (last + AROUND_FRAMES) * HOP)
        tracks = (pitch(sound[cut])[first - start : last - start] for sound in (wave, original))
        cents, voicing = pitch_errors(*tracks)
        return {
            "f0_error_cents": cents,
            "voicing_error": voicing,
            **self._spectral(wave, original, slice(first, last)),
        }

    def _spectral(self, wave: np.ndarray, original: np.ndarray, span: slice) -> Score:
        if len(wave) <= self._log_mel.spec.n_fft // 2:
            return {"mcd_db": None, "log_mel_error": None}
        both = torch.tensor(np.stack([wave, original]), dtype=torch.float64)
        mels = self._log_mel(both)[:, span]
        return {
            "mcd_db": mel_cepstral_distortion(*mels.numpy()),
            "log_mel_error": log_mel_error(*mels),
        }
