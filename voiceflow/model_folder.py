"""A voice on disk: configuration, weights, phone table and feature specification. No pickle.

    config.yaml             networks' sizes, sampling preset, how each was trained
    velocity.safetensors    duration.safetensors    duration_flow.safetensors
    aligner.safetensors     vocoder.safetensors
    phones.json  features.json  README.md (model card)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import (
    AlignerConfig,
    DurationConfig,
    SampleConfig,
    UserError,
    VelocityConfig,
    VocoderConfig,
    as_dict,
    to_schema,
)
from voiceflow.files import replacing
from voiceflow.models.aligner import PhoneRecogniser
from voiceflow.models.duration import DurationFlowNetwork, DurationNetwork
from voiceflow.models.phases import PhaseDifferences
from voiceflow.models.velocity import VelocityNetwork
from voiceflow.models.vocoder import Backbone, Vocoder
from voiceflow.text.phones import PhoneTable

NETWORKS = ("velocity", "duration", "duration_flow", "aligner", "vocoder")
NEEDED_TO_SPEAK = ("velocity", "duration")


@dataclass
class FolderConfig:
    """What config.yaml holds; a network that has not been trained is None."""

    velocity: VelocityConfig | None = None
    duration: DurationConfig | None = None
    duration_flow: DurationConfig | None = None
    aligner: AlignerConfig | None = None
    vocoder: VocoderConfig | None = None
    sample: SampleConfig = field(default_factory=SampleConfig)
    training: dict[str, Any] = field(default_factory=dict)  # a network's name -> how it was made


def bundled_voices() -> dict[str, Path]:
    """Voices that ship with the package, by name."""
    folder = Path(__file__).parent / "voices"
    return {p.parent.name: p.parent for p in sorted(folder.glob("*/config.yaml"))}


def find_voice(voice: str | Path) -> Path:
    """The folder of a voice given by path or by the name of a bundled one."""
    folder = Path(voice)
    if folder.is_dir():
        return folder
    bundled = bundled_voices()
    if str(voice) in bundled:
        return bundled[str(voice)]
    raise UserError(
        f"voice '{voice}' is neither a folder nor one of the bundled voices "
        f"({', '.join(bundled) or 'none'}): give a model folder, such as runs/mini/model"
    )


def build_velocity(config: VelocityConfig, phones: PhoneTable, spec: FeatureSpec) -> nn.Module:
    """An untrained velocity network that fits the phones and the features."""
    return VelocityNetwork(config, len(phones), spec.n_mels)


def build_duration(config: DurationConfig, phones: PhoneTable) -> nn.Module:
    """An untrained regression duration network that fits the phones."""
    return DurationNetwork(config, len(phones))


def build_duration_flow(config: DurationConfig, phones: PhoneTable) -> nn.Module:
    """An untrained flow duration network that fits the phones."""
    return DurationFlowNetwork(config, len(phones))


def build_aligner(config: AlignerConfig, phones: PhoneTable, spec: FeatureSpec) -> PhoneRecogniser:
    """An untrained phone recogniser that fits the phones and the features."""
    return PhoneRecogniser(config, len(phones.bases()), spec.n_mels)


@dataclass
class ModelFolder:
    """A folder's contents, read."""

    path: Path
    config: FolderConfig
    phones: PhoneTable
    features: FeatureSpec

    @staticmethod
    def open(voice: str | Path) -> ModelFolder:
        """Read all but the weights. UserError names what is missing or damaged."""
        path = find_voice(voice)
        missing = [
            n for n in ("config.yaml", "phones.json", "features.json") if not (path / n).is_file()
        ]
        if missing:
            raise UserError(
                f"{path} is not a complete model folder: {', '.join(missing)} missing; "
                "`voiceflow train` writes one as out/model"
            )
        return ModelFolder(
            path,
            read_config(path / "config.yaml"),
            PhoneTable.load(path / "phones.json"),
            FeatureSpec.load(path / "features.json"),
        )

    def load(self, name: str) -> nn.Module:
        """One network, in float32 and evaluation mode.

        Raises UserError when it was not trained, its file is missing, or the weights do not fit.
        """
        network: nn.Module
        if name == "velocity" and self.config.velocity:
            network = build_velocity(self.config.velocity, self.phones, self.features)
        elif name == "duration" and self.config.duration:
            network = build_duration(self.config.duration, self.phones)
        elif name == "duration_flow" and self.config.duration_flow:
            network = build_duration_flow(self.config.duration_flow, self.phones)
        elif name == "aligner" and self.config.aligner:
            network = build_aligner(self.config.aligner, self.phones, self.features)
        elif name == "vocoder" and self.config.vocoder:
            network = build_vocoder(self.config.vocoder, self.features)
        else:
            raise UserError(
                f"{self.path} has no {name} network: train one with `voiceflow train task={name} "
                "... out=<the run this folder is in>`"
            )
        weights = self.path / f"{name}.safetensors"
        load_weights(network, weights)
        return network.eval()


def build_vocoder(config: VocoderConfig, features: FeatureSpec) -> Vocoder | PhaseDifferences:
    """An untrained vocoder."""
    return (PhaseDifferences if config.differences else Vocoder)(config, features)


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill a network from a safetensors file, whatever its precision."""
    try:
        tensors = {k: v.float() for k, v in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: weights are missing or damaged ({error})") from error
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: the weights do not fit config.yaml ({reason})") from error


def read_config(path: Path) -> FolderConfig:
    """A folder's config.yaml; UserError where it cannot be read or holds what is unknown."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping, found {type(values).__name__}")
    return to_schema(FolderConfig, values, str(path))


def save_network(
    folder: Path,
    name: str,
    weights: dict[str, Tensor],
    config: VelocityConfig | DurationConfig | AlignerConfig | VocoderConfig,
    phones: PhoneTable,
    features: FeatureSpec,
    sample: SampleConfig,
    training: dict[str, Any],
    half: bool = False,
) -> None:
    """Write one network into a model folder, which may hold the other already.

    How the velocity network is sampled is its own to say; of the others only where there is none.
    Raises UserError when the folder's phones or features are others than these.
    """
    import yaml

    folder_config = FolderConfig()
    if (folder / "config.yaml").is_file():
        present = ModelFolder.open(folder)
        present.features.require(features, str(folder), f"the new {name} network")
        if present.phones != phones:
            raise UserError(f"{folder} has another phone table than the new {name} network")
        folder_config = present.config
    setattr(folder_config, name, config)
    if name == "velocity" or folder_config.velocity is None:
        folder_config.sample = sample
    folder_config.training = {**folder_config.training, name: training}
    dtype = torch.float16 if half else torch.float32
    stored = {k: v.detach().to("cpu", dtype).contiguous() for k, v in weights.items()}
    with replacing(folder / f"{name}.safetensors") as temporary:
        save_file(stored, temporary)
    phones.save(folder / "phones.json")
    with replacing(folder / "features.json") as temporary:
        features.save(temporary)
    with replacing(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(as_dict(folder_config), sort_keys=False), "utf-8")


def pack(
    source: str | Path,
    target: Path,
    aligner: str | Path | None = None,
    vocoder: str | Path | None = None,
    averaged_with: str | Path | None = None,
) -> list[Path]:
    """Copy a model folder with its weights in half precision, to be given away.

    aligner, vocoder: other model folders, of the same front end and phones, whose aligner and
    vocoder the voice shall carry; they then hear with the voice's mean and deviation, to which the
    vocoder's weights are fitted. averaged_with: one whose vocoder was trained from the same, or on
    from it; the weights are the mean of both (Wortsman et al. 2022). A README.md (model card) in
    `target` stays. Returns the files written. Raises UserError when the source is not complete or
    not finite in half precision, or aligner or vocoder do not fit.
    """
    folder = ModelFolder.open(source)
    sources = {name: folder for name in NEEDED_TO_SPEAK}
    if folder.config.duration_flow is not None:
        sources["duration_flow"] = folder
    for name, place in (("aligner", aligner), ("vocoder", vocoder)):
        if place is not None:
            other = ModelFolder.open(place)
            same = other.features.with_statistics(folder.features.mean, folder.features.std)
            folder.features.require(same, str(folder.path), str(other.path))
            if other.phones != folder.phones and name != "vocoder":
                raise UserError(f"{other.path} has another phone table than {folder.path}")
            sources[name] = other
        elif getattr(folder.config, name) is not None:
            sources[name] = folder
    weights = {name: place.load(name).state_dict() for name, place in sources.items()}
    if "vocoder" in sources:
        weights["vocoder"] = _vocoder_for(folder, sources["vocoder"])
    if averaged_with is not None:
        other = ModelFolder.open(averaged_with)
        mine = weights.get("vocoder", {})
        theirs = _vocoder_for(folder, other)
        if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in theirs.items()}:
            raise UserError(f"{other.path} has a vocoder of another size: no mean can be taken")
        weights["vocoder"] = {k: (v + theirs[k]) / 2 for k, v in mine.items()}
    for name, tensors in weights.items():
        if any(not torch.isfinite(w.half()).all() for w in tensors.values()):
            path = sources[name].path
            raise UserError(f"{path}: {name} has weights too large for half precision")
    for name, tensors in weights.items():
        save_network(
            target,
            name,
            tensors,
            getattr(sources[name].config, name),
            folder.phones,
            folder.features,
            folder.config.sample,
            sources[name].config.training.get(name, {}),
            half=True,
        )
    return sorted(p for p in target.iterdir() if p.is_file())


def _vocoder_for(folder: ModelFolder, source: ModelFolder) -> dict[str, Tensor]:
    """Weights of a folder's vocoder, fitted to another's statistics."""
    same = source.features.with_statistics(folder.features.mean, folder.features.std)
    folder.features.require(same, str(folder.path), str(source.path))
    network = source.load("vocoder")
    assert isinstance(network, Backbone)
    network.renormalise(source.features, folder.features)
    return network.state_dict()
