"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Keeps `network`, a copy whose weights follow the trained ones.

    The decay grows with the updates, min(decay, (1 + n) / (10 + n)), so that the start is
    forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    def to(self, device: torch.device) -> EMA:
        """Move the average to a device."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def update(self, network: nn.Module, n_updates: int) -> None:
        """Move towards `network` after its update number `n_updates` (from 1)."""
        decay = min(self.decay, (1 + n_updates) / (10 + n_updates))
        mine: list[Tensor] = [p.data for p in self.network.parameters()]
        torch._foreach_lerp_(mine, [p.data for p in network.parameters()], 1 - decay)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)
