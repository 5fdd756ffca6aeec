"""Embeddings of time and of position."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoidal(t: Tensor, width: int, scale: float = 1000.0) -> Tensor:
    """(B,) times in [0, 1] -> (B, width) sines and cosines (Vaswani et al. 2017) of scale * t."""
    half = width // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, device=t.device) / half)
    angle = scale * t.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TimeToken(nn.Module):
    """The flow step as one token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """t (B,) -> (B, 1, D)."""
        return self.mlp(sinusoidal(t, self.width)).unsqueeze(1)


class ConvolutionalPosition(nn.Module):
    """Grouped convolutions that tell a token where it is (Baevski et al. 2020)."""

    def __init__(self, width: int, kernel: int, groups: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
            for _ in range(layers)
        )

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """x (B, T, D), valid (B, T) False at padding, or None when nothing is padded -> (B, T, D).

        Padding is set to zero before each convolution: it never changes a valid token.
        """
        y = x.transpose(1, 2)
        for layer in self.layers:
            if valid is not None:
                y = y * valid.unsqueeze(1)
            y = nn.functional.gelu(layer(y))
        return x + y.transpose(1, 2)
