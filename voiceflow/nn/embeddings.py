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
    """The flow step as one vector: a token of its own, or what modulates the blocks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """t (B,) -> (B, 1, D)."""
        return self.mlp(sinusoidal(t, self.width)).unsqueeze(1)


def rotation_of(
    n_tokens: int, head_width: int, n_exempt: int = 0, device: torch.device | None = None
) -> Tensor:
    """(2, T, d / 2) float32 cosines and sines of the angles by which `rotate` turns each token.

    Token i is turned by i * 10000^(-2c / d) in plane c (RoFormer, Su et al. 2021, section 3.2).
    The first `n_exempt` tokens are not turned, and not counted.
    """
    half = head_width // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, device=device) / half)
    position = (torch.arange(n_tokens, device=device) - n_exempt).clamp_min(0)
    angle = position[:, None] * frequency
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Queries or keys x (B, H, T, d) turned by rotation (2, T, d / 2), in float32 at least.

    Channels c and c + d / 2 span plane c. The product of a query and a key then depends on their
    distance alone (Su et al. 2021, eq. 16).
    """
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


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

        In a compiled network that is trained this part stays uncompiled, a break of the graph:
        inductor compiles the backward pass of a convolution for one T alone, so that each new
        length would be compiled anew.
        """
        if torch.compiler.is_compiling() and torch.is_grad_enabled():
            return torch.compiler.disable(self._convolve)(x, valid)
        return self._convolve(x, valid)

    def _convolve(self, x: Tensor, valid: Tensor | None) -> Tensor:
        y = x.transpose(1, 2)
        for layer in self.layers:
            if valid is not None:
                y = y * valid.unsqueeze(1)
            y = nn.functional.gelu(layer(y))
        return x + y.transpose(1, 2)
