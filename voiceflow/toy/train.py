"""Training a flow of points: by flow matching, and by maximum likelihood as it was done before."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from voiceflow.config import ToyConfig
from voiceflow.flow.couplings import COUPLINGS, reflow
from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.likelihood import log_likelihood
from voiceflow.flow.objective import ConditionalFlowMatching
from voiceflow.flow.times import draw_times
from voiceflow.toy.ways import PointFlow, Way

_WARMUP = 100
_BETAS = (0.9, 0.99)
_CLIP = 1.0

Loss = Callable[[PointFlow], Tensor]
"""The loss () of a flow on a fresh batch"""

Tick = Callable[[int, int], None]
"""(updates done, updates in all)"""


@dataclass(frozen=True)
class Trained:
    """A flow with its averaged weights, and the seconds it took, a reflow's couples among them."""

    flow: PointFlow
    seconds: float


def train(
    way: Way,
    mixture: GaussianMixture,
    config: ToyConfig,
    teacher: PointFlow | None = None,
    tick: Tick = lambda done, total: None,
) -> Trained:
    """Train one way from the start; the same seed gives the same weights on the same machine.

    Raises FloatingPointError when the loss is not finite.
    """
    began = time.monotonic()
    generator = torch.Generator().manual_seed(config.seed)
    flow = PointFlow(way, config, data_std(mixture))
    if way.by_likelihood:
        loss = likelihood_loss(mixture, config, generator)
        updates, rate = config.likelihood_updates, config.likelihood_learning_rate
    else:
        loss = matching_loss(flow, mixture, config, generator, teacher)
        updates, rate = config.updates, config.learning_rate
    _descend(flow, loss, updates, rate, config.ema_decay, tick)
    return Trained(flow, time.monotonic() - began)


def data_std(mixture: GaussianMixture) -> float:
    """Root of the mean variance of the mixture's elements."""
    return math.sqrt(float(mixture.covariance.diag().mean()))


def matching_loss(
    flow: PointFlow,
    mixture: GaussianMixture,
    config: ToyConfig,
    generator: torch.Generator,
    teacher: PointFlow | None = None,
) -> Loss:
    """Conditional flow matching on fresh data, or on a teacher's couples; equal weight in time."""
    objective = ConditionalFlowMatching(flow.path, weight=flow.scales.weight)
    pair = COUPLINGS[flow.way.coupling]
    couples = None
    if flow.way.teacher:
        assert teacher is not None
        noise = torch.randn(config.couples, 2, generator=generator)
        couples = reflow(teacher.velocity, teacher.path, noise)

    def batch() -> tuple[Tensor, Tensor]:
        if couples is not None:
            chosen = torch.randint(config.couples, (config.batch,), generator=generator)
            return couples[0][chosen], couples[1][chosen]
        x1 = mixture.sample(config.batch, generator)
        x0 = torch.randn(x1.shape, generator=generator)
        if flow.way.coupling == "independent":
            return x0, x1
        # The assignment costs the cube of its size: parts of a batch are paired apart.
        size = config.coupling_batch
        parts = [pair(a, b) for a, b in zip(x0.split(size), x1.split(size), strict=True)]
        return torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])

    def loss(flow: PointFlow) -> Tensor:
        x0, x1 = batch()
        t = draw_times(len(x1), within=flow.path.times, stratified=True, generator=generator)
        return objective(flow.velocity, x0, x1, t).mean

    return loss


def likelihood_loss(
    mixture: GaussianMixture, config: ToyConfig, generator: torch.Generator
) -> Loss:
    """Negative log-likelihood of fresh data in nats, through the solver (Chen et al. 2018).

    The grid is drawn anew each time: of one grid of few steps the network would learn the errors,
    and have a likelihood there that no finer grid confirms.
    """
    steps = config.likelihood_steps

    def loss(flow: PointFlow) -> Tensor:
        x1 = mixture.sample(config.likelihood_batch, generator)
        found = log_likelihood(
            flow.velocity, x1, flow.path, uneven_grid(steps, generator), "midpoint",
            create_graph=True,
        )  # fmt: skip
        return -found.nats.mean()

    return loss


def uneven_grid(steps: int, generator: torch.Generator) -> Tensor:
    """A grid (steps + 1,) from 0 to 1, each time within half a step of its even place."""
    moved = (torch.rand(steps - 1, generator=generator) - 0.5) * 0.98
    inner = (torch.arange(1, steps) + moved) / steps
    return torch.cat([torch.zeros(1), inner, torch.ones(1)])


def _descend(
    flow: PointFlow, loss: Loss, updates: int, highest_rate: float, ema_decay: float, tick: Tick
) -> None:
    """Adam with warm-up and a cosine to zero; leaves the averaged weights in the flow."""
    optimizer = torch.optim.Adam(flow.network.parameters(), highest_rate, betas=_BETAS, fused=True)
    average = [p.detach().clone() for p in flow.network.parameters()]
    for update in range(1, updates + 1):
        rate = min(1.0, update / _WARMUP) * 0.5 * (1 + math.cos(math.pi * update / updates))
        optimizer.param_groups[0]["lr"] = highest_rate * rate
        optimizer.zero_grad()
        value = loss(flow)
        if not math.isfinite(float(value.detach())):
            raise FloatingPointError(f"{flow.way.name}: the loss is not finite at update {update}")
        value.backward()
        torch.nn.utils.clip_grad_norm_(flow.network.parameters(), _CLIP)
        optimizer.step()
        decay = min(ema_decay, (1 + update) / (10 + update))
        with torch.no_grad():
            torch._foreach_lerp_(average, list(flow.network.parameters()), 1 - decay)
        tick(update, updates)
    with torch.no_grad():
        for parameter, mean in zip(flow.network.parameters(), average, strict=True):
            parameter.copy_(mean)
    flow.network.requires_grad_(False)
