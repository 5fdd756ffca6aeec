"""Voices by networks whose weights are downloaded: SIM-o, SIM-r and the FSD of papers.

Sounds are heard one by one, or with those of the same length: padding would change the statistics
over time that all of these networks take. For where the weights come from see `hub`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.config import UserError
from voiceflow.measures.hub import (
    BATCH_SECONDS,
    UNUSED,
    batches,
    describe,
    find,
    load,
    read,
    shortest,
)
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound

# Layer of wav2vec 2.0 whose vectors the FSD is of, and how many of their principal components.
LAYER = 6
COMPONENTS = 128


class Vectors(ABC):
    """Vectors of waves by a network; a wave's does not depend on the others."""

    shortest: int

    def __init__(self, device: str, batch_seconds: float) -> None:
        self._device, self._most = device, batch_seconds * SAMPLE_RATE

    @abstractmethod
    def _hear(self, waves: Tensor) -> Tensor:
        """(B, D) of waves (B, n), n not below `shortest`."""

    def vectors(self, waves: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
        """(D,) of each wave (n,); None where there is none, or it is below `shortest`."""
        found: list[np.ndarray | None] = [None] * len(waves)
        kept = [(i, w) for i, w in enumerate(waves) if w is not None and len(w) >= self.shortest]
        for batch in batches([len(wave) for _, wave in kept], self._most, padded=False):
            stacked = np.stack([kept[j][1] for j in batch]).astype(np.float32)
            with torch.inference_mode():
                heard = self._hear(torch.from_numpy(stacked).to(self._device)).cpu().numpy()
            for j, vector in zip(batch, heard, strict=True):
                found[kept[j][0]] = vector
        return found


class SpeakerScorer(Vectors):
    """SIM-o and SIM-r: cosines of what was generated and its prompt (Le et al. 2023, section 5.1).

    The prompt as it was recorded (o), and through the voice's own features and vocoder (r).
    """

    name: str

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """SIM-o and SIM-r."""
        return {
            f"SIM-o ({self.name})": Metric.mean("sim_o", "higher"),
            f"SIM-r ({self.name})": Metric.mean("sim_r", "higher"),
        }

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """Cosines; None without a prompt, and where one of the two is silent or too short."""
        waves = [w for s in sounds for w in (s.part, s.prompt, s.prompt_resynthesis)]
        vectors = self.vectors([w if w is not None and w.any() else None for w in waves])
        return [
            {"sim_o": _cosine(part, prompt), "sim_r": _cosine(part, again)}
            for part, prompt, again in zip(vectors[::3], vectors[1::3], vectors[2::3], strict=True)
        ]


class WavLMSpeaker(SpeakerScorer):
    """WavLM with an x-vector head (Chen et al. 2022), as `transformers` has it.

    model: base-plus, or any other WavLMForXVector. Its figures are not those of the papers, whose
    network is `UniSpeechSpeaker`.
    """

    name = "wavlm"
    kind = "WavLMForXVector"

    def __init__(
        self,
        model: str = "microsoft/wavlm-base-plus-sv",
        device: str = "cpu",
        batch_seconds: float = BATCH_SECONDS,
    ) -> None:
        super().__init__(device, batch_seconds)
        self.source = find(model)
        # Vectors are taken below the classifier.
        unused = (*UNUSED, "classifier.", "objective.")
        self._network = load(self.source, self.kind, device, unused)
        self._extractor = read(self.source, "Wav2Vec2FeatureExtractor")
        config = self._network.config
        taken = sum(
            (kernel - 1) * dilation
            for kernel, dilation in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True)
        )
        # A standard deviation needs two of the head's frames.
        self.shortest = shortest(config, 2 + taken)

    def settings(self) -> dict[str, Any]:
        """The model, and what stands for a sound."""
        return describe(self.name, self.source, self.kind, pooling="x-vector head, cosine")

    def _hear(self, waves: Tensor) -> Tensor:
        inputs = self._extractor(
            list(waves.cpu().numpy()), sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_values
        found: Tensor = self._network(inputs.to(self._device)).embeddings
        return found


class Wav2Vec2Vectors(Vectors):
    """FSD: wav2vec 2.0's (Baevski et al. 2020) sixth layer, the mean over frames of what was made.

    Le et al. (2023) take a Frechet distance between sets of such vectors.
    """

    kind = "Wav2Vec2Model"

    def __init__(
        self,
        model: str = "facebook/wav2vec2-base",
        device: str = "cpu",
        batch_seconds: float = BATCH_SECONDS,
    ) -> None:
        super().__init__(device, batch_seconds)
        self.source = find(model)
        self._network = load(self.source, self.kind, device)
        self._extractor = read(self.source, "Wav2Vec2FeatureExtractor")
        config = self._network.config
        if config.num_hidden_layers < LAYER:
            raise UserError(
                f"model '{model}' has {config.num_hidden_layers} layers, expected at least {LAYER}"
            )
        self.shortest = shortest(config)

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """FSD of vectors (768)."""
        return {"FSD (wav2vec2)": SetMetric("vector", _distance)}

    def settings(self) -> dict[str, Any]:
        """The model, and what stands for a sound."""
        return describe(
            "fsd-wav2vec2", self.source, self.kind, layer=LAYER, pooling="mean over frames",
            components=COMPONENTS,
        )  # fmt: skip

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """vector: of what was generated, None below 25 ms."""
        return [
            {"vector": None if vector is None else vector.tolist()}
            for vector in self.vectors([sound.part for sound in sounds])
        ]

    def _hear(self, waves: Tensor) -> Tensor:
        inputs = self._extractor(
            list(waves.cpu().numpy()), sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_values
        heard = self._network(inputs.to(self._device), output_hidden_states=True)
        # The first is the layers' input.
        found: Tensor = heard.hidden_states[LAYER].mean(1)
        return found


def _cosine(a: np.ndarray | None, b: np.ndarray | None) -> float | None:
    if a is None or b is None:
        return None
    a, b = a.astype(float), b.astype(float)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _distance(made: np.ndarray, original: np.ndarray) -> float:
    """Frechet distance of the first principal components of the originals."""
    from voiceflow.measures.frechet import frechet_distance

    return frechet_distance(made, original, components=COMPONENTS)
