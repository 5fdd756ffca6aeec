"""Log-mel to magnitudes and phase differences by a network (Masuyama et al. 2023)."""

from __future__ import annotations

from math import pi
from typing import NamedTuple

import torch
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec, filterbank
from voiceflow.config import UserError, VocoderConfig
from voiceflow.models.vocoder import Backbone

_FLOOR = 1e-4
_LOG_RANGE = (-12.0, 6.0)  # of a magnitude above what its bands spread over it
_COMPRESSION = 0.3
MAGNITUDE_WEIGHT = 2.0  # of compressed magnitudes beside their logarithms


class Told(NamedTuple):
    """What is told of a spectrum S (B, T, F) of frames whose phase is that at their centre.

    magnitude: |S|. over_time: the turn from the frame before, less that of the bin's own frequency
    over a hop. over_frequency: the turn from bin k to k + 1 (B, T, F - 1). A turn e^(i angle) is
    told as its mean, so the shorter the less sure. That of frame 0 has no meaning.
    """

    magnitude: Tensor
    over_time: Tensor
    over_frequency: Tensor


class PhaseDifferences(Backbone):
    """Tells magnitudes and how phases turn from bin to bin, for the spec's own transform.

    A phase itself depends on where a frame happens to lie, and can hardly be told from a mel;
    differences can, and are learnt by plain regression (Masuyama, Yatabe, Nagatomo and Oikawa
    2023, "Online phase reconstruction via DNN-based phase differences estimation").
    Raises UserError for a spec that is not centred, or whose windows overlap less than fourfold,
    since turns over a hop would be ambiguous.
    """

    def __init__(self, config: VocoderConfig, spec: FeatureSpec) -> None:
        super().__init__(config, spec)
        if spec.window < 4 * spec.hop:
            raise UserError(
                f"vocoder.differences needs windows of 4 hops or more: found {spec.window} "
                f"samples at a hop of {spec.hop}"
            )
        self.spec = spec
        self.n_bins = spec.n_fft // 2 + 1
        self.iterations = config.iterations
        self.head = nn.Linear(config.width, 5 * self.n_bins)
        with torch.no_grad():
            self.head.weight[: self.n_bins] = 0  # at first, the bands spread over their bins
            self.head.bias.zero_()
        self.spread: Tensor
        self.register_buffer("spread", _spread(filterbank(spec)), persistent=False)

    def forward(self, mel: Tensor) -> Told:
        """mel: (B, T, M) normalised log-mel."""
        told = self.head(self.heard(mel)).float()
        raised, *turns = told.split(self.n_bins, dim=-1)
        bands = self.spec.denormalise(mel.float()).exp()
        if self.spec.power != 1:
            bands = bands ** (1 / self.spec.power)
        magnitude = bands @ self.spread.T * raised.clamp(*_LOG_RANGE).exp()
        over_time = torch.complex(turns[0], turns[1])
        over_frequency = torch.complex(turns[2], turns[3])[..., 1:]
        return Told(magnitude, over_time, over_frequency)


def _spread(filters: Tensor) -> Tensor:
    """(F, M): each bin's magnitude as the mean of its bands', a bin of none as its neighbour's."""
    share = filters.clone()
    heard = (filters.sum(dim=1) > 0).nonzero().flatten()
    for silent in (filters.sum(dim=1) == 0).nonzero().flatten():
        share[silent] = filters[heard[(heard - silent).abs().argmin()]]
    return share / share.sum(dim=1, keepdim=True) / filters.sum(dim=0)


def spectrum(wave: Tensor, spec: FeatureSpec) -> Tensor:
    """wave (B, n) -> (B, T, F) complex, phases as at the frames' centres."""
    window = torch.hann_window(spec.window, device=wave.device)
    found = torch.stft(
        wave.float(), spec.n_fft, spec.hop, spec.window, window, center=True,
        pad_mode=spec.pad_mode, return_complex=True,
    )  # fmt: skip
    return found.transpose(1, 2) * to_centre(spec).to(wave.device)


def to_centre(spec: FeatureSpec) -> Tensor:
    """(F,) of 1 and -1: from phases as at a frame's first sample to its centre's, and back."""
    return 1.0 - 2.0 * (torch.arange(spec.n_fft // 2 + 1) % 2)


def own_turn(spec: FeatureSpec) -> Tensor:
    """(F,) complex: how far a bin's own frequency turns in a hop."""
    angle = 2 * pi * torch.arange(spec.n_fft // 2 + 1, dtype=torch.float64) * spec.hop / spec.n_fft
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


class PhaseLosses(nn.Module):
    """A network of differences and the losses that it learns from; no adversary is needed."""

    def __init__(self, config: VocoderConfig, spec: FeatureSpec) -> None:
        super().__init__()
        if config.discriminators:
            raise UserError(
                "vocoder.discriminators are for vocoder.differences=false: set them to 0"
            )
        self.vocoder = PhaseDifferences(config, spec)
        self.spec = spec

    def forward(self, mel: Tensor, wave: Tensor) -> dict[str, Tensor]:
        """mel: (B, T, M) normalised; wave: (B, (T - 1) * hop) what was recorded there -> (B,) each.

        loss: the sum of all. magnitude: the absolute error of log magnitudes. over_time,
        over_frequency: squared errors of the turns, weighted by compressed magnitudes. Frames
        whose window leaves the crop count nothing.
        """
        told = self.vocoder(mel)
        beyond = self.spec.window // self.spec.hop // 2 + 1
        inner = slice(beyond, mel.shape[1] - beyond)
        original = spectrum(wave, self.spec)[:, inner]
        over = original.abs()
        unit = original / over.clamp(min=1e-9)
        turned = unit[:, 1:] * unit[:, :-1].conj() * own_turn(self.spec).to(mel.device).conj()
        by_time = _weighted(told.over_time[:, inner][:, 1:] - turned, over[:, 1:] * over[:, :-1])
        by_frequency = _weighted(
            told.over_frequency[:, inner] - unit[..., 1:] * unit[..., :-1].conj(),
            over[..., 1:] * over[..., :-1],
        )
        magnitude = told.magnitude[:, inner]
        logs = ((magnitude + _FLOOR).log() - (over + _FLOOR).log()).abs().mean((1, 2))
        pressed = (_pressed(magnitude) - _pressed(over)).abs().mean((1, 2))
        return {
            "loss": logs + MAGNITUDE_WEIGHT * pressed + by_time + by_frequency,
            "magnitude": logs.detach(),
            "over_time": by_time.detach(),
            "over_frequency": by_frequency.detach(),
        }


def _pressed(magnitude: Tensor) -> Tensor:
    # The root's gradient at 0 has no end.
    return magnitude.clamp(min=1e-6) ** _COMPRESSION


def _weighted(error: Tensor, product: Tensor) -> Tensor:
    """(B,) squared errors, weighted by the compressed magnitudes of the two bins between them."""
    weight = product**_COMPRESSION
    weight = weight / weight.mean((1, 2), keepdim=True).clamp(min=_FLOOR)
    return (weight * (error.real.square() + error.imag.square())).mean((1, 2))
