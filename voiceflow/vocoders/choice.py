"""Which vocoder: the one a voice carries, another's, a public one, or Griffin-Lim."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError
from voiceflow.model_folder import ModelFolder, bundled_voices
from voiceflow.models.phases import PhaseDifferences
from voiceflow.models.vocoder import Vocoder
from voiceflow.vocoders.differences import DifferenceVocoder
from voiceflow.vocoders.griffin_lim import GriffinLim
from voiceflow.vocoders.neural import NeuralVocoder
from voiceflow.vocoders.pretrained import KNOWN, configuration_of, load_pretrained, recognise

GRIFFIN_LIM = "griffin-lim"
STATISTICS = ("mean", "std")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_VOICE_FILES = ("phones.json", "features.json")


class Vocodes(Protocol):
    """Log-mel (T, M), natural and not normalised, to a waveform ((T - 1) * hop,) float32."""

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Raises ValueError for what is no log-mel of its front end."""
        ...


def make_vocoder(folder: ModelFolder) -> Vocodes:
    """The vocoder that a folder carries, else Griffin-Lim."""
    if folder.config.vocoder is None:
        return GriffinLim(folder.features)
    return _carried(folder)


def named_vocoder(name: str | Path, features: FeatureSpec) -> Vocodes:
    """`griffin-lim`, a voice's vocoder by name or folder, or a public one by folder or Hub name.

    Raises UserError with a table of the fields that differ where its front end is not `features`;
    mean and deviation may be others.
    """
    if str(name) == GRIFFIN_LIM:
        return GriffinLim(features)
    if _is_voice(name):
        folder = ModelFolder.open(name)
        require_front_end(folder.features, features, str(folder.path))
        return _carried(folder)
    public = load_pretrained(name)
    require_front_end(public.spec, features, str(name))
    return public


def _carried(folder: ModelFolder) -> Vocodes:
    """The vocoder that a folder carries; UserError where it has none."""
    return vocoder_of(folder.load("vocoder"), folder.features)


def vocoder_of(network: nn.Module, features: FeatureSpec) -> Vocodes:
    """A network of ours as a vocoder."""
    if isinstance(network, PhaseDifferences):
        return DifferenceVocoder(network, features)
    assert isinstance(network, Vocoder)
    return NeuralVocoder(network, features)


def require_front_end(vocoder: FeatureSpec, voice: FeatureSpec, name: str) -> None:
    """UserError with a row for each field that differs, and the configuration that fits."""
    rows = [("field", "vocoder's", "voice's")] + [
        (f.name, str(getattr(vocoder, f.name)), str(getattr(voice, f.name)))
        for f in fields(FeatureSpec)
        if f.name not in STATISTICS and getattr(vocoder, f.name) != getattr(voice, f.name)
    ]
    if len(rows) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    fitting = configuration_of(vocoder)
    advice = (
        f"prepare the data with `voiceflow prepare ... --features {fitting}` and train the voice "
        "on them"
        if fitting
        else "no configuration in conf/features has the vocoder's front end"
    )
    raise UserError(
        f"vocoder '{name}' and the voice have different feature specifications:\n"
        + "\n".join(table)
        + f"\n{advice}, or take another vocoder ({GRIFFIN_LIM} fits every voice)"
    )


def _is_voice(name: str | Path) -> bool:
    """Whether a name is of a voice rather than of a public vocoder; UserError if of neither."""
    folder = Path(name)
    if folder.is_dir():
        if any((folder / file).is_file() for file in _VOICE_FILES):
            return True
        if recognise(folder) is not None:
            return False
    elif str(name) in bundled_voices():
        return True
    elif _HUB_NAME.fullmatch(str(name)):
        return False
    raise UserError(
        f"vocoder '{name}' is none that is known: give {GRIFFIN_LIM}; a voice that has one, by "
        f"name ({', '.join(bundled_voices()) or 'none is bundled'}) or model folder; or a public "
        f"{KNOWN}, by folder or Hugging Face name (owner/model)"
    )
