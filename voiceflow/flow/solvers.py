"""Solving dx/dt = v(t, x) from noise at t = 0 to data at t = 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchdiffeq import odeint

SOLVERS = ("euler", "midpoint")

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(t (), x (B, ...)) -> v (B, ...)"""


@dataclass(frozen=True)
class Solution:
    """Where a solve ended, and what it cost."""

    x: Tensor
    nfe: int


def solve(velocity: Velocity, x0: Tensor, steps: int, method: str = "midpoint") -> Solution:
    """Integrate x0 (B, ...) from t = 0 to 1 in `steps` equal steps, in x0's precision.

    Raises ValueError for zero steps or an unknown method, FloatingPointError (with the time)
    when the velocity is not finite.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, found {steps}")
    if method not in SOLVERS:
        raise ValueError(f"solver '{method}' is not known: choose one of {', '.join(SOLVERS)}")
    nfe = 0

    def counted(t: Tensor, x: Tensor) -> Tensor:
        nonlocal nfe
        nfe += 1
        v = velocity(t, x)
        if not torch.isfinite(v).all():
            raise FloatingPointError(f"the velocity is not finite at t = {float(t):.4f}")
        return v

    grid = torch.linspace(0, 1, steps + 1, device=x0.device, dtype=x0.dtype)
    x = odeint(counted, x0, grid, method=method)[-1]
    return Solution(x, nfe)


def solve_clamped(
    velocity: Velocity,
    x0: Tensor,
    x1: Tensor,
    mask: Tensor,
    path_sample: Callable[[Tensor, Tensor, Tensor], Tensor],
    steps: int,
    method: str = "midpoint",
) -> Solution:
    """Solve where `mask` (B, T) is True; elsewhere x_t is held on its known path.

    The masked loss leaves the velocity of context frames untrained, so at every evaluation they
    are set to path_sample(x0, x1, t), from their known x1 (B, T, M) and the sample's own x0
    (B, T, M). At the end they are x1 exactly.
    """
    generated = mask.unsqueeze(-1)

    def clamped(t: Tensor, x: Tensor) -> Tensor:
        x = torch.where(generated, x, path_sample(x0, x1, t))
        v = velocity(t, x)
        return torch.where(generated, v, torch.zeros_like(v))

    solution = solve(clamped, x0, steps, method)
    return Solution(torch.where(generated, solution.x, x1), solution.nfe)
