"""How alike two voices are, by a network trained to tell speakers apart."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.config import UserError
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound

INSTALL = "pip install -e '.[eval]'"
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
        return float(self.embedding(a) @ self.embedding(b))

    def embedding(self, wave: np.ndarray) -> np.ndarray:
        """(256,) of length 1; wave: (n,) float mono at 16 kHz. ValueError for silence."""
        if not wave.any():
            raise ValueError("silence has no voice")
        louder = self._normalise(wave.astype(np.float32), -30, increase_only=True)
        embedding: np.ndarray = self._encoder.embed_utterance(louder)
        return embedding


class ResemblyzerSpeaker:
    """A scorer of likeness by resemblyzer: SIM-o and SIM-r (Le et al. 2023, section 5.1).

    Between what was generated and the prompt, as it was recorded (o) and through the voice's own
    features and vocoder (r). Where there is no prompt but a reference, between 1.6 s around what
    was generated and the rest of the reference.
    """

    def __init__(self) -> None:
        self._likeness = SpeakerLikeness()

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """SIM-o and SIM-r."""
        return {
            "SIM-o (resemblyzer)": Metric.mean("sim_o", "higher"),
            "SIM-r (resemblyzer)": Metric.mean("sim_r", "higher"),
        }

    def settings(self) -> dict[str, Any]:
        """The library's version; its weights come with it."""
        return {"version": metadata.version("resemblyzer"), "model": "pretrained.pt (GE2E)"}

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """Cosines, None where a sound is silent or has nothing to be compared with."""
        return [self._one(sound) for sound in sounds]

    def _one(self, sound: Sound) -> Score:
        if sound.prompt is None and sound.reference is not None:
            start, end = (sample / SAMPLE_RATE for sample in sound.generated)
            return {
                "sim_o": self._likeness.of_span(sound.wave, sound.reference, start, end),
                "sim_r": None,
            }
        pairs = {"sim_o": sound.prompt, "sim_r": sound.prompt_resynthesis}
        return {
            name: None
            if other is None or not other.any() or not sound.part.any()
            else self._likeness.between(sound.part, other)
            for name, other in pairs.items()
        }


def speaker_likeness() -> SpeakerLikeness | None:
    """The measure, or None where its library is not installed."""
    try:
        return SpeakerLikeness()
    except UserError:
        return None
