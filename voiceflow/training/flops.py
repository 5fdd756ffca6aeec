"""How much of a machine's arithmetic a run uses."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def weights_used(network: nn.Module) -> int:
    """Weights of the linear layers, each of which is taken to see every token."""
    return sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Linear))


def update_flops(weights: int, config: Any, lengths: Tensor) -> float:
    """Operations that forward and backward of (B,) tokens need, without padding.

    Linear layers and attention, as `voiceflow benchmark speed` counts them: a multiplication and an
    addition for each weight and token, and in attention 4 T^2 D a layer (Kaplan et al. 2020, where
    the configuration has heads); the backward pass takes twice the forward's. What is computed
    again for activation checkpointing does not count.
    """
    tokens = float(lengths.sum())
    squares = float(lengths.double().square().sum()) if hasattr(config, "heads") else 0.0
    width, layers = config.width, config.layers
    return 3 * (2 * weights * tokens + 4 * layers * width * squares)
