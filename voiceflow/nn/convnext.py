"""ConvNeXt blocks over time (Liu et al. 2022, in one dimension as in Vocos)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, two linear layers with GELU, all beside a straight way.

    A long kernel, never a dilated one: on a CPU that is ten times slower.
    """

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """x (B, T, D), valid (B, T) False at padding, or None -> (B, T, D).

        Padding is set to zero before the convolution: it never changes a valid frame.
        """
        y = x if valid is None else x * valid.unsqueeze(-1)
        y = self.depthwise(y.transpose(1, 2)).transpose(1, 2)
        y = self.down(nn.functional.gelu(self.up(self.norm(y))))
        return x + self.scale * y
