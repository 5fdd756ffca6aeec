"""How good a sound is: by a network that knows listeners' opinions, and against the original.

UTMOS (Saeki et al. 2022) is not here: its published weights are pickles.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.config import UserError
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound
from voiceflow.measures.speaker import INSTALL

# The network hears 9.01 s; a shorter sound is repeated, and one below this would be a mere buzz.
MIN_SECONDS = 0.25


class Dnsmos:
    """DNSMOS P.835 (Reddy et al. 2022) by speechmos: opinions from 1 to 5, without a reference.

    Of the whole wave: the mean over windows of 9.01 s that start 1 s apart. Its weights (ONNX)
    come with the package.
    """

    def __init__(self) -> None:
        try:
            from speechmos import dnsmos
        except ImportError as error:
            raise UserError(f"DNSMOS needs speechmos: {INSTALL}") from error
        self._run = dnsmos.run

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """The sound as a whole, the speech in it, and the quiet of what lies behind."""
        return {
            "DNSMOS (overall)": Metric.mean("overall", "higher"),
            "DNSMOS (signal)": Metric.mean("signal", "higher"),
            "DNSMOS (background)": Metric.mean("background", "higher"),
        }

    def settings(self) -> dict[str, Any]:
        """The library's version; its weights come with it."""
        return {
            "version": metadata.version("speechmos"),
            "model": "dnsmos_models/sig_bak_ovr.onnx",
            "clipped": "[-1, 1]",
            "min_seconds": MIN_SECONDS,
        }

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """overall, signal, background; None where a wave is silent or shorter than 0.25 s."""
        return [self._one(sound.wave) for sound in sounds]

    def _one(self, wave: np.ndarray) -> Score:
        if len(wave) < MIN_SECONDS * SAMPLE_RATE or not wave.any():
            return {"overall": None, "signal": None, "background": None}
        # The library refuses what is over full scale, which a file would clip.
        found = self._run(np.clip(wave, -1, 1), SAMPLE_RATE)
        return {
            "overall": float(found["ovrl_mos"]),
            "signal": float(found["sig_mos"]),
            "background": float(found["bak_mos"]),
        }


class Intrusive:
    """PESQ and STOI of the whole wave against a reference of the same length.

    PESQ: ITU-T P.862.2, wide band, about 1.0 to 4.6 (Rix et al. 2001); STOI: to 1 (Taal et al.
    2011). Both were made for noise and coding: what is spoken otherwise, however well, counts
    as an error.
    """

    def __init__(self) -> None:
        try:
            from pesq import pesq
            from pystoi import stoi
        except ImportError as error:
            raise UserError(f"PESQ and STOI need pesq and pystoi: {INSTALL}") from error
        self._pesq_of, self._stoi_of = pesq, stoi

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """PESQ and STOI."""
        return {"PESQ": Metric.mean("pesq", "higher"), "STOI": Metric.mean("stoi", "higher")}

    def settings(self) -> dict[str, Any]:
        """The libraries' versions and modes."""
        return {
            "pesq": metadata.version("pesq"),
            "pesq_mode": "wb",
            "pystoi": metadata.version("pystoi"),
            "stoi_extended": False,
            "span": "whole wave",
        }

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """pesq, stoi; None where there is no such reference, or a library can tell nothing.

        A silent wave has a STOI of 0, beside a reference that is not, and no PESQ.
        """
        return [self._one(sound) for sound in sounds]

    def _one(self, sound: Sound) -> Score:
        original = sound.reference
        if original is None or len(original) != len(sound.wave) or not original.any():
            return {"pesq": None, "stoi": None}
        return {
            "pesq": self._pesq(sound.wave, original),
            "stoi": self._stoi(sound.wave, original),
        }

    def _pesq(self, wave: np.ndarray, original: np.ndarray) -> float | None:
        # Its own errors (too short, no speech found) are RuntimeErrors; a silent wave beside a
        # reference that is not makes it convert NaN to an integer, a ValueError.
        try:
            found = float(self._pesq_of(SAMPLE_RATE, original, wave, "wb"))
        except (RuntimeError, ValueError):
            return None
        return found if math.isfinite(found) else None

    def _stoi(self, wave: np.ndarray, original: np.ndarray) -> float | None:
        with warnings.catch_warnings():
            # It then returns 1e-5, which is no measurement.
            warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
            try:
                found = float(self._stoi_of(original, wave, SAMPLE_RATE))
            except (RuntimeWarning, ValueError):
                return None
        return found if math.isfinite(found) else None
