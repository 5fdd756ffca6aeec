"""Public vocoders: Vocos, BigVGAN, and HiFi-GAN in transformers' form, by folder or Hub name.

What each hears is read from its own config file or, where that does not tell, refused unless it is
the published one. Weights are safetensors; pickles are not opened, since they can run code.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError, conf_folder
from voiceflow.files import read_json
from voiceflow.hub import Source, find, first_line, library
from voiceflow.vocoders import bigvgan, vocos
from voiceflow.vocoders.neural import CHUNK_FRAMES, NeuralVocoder

CONFIGS = ("config.yaml", "config.json")
FILES = (*CONFIGS, "*.safetensors")
HIFIGAN_FEATURES = "hifigan16k"
KNOWN = "Vocos, BigVGAN or SpeechT5's HiFi-GAN"
# A weight's length and direction, as torch's old and its new weight norm name them.
_NORMED = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


class PretrainedVocoder(NeuralVocoder):
    """A public network behind the vocoders' call, in chunks as our own.

    spec: its front end, with mean 0 and deviation 1, since it hears logarithms as they are.
    """

    def __init__(
        self, network: Any, spec: FeatureSpec, kind: str, chunk: int = CHUNK_FRAMES
    ) -> None:
        super().__init__(network, spec, chunk)
        self.kind = kind


class Aligned(nn.Module):
    """(B, T, M) log-mel -> (B, (T - 1) * hop), cut from a network's (B, T * hop).

    delay: samples by which the network's sound is late; scale: of natural logarithms to those
    that it hears; reach: frames on either side that its samples depend on.
    """

    def __init__(
        self, network: nn.Module, hop: int, reach: int, delay: int = 0, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.network, self.hop, self.delay, self.scale = network, hop, delay, scale
        self.reach = reach + math.ceil(delay / hop)

    def forward(self, mel: Tensor) -> Tensor:
        """Sample n is the network's n + delay."""
        wave: Tensor = self.network(mel * self.scale)
        return wave[:, self.delay : self.delay + (mel.shape[1] - 1) * self.hop]


@dataclass(frozen=True)
class Kind:
    """One family. pickle: the public weights' file; build: its configuration and where that is ->
    front end, network, and the weights' names there -> the network's."""

    name: str
    pickle: str
    build: Callable[[Mapping[str, Any], str], tuple[FeatureSpec, nn.Module]]
    own_names: Callable[[Mapping[str, Tensor], FeatureSpec, str], dict[str, Tensor]]


def load_pretrained(name: str | Path, chunk: int = CHUNK_FRAMES) -> PretrainedVocoder:
    """A public vocoder of a folder or the Hub, in float32.

    chunk: frames made at once. Raises UserError where it is in neither, is of no kind that is
    known, is not whole, or holds no safetensors.
    """
    source = find(str(name), FILES)
    found = recognise(source.folder)
    if found is None:
        raise UserError(
            f"vocoder '{source.name}' ({source.folder}) is none that is known: a folder of {KNOWN} "
            f"with its {' or '.join(CONFIGS)} is needed"
        )
    kind, values, config = found
    spec, network = kind.build(values, str(config))
    path, weights = _weights(source, kind)
    _fill(network, kind.own_names(_without_norm(weights), spec, str(path)), path, config)
    return PretrainedVocoder(_aligned(kind, network, spec), spec, kind.name, chunk)


def recognise(folder: Path) -> tuple[Kind, Mapping[str, Any], Path] | None:
    """The kind, its configuration and that file's path; None for what is no public vocoder.

    Raises UserError for a configuration that cannot be read.
    """
    path = folder / "config.json"
    if path.is_file():
        values = read_json(path)
        if _is_hifigan(values):
            return HIFIGAN, values, path
        if bigvgan.is_config(values):
            return BIGVGAN, values, path
    path = folder / "config.yaml"
    if path.is_file():
        values = _read_yaml(path)
        if vocos.is_config(values):
            return VOCOS, values, path
    return None


def configuration_of(spec: FeatureSpec) -> str | None:
    """The file of conf/features with this front end, whatever its mean and deviation."""
    for path in sorted((conf_folder() / "features").glob("*.yaml")):
        found = FeatureSpec.named(path.stem)
        if replace(found, mean=spec.mean, std=spec.std) == spec:
            return path.stem
    return None


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error


def _build_vocos(values: Mapping[str, Any], where: str) -> tuple[FeatureSpec, nn.Module]:
    spec, config = vocos.read_config(values, where)
    return spec, vocos.Vocos(config, spec)


def _build_bigvgan(values: Mapping[str, Any], where: str) -> tuple[FeatureSpec, nn.Module]:
    spec, config = bigvgan.read_config(values, where)
    return spec, bigvgan.BigVGAN(config)


def _is_hifigan(values: Any) -> bool:
    if not isinstance(values, Mapping):
        return False
    return (
        values.get("model_type") == "speecht5_hifigan"
        or values.get("architectures") == ["SpeechT5HifiGan"]
    )


def _build_hifigan(values: Mapping[str, Any], where: str) -> tuple[FeatureSpec, nn.Module]:
    """transformers' own class; its config.json tells the rate, the bands and the hop alone."""
    transformers = library("transformers", "SpeechT5's HiFi-GAN vocoders", "pretrained")
    published = FeatureSpec.named(HIFIGAN_FEATURES)
    try:
        config = transformers.SpeechT5HifiGanConfig.from_dict(dict(values))
        network: nn.Module = transformers.SpeechT5HifiGan(config)
        found = (config.sampling_rate, config.model_in_dim, math.prod(config.upsample_rates))
    # Sizes that cannot be fail in ways that differ between versions.
    except Exception as error:
        raise UserError(
            f"{where}: no SpeechT5HifiGan can be made of it ({first_line(error)}): get it again"
        ) from error
    expected = (published.sample_rate, published.n_mels, published.hop)
    if found != expected:
        raise UserError(
            f"{where}: a HiFi-GAN of {found[0]} Hz, {found[1]} bands and hop {found[2]}; its front "
            "end stands nowhere, and only the published one is known "
            f"({expected[0]} Hz, {expected[1]} bands, hop {expected[2]}): take "
            "microsoft/speecht5_hifigan or one trained as it was"
        )
    return replace(published, mean=0.0, std=1.0), network


def _hifigan_reach(config: Any) -> int:
    return bigvgan.upsampling_reach(
        config.upsample_rates, config.upsample_kernel_sizes, config.resblock_kernel_sizes,
        config.resblock_dilation_sizes, second=True,
    )  # fmt: skip


def _aligned(kind: Kind, network: nn.Module, spec: FeatureSpec) -> nn.Module:
    """The network with (T - 1) * hop samples, the first of them the middle of frame 0."""
    if isinstance(network, bigvgan.BigVGAN):
        return Aligned(network, spec.hop, network.reach, delay=network.delay)
    if kind is HIFIGAN:
        reach = _hifigan_reach(network.config)
        return Aligned(network, spec.hop, reach, scale=1 / math.log(10))
    return network


VOCOS = Kind("Vocos", "pytorch_model.bin", _build_vocos, vocos.own_names)
BIGVGAN = Kind(
    "BigVGAN", "bigvgan_generator.pt", _build_bigvgan, lambda w, *_: bigvgan.own_names(w)
)
HIFIGAN = Kind("HiFi-GAN", "pytorch_model.bin", _build_hifigan, lambda w, *_: dict(w))


def _weights(source: Source, kind: Kind) -> tuple[Path, dict[str, Tensor]]:
    """model.safetensors, or the only .safetensors that there is."""
    path = source.folder / "model.safetensors"
    others = sorted(source.folder.glob("*.safetensors"))
    if not path.is_file() and len(others) == 1:
        path = others[0]
    if not path.is_file():
        raise UserError(_no_safetensors(source, kind, [p.name for p in others]))
    try:
        return path, load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: weights are damaged ({first_line(error)}): get the file again"
        ) from error


def _no_safetensors(source: Source, kind: Kind, others: list[str]) -> str:
    """What to do without model.safetensors: a line that the user runs, where he trusts a pickle."""
    missing = f"vocoder '{source.name}' ({source.folder}) holds no model.safetensors"
    if others:
        return f"{missing} but {', '.join(others)}: name the {kind.name}'s own model.safetensors"
    pickles = source.pickles() if source.commit is None else []  # the Hub's cache is not written to
    pickle = kind.pickle if kind.pickle in pickles or not pickles else pickles[0]
    folder = source.folder
    get = ""
    if not pickles:
        name, _, revision = source.name.partition("@")
        if source.commit is None:
            name = "NAME"
        get = (f"get {pickle} by `hf download {name}{f' --revision {revision}' * bool(revision)} "
               f"--local-dir FOLDER`, ")  # fmt: skip
        folder = Path("FOLDER")
    return (
        f"{missing}{f' but {pickle}' if pickles else ''}, and pickles are not opened: they can run "
        f"code. Where you trust it, {get}convert it once by the line below, and give {folder}\n"
        f"{conversion(folder / pickle, folder / 'model.safetensors')}"
    )


def conversion(pickle: Path, out: Path) -> str:
    """The shell line that writes a pickle's tensors as safetensors; torch opens nothing else."""
    code = (
        "import torch, safetensors.torch as s; "
        f"w = torch.load({json.dumps(str(pickle))}, map_location=\"cpu\", weights_only=True); "
        "s.save_file({k: v.clone().contiguous() for k, v in w.get(\"generator\", w).items()}, "
        f"{json.dumps(str(out))})"
    )
    return f"python -c {shlex.quote(code)}"


def _without_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float32, each pair of a weight norm as the one weight that it stands for."""
    plain = {name: value.float() for name, value in weights.items()}
    for length_name, direction_name in _NORMED:
        for name in [n for n in plain if n.endswith(f".{length_name}")]:
            stem = name.removesuffix(length_name)
            if f"{stem}{direction_name}" not in plain:
                continue
            length, direction = plain.pop(name), plain.pop(f"{stem}{direction_name}")
            norm = direction.flatten(1).norm(dim=1).reshape(-1, *[1] * (direction.ndim - 1))
            plain[f"{stem}weight"] = length * direction / norm
    return plain


def _fill(network: nn.Module, weights: dict[str, Tensor], path: Path, config: Path) -> None:
    """Every weight, none left over, all finite; else UserError."""
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise UserError(f"{path}: {broken[0]} is not finite: get the file again")
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path}: the weights do not fit {config.name} ({reason}): the two are of different "
            "models, or a file is not whole; get them again"
        ) from error
