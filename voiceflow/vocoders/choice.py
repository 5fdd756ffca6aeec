"""Which vocoder: the one a voice carries, another's, or Griffin-Lim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from torch import Tensor

from voiceflow.audio.features import FeatureSpec
from voiceflow.model_folder import ModelFolder
from voiceflow.models.vocoder import Vocoder
from voiceflow.vocoders.griffin_lim import GriffinLim
from voiceflow.vocoders.neural import NeuralVocoder

GRIFFIN_LIM = "griffin-lim"


class Vocodes(Protocol):
    """Log-mel (T, M), natural and not normalised, to a waveform ((T - 1) * hop,) float32."""

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Raises ValueError for what is no log-mel of its front end."""
        ...


def make_vocoder(folder: ModelFolder) -> Vocodes:
    """The vocoder that a folder carries, else Griffin-Lim."""
    if folder.config.vocoder is None:
        return GriffinLim(folder.features)
    network = folder.load("vocoder")
    assert isinstance(network, Vocoder)
    return NeuralVocoder(network, folder.features)


def named_vocoder(name: str | Path, features: FeatureSpec) -> Vocodes:
    """`griffin-lim`, or the vocoder of a voice by name or folder, for these features.

    Raises UserError with the fields that differ where its front end is another; their mean and
    deviation may be others.
    """
    if str(name) == GRIFFIN_LIM:
        return GriffinLim(features)
    folder = ModelFolder.open(name)
    same = replace(folder.features, mean=features.mean, std=features.std)
    same.require(features, str(folder.path), "the voice")
    network = folder.load("vocoder")
    assert isinstance(network, Vocoder)
    return NeuralVocoder(network, folder.features)
