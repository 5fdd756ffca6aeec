"""The public Vocos (Siuzdak 2023, `charactr/vocos-mel-24khz`): our vocoder with its constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec, filterbank
from voiceflow.config import UserError, VocoderConfig
from voiceflow.models.vocoder import Vocoder

KERNEL = 7
MOST_LOG_MAGNITUDE = math.log(100)
FLOOR = 1e-7
# What each part of config.yaml is in the public package, and the settings that it may have.
PARTS = {
    "feature_extractor": (
        "MelSpectrogramFeatures", {"sample_rate", "n_fft", "hop_length", "n_mels", "padding"},
    ),
    "backbone": (
        "VocosBackbone",
        {"input_channels", "dim", "intermediate_dim", "num_layers", "layer_scale_init_value"},
    ),
    "head": ("ISTFTHead", {"dim", "n_fft", "hop_length", "padding"}),
}  # fmt: skip
OPTIONAL = {"layer_scale_init_value"}  # where the scales started, before they were learnt
FILTERS = "feature_extractor.mel_spec.mel_scale.fb"
NAMES = (
    ("backbone.embed.", "stem."),
    ("backbone.norm.", "first_norm."),
    ("backbone.final_layer_norm.", "norm."),
    ("backbone.convnext.", "blocks."),
    ("head.out.", "head."),
    (".dwconv.", ".depthwise."),
    (".pwconv1.", ".up."),
    (".pwconv2.", ".down."),
    (".gamma", ".scale"),
)
NOT_LEARNT = ("feature_extractor.", "head.istft.")


class ClippedHead(nn.Linear):
    """(B, T, D) -> (B, T, n_fft + 2); log-magnitudes are at most ln 100, as it was trained."""

    def forward(self, x: Tensor) -> Tensor:
        """Magnitudes first, then phases."""
        log_magnitude, phase = super().forward(x).chunk(2, dim=-1)
        return torch.cat([log_magnitude.clamp(max=MOST_LOG_MAGNITUDE), phase], dim=-1)


class Vocos(Vocoder):
    """(B, T, M) natural-log mel, not normalised -> (B, (T - 1) * hop)."""

    def __init__(self, config: VocoderConfig, spec: FeatureSpec) -> None:
        super().__init__(config, spec)
        self.head = ClippedHead(config.width, config.n_fft + 2)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6


def is_config(values: Any) -> bool:
    """Whether a config.yaml is of a Vocos."""
    return isinstance(values, Mapping) and PARTS.keys() <= values.keys()


def read_config(values: Mapping[str, Any], where: str) -> tuple[FeatureSpec, VocoderConfig]:
    """The front end and the sizes; UserError where the public package has no such Vocos."""
    heard, body, head = (_arguments(values[part], part, where) for part in PARTS)
    pairs = [
        ("feature_extractor.n_mels", heard["n_mels"], "backbone.input_channels",
         body["input_channels"]),
        ("feature_extractor.hop_length", heard["hop_length"], "head.hop_length",
         head["hop_length"]),
        ("backbone.dim", body["dim"], "head.dim", head["dim"]),
    ]  # fmt: skip
    for a, x, b, y in pairs:
        if x != y:
            raise UserError(f"{where}: {a} {x} and {b} {y} must be equal: get the file again")
    for part, arguments in (("feature_extractor", heard), ("head", head)):
        if arguments["padding"] != "center":
            raise UserError(
                f"{where}: {part}.padding is {arguments['padding']!r}, only 'center' is known here "
                "(frame i at sample i * hop): take a Vocos that was trained with it"
            )
    if head["n_fft"] % head["hop_length"] or head["n_fft"] < 4 * head["hop_length"]:
        raise UserError(
            f"{where}: head.n_fft must be a multiple of hop_length ({head['hop_length']}), 4 times "
            f"or more, found {head['n_fft']}: take another Vocos"
        )
    spec = FeatureSpec(
        sample_rate=heard["sample_rate"], n_fft=heard["n_fft"], window=heard["n_fft"],
        hop=heard["hop_length"], n_mels=heard["n_mels"], f_min=0.0, f_max=heard["sample_rate"] / 2,
        power=1.0, mel_scale="htk", mel_norm=None, floor=FLOOR, mean=0.0, std=1.0,
    )  # fmt: skip
    config = VocoderConfig(
        width=body["dim"], hidden=body["intermediate_dim"], layers=body["num_layers"],
        kernel=KERNEL, n_fft=head["n_fft"],
    )  # fmt: skip
    return spec, config


def _arguments(values: Any, part: str, where: str) -> dict[str, Any]:
    """The settings of one part, checked against what the public package has."""
    name, known = PARTS[part]
    found = values.get("class_path") if isinstance(values, Mapping) else None
    if not isinstance(found, str) or found.rpartition(".")[2] != name:
        raise UserError(
            f"{where}: {part} is {found}, only {name} is known here: take another Vocos"
        )
    arguments = values.get("init_args")
    arguments = dict(arguments) if isinstance(arguments, Mapping) else {}
    unknown, missing = arguments.keys() - known, known - OPTIONAL - arguments.keys()
    if unknown or missing:
        raise UserError(
            f"{where}: {part} must have {', '.join(sorted(known - OPTIONAL))}, found "
            f"{', '.join(arguments) or 'nothing'}: its front end cannot be told; take another Vocos"
        )
    wrong = [
        k for k, v in arguments.items()
        if k not in {"padding", *OPTIONAL} and not (type(v) is int and v > 0)
    ]  # fmt: skip
    if wrong:
        k = wrong[0]
        raise UserError(f"{where}: {part}.{k} must be a whole number, found {arguments[k]!r}")
    return arguments


def own_names(weights: Mapping[str, Tensor], spec: FeatureSpec, where: str) -> dict[str, Tensor]:
    """The public package's weights under our vocoder's names, without windows and filters.

    Raises UserError where the file's mel filters are not those of `spec`.
    """
    if FILTERS in weights and not _same_filters(weights[FILTERS], spec):
        raise UserError(
            f"{where}: its mel filters are not those of {spec.n_mels} bands at {spec.sample_rate} "
            "Hz that config.yaml tells: weights and configuration are of two models"
        )
    renamed = {}
    for name, value in weights.items():
        if name.startswith(NOT_LEARNT):
            continue
        for theirs, ours in NAMES:
            name = name.replace(theirs, ours)
        renamed[name] = value
    return renamed


def _same_filters(filters: Tensor, spec: FeatureSpec) -> bool:
    ours = filterbank(spec)
    return filters.shape == ours.shape and bool(torch.allclose(filters, ours, atol=1e-3))
