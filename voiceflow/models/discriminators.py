"""Networks that tell recorded from made sound, for the vocoder's training alone."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

PERIODS = (2, 3, 5, 7, 11)
RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))  # n_fft, hop
_SLOPE = 0.1

Judged = tuple[Tensor, list[Tensor]]
"""Verdicts (B, ...), above 0 for recorded, and the layers' outputs before."""


class PeriodDiscriminator(nn.Module):
    """Looks at every p-th sample (Kong et al. 2020, section 2.3); width 1 is the published size."""

    def __init__(self, period: int, width: float = 1.0) -> None:
        super().__init__()
        self.period = period
        channels = [1, *(max(2, round(width * c)) for c in (32, 128, 512, 1024, 1024))]
        strides = (3, 3, 3, 3, 1)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (stride, 1), padding=(2, 0)))
            for (a, b), stride in zip(pairwise(channels), strides, strict=True)
        )
        self.output = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> Judged:
        """wave (B, n)."""
        missing = -wave.shape[1] % self.period
        x = nn.functional.pad(wave, (0, missing), mode="reflect")
        x = x.view(len(x), 1, -1, self.period)
        return _through(self.layers, self.output, x)


class ResolutionDiscriminator(nn.Module):
    """Looks at magnitudes of one spectrogram (Jang et al. 2021); width 1 is the published size."""

    def __init__(self, n_fft: int, hop: int, width: float = 1.0) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        c = max(2, round(32 * width))
        shapes = ((1, (3, 9), (1, 1)), (c, (3, 9), (1, 2)), (c, (3, 9), (1, 2)),
                  (c, (3, 9), (1, 2)), (c, (3, 3), (1, 1)))  # fmt: skip
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, c, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for a, kernel, stride in shapes
        )
        self.output = weight_norm(nn.Conv2d(c, 1, (3, 3), padding=(1, 1)))
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, wave: Tensor) -> Judged:
        """wave (B, n), longer than half a transform."""
        spectrum = torch.stft(
            wave, self.n_fft, self.hop, window=self.window, return_complex=True
        )
        # The root's gradient at 0 has no end.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
        return _through(self.layers, self.output, magnitude.transpose(1, 2).unsqueeze(1))


def _through(layers: nn.ModuleList, output: nn.Module, x: Tensor) -> Judged:
    features = []
    for layer in layers:
        x = nn.functional.leaky_relu(layer(x), _SLOPE)
        features.append(x)
    return output(x), features


class Discriminators(nn.Module):
    """All periods and all resolutions."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.each = nn.ModuleList(
            [PeriodDiscriminator(p, width) for p in PERIODS]
            + [ResolutionDiscriminator(n_fft, hop, width) for n_fft, hop in RESOLUTIONS]
        )

    def forward(self, wave: Tensor) -> list[Judged]:
        """wave (B, n) -> what each says."""
        return [one(wave) for one in self.each]
