"""Solving dx/dt = v(t, x) from noise at t = 0 to data at t = 1, or back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torchdiffeq import odeint

from voiceflow.flow.path import Field, Path, check_pair, expand_right
from voiceflow.flow.times import check_grid, make_grid

SOLVERS = ("euler", "midpoint", "heun", "rk4", "dopri5", "adams_bashforth", "dpm_multistep")
"""Orders 1, 2, 2, 4, 5 (adaptive), 2 and 2; the last two ask for one evaluation a step."""

_MOST_STEPS = 10_000  # of dopri5 between two times
_THROUGH_TORCHDIFFEQ = {
    "euler": "euler",
    "midpoint": "midpoint",
    "heun": "heun2",
    "rk4": "rk4",
    "dopri5": "dopri5",
}


@dataclass(frozen=True)
class Solution:
    """Where a solve ended, and what it cost.

    x: (B, ...); nfe: evaluations of the velocity; passes: samples' worth of network runs per
    evaluation added up, where the velocity counts them (guidance), else nfe. states:
    (len(times), B, ...) when they were asked for.
    """

    x: Tensor
    nfe: int
    passes: int
    times: Tensor
    states: Tensor | None = None


@dataclass(frozen=True)
class Context:
    """Elements that are known: held on their path x_t = alpha_t x_1 + sigma_t x_0.

    The masked loss leaves the velocity of context untrained, so it is never left to the solver.
    x0, x1: (B, ...), the sample's own noise and the known data; mask: any first axes of them, True
    where an element is to be generated.
    """

    x0: Tensor
    x1: Tensor
    mask: Tensor
    path: Path

    def __post_init__(self) -> None:
        check_pair(self.x0, self.x1)
        if self.mask.dtype != torch.bool or self.mask.shape != self.x1.shape[: self.mask.dim()]:
            raise ValueError(
                f"the mask must be boolean, of the first axes of {tuple(self.x1.shape)}; found "
                f"{self.mask.dtype} {tuple(self.mask.shape)}"
            )

    def on_path(self, t: Tensor, x: Tensor) -> Tensor:
        """x (B, ...) with the context set to what it is at time t ()."""
        return torch.where(self._generated, x, self.path.sample(self.x0, self.x1, t))

    def still(self, v: Tensor) -> Tensor:
        """v (B, ...) with zeros on the context."""
        return torch.where(self._generated, v, torch.zeros_like(v))

    def finished(self, x: Tensor) -> Tensor:
        """x (B, ...) with the context's data, exactly."""
        return torch.where(self._generated, x, self.x1)

    @property
    def _generated(self) -> Tensor:
        return expand_right(self.mask, self.x1)


class Checked:
    """A velocity that counts its evaluations, holds the context, and refuses what is not finite."""

    def __init__(self, velocity: Field, context: Context | None = None) -> None:
        self.nfe = 0
        self._velocity = velocity
        self._context = context
        self._passes_before = getattr(velocity, "passes", None)

    @property
    def passes(self) -> int:
        """Network passes since the start."""
        if self._passes_before is None:
            return self.nfe
        return int(self._velocity.passes) - self._passes_before  # type: ignore[attr-defined]

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """v (B, ...); FloatingPointError names the time where v is not finite."""
        self.nfe += 1
        v = self._velocity(t, x if self._context is None else self._context.on_path(t, x))
        if v.shape != x.shape:
            raise ValueError(f"the velocity has the shape {tuple(v.shape)}, x {tuple(x.shape)}")
        if self._context is not None:
            v = self._context.still(v)
        if not bool(torch.isfinite(v).all()):
            raise FloatingPointError(f"the velocity is not finite at t = {float(t):.4f}")
        return v


def solve(
    velocity: Field,
    x: Tensor,
    steps: int | Tensor = 32,
    method: str = "midpoint",
    *,
    path: Path | None = None,
    context: Context | None = None,
    reverse: bool = False,
    keep_states: bool = False,
    tolerance: float = 1e-5,
) -> Solution:
    """Integrate x (B, ...) in its own precision: from noise to data, or in reverse.

    `steps` is a number of equal steps over the path's times (0 to 1 without a path) or a grid of
    increasing times (`make_grid`). dopri5 takes the steps that `tolerance` (relative and absolute)
    asks for, and the grid is where states are kept. dpm_multistep needs the path, whose half log
    SNR it steps in. With a context only the masked elements are integrated, and the context ends as
    its data. Raises ValueError for no steps, a bad grid, an unknown method or shapes that do not
    fit, FloatingPointError (with the time) when the velocity is not finite.
    """
    if method not in SOLVERS:
        raise ValueError(f"solver '{method}' is not known: choose one of {', '.join(SOLVERS)}")
    check_start(x, context)
    grid = as_grid(steps, x, path)
    if reverse:
        grid = grid.flip(0)
    field = Checked(velocity, context)
    if method == "adams_bashforth":
        states = _last_or_all(_adams_bashforth(field, x, grid), keep_states)
    elif method == "dpm_multistep":
        if path is None or reverse:
            raise ValueError("dpm_multistep needs the path, and runs from noise to data alone")
        states = _last_or_all(_dpm_multistep(field, x, grid, path), keep_states)
    else:
        states = _through_torchdiffeq(field, x, grid, method, tolerance, keep_states)
    if context is not None:
        # What a solver left on the context is the start's; all states but the last are on the path.
        on_path = [context.on_path(t, s) for t, s in zip(grid, states[:-1], strict=False)]
        states = [*on_path, context.finished(states[-1])]
    kept = torch.stack(states) if keep_states else None
    return Solution(states[-1], field.nfe, field.passes, grid, kept)


def check_start(x: Tensor, context: Context | None) -> None:
    """ValueError unless x is of a floating type and of the context's shape."""
    if not x.is_floating_point():
        raise ValueError(f"x must be of a floating type, found {x.dtype}")
    if context is not None:
        check_pair(context.x1, x)


def as_grid(steps: int | Tensor, x: Tensor, path: Path | None = None) -> Tensor:
    """The grid that `steps` stands for, beside x: equal steps over the path's times, or itself."""
    if isinstance(steps, Tensor):
        return check_grid(steps).to(x)
    within = (0.0, 1.0) if path is None else path.times
    return make_grid(steps, within=within, device=x.device, dtype=x.dtype)


def _last_or_all(states: Iterator[Tensor], keep_all: bool) -> list[Tensor]:
    if keep_all:
        return list(states)
    last = None
    for last in states:  # noqa: B007
        pass
    assert last is not None
    return [last]


def _through_torchdiffeq(
    field: Field, x: Tensor, grid: Tensor, method: str, tolerance: float, keep_all: bool
) -> list[Tensor]:
    if method == "dopri5":
        return _dopri5(field, x, grid if keep_all else grid[[0, -1]], tolerance)
    if keep_all:
        return list(odeint(field, x, grid, method=_THROUGH_TORCHDIFFEQ[method]))
    for ends in grid.unfold(0, 2, 1):  # step by step: torchdiffeq keeps the states of a whole grid
        x = odeint(field, x, ends, method=_THROUGH_TORCHDIFFEQ[method])[-1]
    return [x]


def _dopri5(field: Field, x: Tensor, grid: Tensor, tolerance: float) -> list[Tensor]:
    # By default it takes time in float64, which some accelerators do not have, and looks beyond the
    # last time, in its steps and in choosing the first of them.
    first_step = float((grid[-1] - grid[0]).abs()) / 64
    options = {
        "dtype": x.dtype,
        "step_t": grid[-1:],
        "first_step": first_step,
        "max_num_steps": _MOST_STEPS,
    }
    try:
        return list(
            odeint(field, x, grid, method="dopri5", rtol=tolerance, atol=tolerance, options=options)
        )
    except AssertionError as error:  # a step that got too small, or too many of them
        raise ArithmeticError(
            f"dopri5 cannot keep a tolerance of {tolerance:g} in {x.dtype} ({error}); ask for less "
            "or take a solver of fixed steps"
        ) from error


def _adams_bashforth(field: Field, x: Tensor, grid: Tensor) -> Iterator[Tensor]:
    """Second order on uneven steps; the first step is Euler's.

    x + h ((1 + w / 2) v_n - (w / 2) v_(n-1)) with w = h / h_before (Hairer, Norsett and Wanner
    1993, section III.5).
    """
    yield x
    before = step_before = None
    for step, t in zip(grid.diff(), grid, strict=False):
        v = field(t, x)
        if before is None or step_before is None:
            x = x + step * v
        else:
            half_ratio = step / (2 * step_before)
            x = x + step * ((1 + half_ratio) * v - half_ratio * before)
        before, step_before = v, step
        yield x


def _dpm_multistep(field: Field, x: Tensor, grid: Tensor, path: Path) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) on the x_1 that the velocity stands for.

    With x_1 fixed over a step the solution is exact; here it is extrapolated along lambda, the half
    log SNR. The first step is of first order, and so are those that leap more than twice as far as
    the one before: towards the data lambda may grow without bound.
    """
    yield x
    before = lambda_step_before = None
    for s, t in pairwise(grid):
        x1 = path.convert(field(s, x), x, s, "velocity", "x1")
        lambda_step = path.half_log_snr(t) - path.half_log_snr(s)
        guess = x1
        if before is not None and lambda_step_before is not None:
            ratio = lambda_step / (2 * lambda_step_before)
            if bool(ratio <= 1):
                guess = x1 + ratio * (x1 - before)
        shrink = path.sigma(t) / path.sigma(s)
        x = shrink * x + (path.alpha(t) - shrink * path.alpha(s)) * guess
        before, lambda_step_before = x1, lambda_step
        yield x
