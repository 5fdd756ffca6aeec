"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from voiceflow.training.sharding import dealt_as, mine, part_of, whole


class EMA:
    """Weights that follow those of `network`, which may be sharded; buffers are the latest, and
    what is not trained is the network's own.

    The decay grows with the updates, min(decay, (1 + n) / (10 + n)), so that the start is
    forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self._averages = {n: mine(p.detach()).clone() for n, p in self._trained().items()}

    def _trained(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.network.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, n_updates: int) -> None:
        """Move towards the network after its update number `n_updates` (from 1)."""
        decay = min(self.decay, (1 + n_updates) / (10 + n_updates))
        weights = [mine(p.detach()) for p in self._trained().values()]
        torch._foreach_lerp_(list(self._averages.values()), weights, 1 - decay)

    def state_dict(self, take: Callable[[Tensor], Tensor] = whole) -> dict[str, Tensor]:
        """The averages and buffers by the network's names, as `take` has them of what may be dealt
        out: whole, if not told otherwise, for which every process calls it.
        """
        named = dict(self.network.named_parameters())
        averages = {n: take(dealt_as(average, named[n])) for n, average in self._averages.items()}
        frozen = {n: take(p.detach()) for n, p in named.items() if n not in averages}
        kept = {n: v for n, v in self.network.state_dict().items() if n not in named}
        return {**frozen, **averages, **kept}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take `state_dict`'s averages; buffers are the network's own business."""
        for name, parameter in self._trained().items():
            self._averages[name].copy_(mine(part_of(state[name], parameter)))

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[nn.Module]:
        """The network itself, with the averages for its weights and in evaluation mode."""
        weights = {n: mine(p.detach()) for n, p in self._trained().items()}
        kept = {n: w.clone() for n, w in weights.items()}
        was_training = self.network.training
        try:
            for name, weight in weights.items():
                weight.copy_(self._averages[name])
            yield self.network.eval()
        finally:
            for name, weight in weights.items():
                weight.copy_(kept[name])
            self.network.train(was_training)
