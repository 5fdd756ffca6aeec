"""Log-likelihood by the instantaneous change of variables (Chen et al. 2018, theorem 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from voiceflow.flow.jacobian import Probe, basis, divergence, draw_probes
from voiceflow.flow.path import Field, Path, expand_right
from voiceflow.flow.solvers import Context, as_grid, solve

LogDensity = Callable[[Tensor], Tensor]
"""x (B, ...) -> log density (B,) in nats"""


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of each item, and what it came from.

    nats: (B,); standard_error: (B,) in nats over the probes, None where the divergence was exact or
    there was one probe; elements: (B,) how many elements each item's likelihood is of; x0:
    (B, ...) where the data come from at the first time; nfe: evaluations of the velocity.
    """

    nats: Tensor
    standard_error: Tensor | None
    elements: Tensor
    x0: Tensor
    nfe: int

    @property
    def bits_per_dimension(self) -> Tensor:
        """-log2 p over the number of elements, (B,); 0 for an item of none."""
        return -self.nats / (math.log(2) * self.elements.clamp_min(1))


def log_likelihood(
    velocity: Field,
    x1: Tensor,
    path: Path,
    steps: int | Tensor = 64,
    method: str = "rk4",
    *,
    probes: int = 0,
    probe: Probe = "rademacher",
    context: Context | None = None,
    prior: LogDensity | None = None,
    create_graph: bool = False,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-5,
) -> Likelihood:
    """log p_1(x1) = log p_0(x_0) - integral of div v(t, x_t) dt for x1 (B, ...), solved backwards.

    `probes` 0 takes the exact divergence, at the cost of as many vector-Jacobian products as an
    item has elements; otherwise Hutchinson's estimator with so many probes, fixed over the path,
    and one trajectory for all of them. With a context it is the likelihood of the masked elements
    given the others, which are held on their path. `prior` replaces the path's own log density at
    the first time (given x of the masked elements, zero elsewhere, under a context). With
    `create_graph` gradients flow to the velocity's parameters. Each item's velocity must depend on
    that item alone. Raises as `solve`.
    """
    if x1.dim() < 2:
        raise ValueError(f"x1 must be (B, ...), found {tuple(x1.shape)}")
    mask = None if context is None else context.mask
    if probes:
        directions = draw_probes(x1, probes, probe, generator)
    else:
        directions = basis(x1, mask)
    shape, size = x1.shape, x1[0].numel()

    def augmented(t: Tensor, state: Tensor) -> Tensor:
        def place_to_velocity(x: Tensor) -> Tensor:
            return velocity(t, x if context is None else context.on_path(t, x))

        x = state[:, :size].reshape(shape)
        v, found = divergence(place_to_velocity, x, directions, mask, create_graph)
        if context is not None:
            v = context.still(v)
        grown = found.T if probes else found.sum(0)[:, None]
        return torch.cat([v.flatten(1), grown], 1)

    start = torch.cat([x1.flatten(1), x1.new_zeros(len(x1), probes or 1)], 1)
    grid = as_grid(steps, x1, path)
    with torch.set_grad_enabled(create_graph):
        solution = solve(augmented, start, grid, method, reverse=True, tolerance=tolerance)
        x0 = solution.x[:, :size].reshape(shape)
        if context is not None:
            x0 = context.still(x0)
        log_prior = prior(x0) if prior is not None else path.prior.log_prob(x0, mask)
        # Backwards the integral comes with a minus: what was added up is minus the integral.
        estimates = log_prior[:, None] + solution.x[:, size:]
    spread = estimates.std(1) / math.sqrt(probes) if probes > 1 else None
    elements = torch.full((len(x1),), size, device=x1.device)
    if mask is not None:
        elements = expand_right(mask, x1).expand(shape).flatten(1).sum(1)
    return Likelihood(estimates.mean(1), spread, elements, x0, solution.nfe)
