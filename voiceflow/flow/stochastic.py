"""Random walks with the flow's marginals: noise added and taken away, and random drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from voiceflow.flow.path import Field, Path
from voiceflow.flow.solvers import Checked, Context, Solution, as_grid, check_start

NoiseLevel = Callable[[Tensor], Tensor]
"""t () -> g(t) (), how much noise is added: a standard deviation per square root of time"""

Posterior = Callable[[Tensor, Tensor, torch.Generator | None], tuple[Tensor, Tensor]]
"""(t (), x (B, ...), generator) -> a pair (x_0, x_1) drawn given that x_t = x, (B, ...) each"""


def solve_stochastic(
    velocity: Field,
    x: Tensor,
    path: Path,
    steps: int | Tensor = 100,
    *,
    noise_level: NoiseLevel | None = None,
    context: Context | None = None,
    generator: torch.Generator | None = None,
    keep_states: bool = False,
) -> Solution:
    """Euler-Maruyama on dx = (v + g^2 / 2 score) dt + g dW from x (B, ...) at the first time.

    The score comes from the velocity through the path; for any g >= 0 the marginals are the flow's
    (Song et al. 2021, eq. 13; Ma et al. 2024, eq. 6). `noise_level` is g, sigma_t if not given; 0
    is Euler's method. Raises as `solve`.
    """
    check_start(x, context)
    grid = as_grid(steps, x, path)
    field = Checked(velocity, context)
    noise_level = noise_level or path.sigma

    def walk(x: Tensor) -> Iterator[Tensor]:
        yield x
        for s, t in pairwise(grid):
            v = field(s, x)
            score = path.convert(v, x, s, "velocity", "score")
            g = noise_level(s)
            drift = v + 0.5 * g.square() * score
            x = x + (t - s) * drift + g * (t - s).sqrt() * _normal(x, generator)
            yield x

    return _walked(walk(x), field, grid, context, keep_states)


def follow_random_drift(
    posterior: Posterior,
    x: Tensor,
    path: Path,
    steps: int | Tensor = 100,
    *,
    generator: torch.Generator | None = None,
    keep_states: bool = False,
) -> Solution:
    """Step along the velocity of one pair (x_0, x_1) drawn anew at each step given x_t = x.

    As if particles that meet changed identities: every snapshot keeps the flow's distribution, up
    to a variance of O(dt), since the mean of the drift is the marginal velocity. Needs a known
    posterior (`GaussianMixture.posterior_sample`). Raises as `solve`.
    """
    check_start(x, None)
    grid = as_grid(steps, x, path)

    def drift(t: Tensor, x: Tensor) -> Tensor:
        x0, x1 = posterior(t, x, generator)
        return path.velocity(x0, x1, t)

    field = Checked(drift)

    def walk(x: Tensor) -> Iterator[Tensor]:
        yield x
        for s, t in pairwise(grid):
            x = x + (t - s) * field(s, x)
            yield x

    return _walked(walk(x), field, grid, None, keep_states)


def _walked(
    states: Iterator[Tensor],
    field: Checked,
    grid: Tensor,
    context: Context | None,
    keep_states: bool,
) -> Solution:
    kept = []
    for t, x in zip(grid, states, strict=True):
        if keep_states:
            kept.append(x if context is None else context.on_path(t, x))
    if context is not None:
        x = context.finished(x)
        kept[-1:] = [x] if keep_states else []
    return Solution(x, field.nfe, field.passes, grid, torch.stack(kept) if keep_states else None)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    noise = torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype)
    return noise.to(like.device)
