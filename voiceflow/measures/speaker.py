"""How alike two voices are, by a network trained to tell speakers apart."""

from __future__ import annotations

import warnings

import numpy as np

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.config import UserError

INSTALL = "pip install 'voiceflow[eval]'"
# What the network was trained on: pieces of this length.
WINDOW_SECONDS = 1.6


class SpeakerLikeness:
    """resemblyzer's speaker encoder (GE2E, Wan et al. 2018); its weights come with the package.

    Those are a PyTorch archive, which resemblyzer itself opens; nothing but figures comes of it.
    """

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from resemblyzer import VoiceEncoder, normalize_volume
            except ImportError as error:
                raise UserError(f"the likeness of voices needs resemblyzer: {INSTALL}") from error
            self._encoder = VoiceEncoder("cpu", verbose=False)
        self._normalise = normalize_volume

    def of_span(
        self, wave: np.ndarray, original: np.ndarray, start: float, end: float
    ) -> float | None:
        """Cosine between a span of a wave and the rest of the original recording.

        wave, original: (n,) float mono at 16 kHz; start, end: seconds. A span is too short to be
        known by itself: 1.6 s around its middle are taken, and those are left out of the rest. None
        where nothing is left.
        """
        n = min(len(wave), len(original))
        length = min(round(WINDOW_SECONDS * SAMPLE_RATE), n)
        middle = round((start + end) / 2 * SAMPLE_RATE)
        first = min(max(middle - length // 2, 0), n - length)
        rest = np.concatenate([original[:first], original[first + length :]])
        if not rest.any() or not wave[first : first + length].any():
            return None
        return self.between(wave[first : first + length], rest)

    def between(self, a: np.ndarray, b: np.ndarray) -> float:
        """Cosine of two voices, 1 for the same sound; a, b: (n,) float mono at 16 kHz."""
        return float(self._embedding(a) @ self._embedding(b))

    def _embedding(self, wave: np.ndarray) -> np.ndarray:
        if not wave.any():
            raise ValueError("silence has no voice")
        louder = self._normalise(wave.astype(np.float32), -30, increase_only=True)
        embedding: np.ndarray = self._encoder.embed_utterance(louder)
        return embedding


def speaker_likeness() -> SpeakerLikeness | None:
    """The measure, or None where its library is not installed."""
    try:
        return SpeakerLikeness()
    except UserError:
        return None
