"""BigVGAN (Lee et al. 2023; version 2, `nvidia/bigvgan_v2_24khz_100band_256x`), for hearing only.

A stack of transposed convolutions as HiFi-GAN's (Kong et al. 2020), whose activations are periodic
and work at twice the rate, so that they do not alias. Parameters have the public code's names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv_transpose1d, pad

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError, to_schema

FLOOR = 1e-5
TAPS = 12  # of the low-pass filters around an activation
ACTIVATION_REACH = TAPS // 2  # samples on either side, at the activation's own rate
_TINY = 1e-9


@dataclass
class BigVGANConfig:
    """What is used of the public config.json; the rest is of training."""

    sampling_rate: int
    n_fft: int
    win_size: int
    hop_size: int
    num_mels: int
    fmin: float
    resblock: str
    activation: str
    snake_logscale: bool
    upsample_rates: list[int]
    upsample_kernel_sizes: list[int]
    upsample_initial_channel: int
    resblock_kernel_sizes: list[int]
    resblock_dilation_sizes: list[Any]
    fmax: float | None = None
    use_bias_at_final: bool = True
    use_tanh_at_final: bool = True


def is_config(values: Any) -> bool:
    """Whether a config.json is of a BigVGAN."""
    if not isinstance(values, Mapping) or "upsample_rates" not in values:
        return False
    return str(values.get("activation", "")).startswith("snake")


def read_config(values: Mapping[str, Any], where: str) -> tuple[FeatureSpec, BigVGANConfig]:
    """The front end and the sizes; UserError where the public code has no such BigVGAN."""
    names = [f.name for f in fields(BigVGANConfig)]
    optional = ("fmax", "use_bias_at_final", "use_tanh_at_final")
    missing = [n for n in names if n not in values and n not in optional]
    if missing:
        raise UserError(f"{where}: a BigVGAN's config.json tells {', '.join(missing)}, this does "
                        "not: get the file again")  # fmt: skip
    config = BigVGANConfig(**{n: values[n] for n in names if n in values})
    config = to_schema(BigVGANConfig, vars(config), where)
    rates, kernels = config.upsample_rates, config.upsample_kernel_sizes
    dilations, odd = config.resblock_dilation_sizes, config.resblock_kernel_sizes
    hop = config.hop_size
    checks = [
        (config.activation in ("snake", "snakebeta"), "activation is snake or snakebeta",
         config.activation),
        (config.resblock in ("1", "2"), "resblock is 1 or 2", config.resblock),
        (math.prod(rates) == hop, f"upsample_rates multiply to hop_size ({hop})", rates),
        (hop % 2 == 0, "hop_size is even", hop),
        (len(rates) == len(kernels)
         and all(k >= r > 0 and (k - r) % 2 == 0 for r, k in zip(rates, kernels, strict=False)),
         f"upsample_kernel_sizes are as many as the rates {rates}, each larger by an even number",
         kernels),
        (len(odd) == len(dilations) > 0 and all(k % 2 == 1 for k in odd)
         and all(isinstance(d, Sequence) and not isinstance(d, str) for d in dilations),
         "resblock_kernel_sizes are odd, with a list of dilations each", (odd, dilations)),
        (config.upsample_initial_channel % 2 ** len(rates) == 0,
         f"upsample_initial_channel is halved {len(rates)} times", config.upsample_initial_channel),
    ]  # fmt: skip
    for right, expected, found in checks:
        if not right:
            raise UserError(
                f"{where}: in a BigVGAN {expected}, found {found}: it is another network, or the "
                "file is damaged"
            )
    spec = FeatureSpec(
        sample_rate=config.sampling_rate, n_fft=config.n_fft, window=config.win_size, hop=hop,
        n_mels=config.num_mels, f_min=config.fmin, f_max=config.fmax or config.sampling_rate / 2,
        power=1.0, mel_scale="slaney", mel_norm="slaney", floor=FLOOR, mean=0.0, std=1.0,
    )  # fmt: skip
    return spec, config


def upsampling_reach(
    rates: Sequence[int],
    kernels: Sequence[int],
    block_kernels: Sequence[int],
    block_dilations: Sequence[Sequence[int]],
    second: bool,
    activation: int = 0,
) -> int:
    """Frames on either side that a sample of such a stack depends on.

    second: whether each dilated convolution of a block is followed by one that is not; activation:
    the samples that an activation reaches.
    """
    blocks = [
        sum((k - 1) // 2 * d + activation + second * ((k - 1) // 2 + activation) for d in dilations)
        for k, dilations in zip(block_kernels, block_dilations, strict=True)
    ]
    frames, rate = 3.0, 1
    for r, k in zip(rates, kernels, strict=True):
        frames += k / r / rate
        rate *= r
        frames += max(blocks) / rate
    return math.ceil(frames + (3 + activation) / rate)


class Snake(nn.Module):
    """x + sin^2(a x) / b (Ziyin et al. 2020), for each of C channels; b is a without `beta`."""

    def __init__(self, channels: int, logscale: bool, beta: bool) -> None:
        super().__init__()
        self.logscale = logscale
        self.alpha = nn.Parameter(torch.zeros(channels) if logscale else torch.ones(channels))
        self.beta = nn.Parameter(self.alpha.detach().clone()) if beta else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T) -> (B, C, T)."""
        a, b = self.alpha[:, None], (self.alpha if self.beta is None else self.beta)[:, None]
        if self.logscale:
            a, b = a.exp(), b.exp()
        return x + (a * x).sin().square() / (b + _TINY)


class AliasFree(nn.Module):
    """An activation at twice the rate, between two low-pass filters (Karras et al. 2021)."""

    def __init__(self, channels: int, config: BigVGANConfig) -> None:
        super().__init__()
        self.act = Snake(channels, config.snake_logscale, config.activation == "snakebeta")
        self.taps: Tensor
        self.register_buffer("taps", low_pass(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T) -> (B, C, T)."""
        channels, half = x.shape[1], TAPS // 2
        taps = self.taps.expand(channels, 1, TAPS)
        wide = pad(x, (half - 1, half - 1), mode="replicate")
        doubled = 2 * conv_transpose1d(wide, taps, stride=2, groups=channels)
        edge = 2 * (half - 1) + half - 1
        y = self.act(doubled[..., edge:-edge])
        return conv1d(pad(y, (half - 1, half), mode="replicate"), taps, stride=2, groups=channels)


def low_pass() -> Tensor:
    """(12,): a sinc that halves the band, in a Kaiser window for a transition of 0.6 of it."""
    half, transition = TAPS // 2, 4 * 0.6 / 2
    attenuation = 2.285 * (half - 1) * math.pi * transition + 7.95
    beta = 0.1102 * (attenuation - 8.7)  # Kaiser 1974, above 50 dB: it is 51
    window = torch.kaiser_window(TAPS, periodic=False, beta=beta)
    taps = window * torch.sinc((torch.arange(TAPS) - half + 0.5) / 2)
    return taps / taps.sum()


def _convolution(channels: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    reach = (kernel - 1) // 2 * dilation
    return nn.Conv1d(channels, channels, kernel, padding=reach, dilation=dilation)


class Block(nn.Module):
    """Convolutions of growing dilation beside a straight way; `resblock` 1 has two for each."""

    def __init__(
        self, channels: int, kernel: int, dilations: Sequence[int], config: BigVGANConfig
    ) -> None:
        super().__init__()
        dilated = nn.ModuleList(_convolution(channels, kernel, d) for d in dilations)
        self.twice = config.resblock == "1"
        if self.twice:
            self.convs1 = dilated
            self.convs2 = nn.ModuleList(_convolution(channels, kernel) for _ in dilations)
        else:
            self.convs = dilated
        count = len(dilations) * (1 + self.twice)
        self.activations = nn.ModuleList(AliasFree(channels, config) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, T) -> (B, C, T)."""
        if not self.twice:
            for convolution, activation in zip(self.convs, self.activations, strict=True):
                x = x + convolution(activation(x))
            return x
        firsts, seconds = self.activations[::2], self.activations[1::2]
        for c1, c2, a1, a2 in zip(self.convs1, self.convs2, firsts, seconds, strict=True):
            x = x + c2(a2(c1(a1(x))))
        return x


class BigVGAN(nn.Module):
    """(B, T, M) natural-log mel -> (B, T * hop), delayed by hop / 2 where the frames are centred.

    It was trained on frames whose centres lie at i * hop + hop / 2.
    """

    def __init__(self, config: BigVGANConfig) -> None:
        super().__init__()
        width = config.upsample_initial_channel
        self.conv_pre = nn.Conv1d(config.num_mels, width, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            up = nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(nn.ModuleList([up]))
            width //= 2
            for k, d in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes,
                            strict=True):  # fmt: skip
                self.resblocks.append(Block(width, k, d, config))
        self.activation_post = AliasFree(width, config)
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3, bias=config.use_bias_at_final)
        self.blocks_each = len(config.resblock_kernel_sizes)
        self.tanh = config.use_tanh_at_final
        self.delay = config.hop_size // 2
        self.reach = upsampling_reach(
            config.upsample_rates, config.upsample_kernel_sizes, config.resblock_kernel_sizes,
            config.resblock_dilation_sizes, config.resblock == "1", ACTIVATION_REACH,
        )  # fmt: skip

    def forward(self, mel: Tensor) -> Tensor:
        """mel: (B, T, M), T >= 1."""
        x = self.conv_pre(mel.transpose(1, 2))
        for i, stage in enumerate(self.ups):
            x = stage[0](x)  # type: ignore[index]
            blocks = self.resblocks[i * self.blocks_each : (i + 1) * self.blocks_each]
            x = sum(block(x) for block in blocks) / self.blocks_each
        wave: Tensor = self.conv_post(self.activation_post(x))[:, 0]
        return wave.tanh() if self.tanh else wave.clamp(-1, 1)


def own_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The public weights without the low-pass filters, which are computed here."""
    return {name: w for name, w in weights.items() if not name.endswith(".filter")}
