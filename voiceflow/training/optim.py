"""The optimiser and its learning rate."""

from __future__ import annotations

from torch import nn, optim

from voiceflow.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> optim.Adam:
    """Adam, as in the paper, of what is trained."""
    first, second = config.betas
    trained = [p for p in network.parameters() if p.requires_grad]
    return optim.Adam(trained, lr=config.learning_rate, betas=(first, second), fused=True)


def learning_rate(update: int, config: TrainConfig) -> float:
    """The rate of update number `update` (from 0): linear warm-up, then linear decay to zero."""
    warm = min(1.0, (update + 1) / max(config.warmup_updates, 1))
    left = (config.updates - update) / max(config.updates - config.warmup_updates, 1)
    return config.learning_rate * min(warm, max(left, 0.0), 1.0)
