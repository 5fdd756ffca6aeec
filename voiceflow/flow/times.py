"""Times: how they are drawn for training, and the grids that sampling walks along.

t = 0 is noise and t = 1 is data. A grid is a tensor (steps + 1,) that increases strictly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TIMES = ("uniform", "logit_normal", "mode_heavy")
GRIDS = ("uniform", "cosine", "sway", "shifted")

_MOST_SCALE = 2 / (math.pi - 2)  # beyond it mode_heavy and sway turn back
_MOST_SWAY = 1.7  # at _MOST_SCALE itself the last of many steps are lost in float32


def draw_times(
    count: int,
    kind: str = "uniform",
    *,
    mean: float = 0.0,
    std: float = 1.0,
    scale: float = 0.8,
    within: tuple[float, float] = (0.0, 1.0),
    stratified: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Training times t (count,) in `within`, float32, on the generator's device.

    * uniform: U[0, 1].
    * logit_normal: sigmoid of N(mean, std^2); a positive mean leans towards the data.
    * mode_heavy: with u ~ U[0, 1], 1 - u - scale (cos^2(pi u / 2) - 1 + u): a positive scale leans
      towards the middle, a negative one towards both ends, and neither end is left out
      (Esser et al. 2024, section 3.1; scale from -1 to 2 / (pi - 2)).

    stratified: one draw in each of `count` equal parts of [0, 1], before the above; in random
    order. Raises ValueError for an unknown kind or constants out of range.
    """
    if kind not in TIMES:
        raise ValueError(f"times '{kind}' are not known: choose one of {', '.join(TIMES)}")
    if not 0 <= within[0] < within[1] <= 1:
        raise ValueError(f"expected 0 <= first < last <= 1, found {within}")
    device = generator.device if generator is not None else None
    u = torch.rand(count, generator=generator, device=device)
    if stratified:
        order = torch.randperm(count, generator=generator, device=device)
        u = ((order + u) / count).clamp_max(1 - torch.finfo(u.dtype).eps)
    if kind == "logit_normal":
        if not std > 0:
            raise ValueError(f"std must be above 0, found {std}")
        tiny = torch.finfo(u.dtype).eps
        u = torch.sigmoid(mean + std * torch.special.ndtri(u.clamp(tiny, 1 - tiny)))
    elif kind == "mode_heavy":
        if not -1 <= scale <= _MOST_SCALE:
            raise ValueError(f"scale must lie in [-1, {_MOST_SCALE:.4f}], found {scale}")
        u = 1 - u - scale * (torch.cos(0.5 * math.pi * u).square() - 1 + u)
        u = u.clamp(0, 1)
    return within[0] + (within[1] - within[0]) * u


def make_grid(
    steps: int,
    kind: str = "uniform",
    *,
    sway: float = -1.0,
    shift: float = 0.5,
    within: tuple[float, float] = (0.0, 1.0),
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """A grid (steps + 1,) from within[0] to within[1]; with u even from 0 to 1 it is

    * uniform: u;
    * cosine: 1 - cos(pi u / 2), small steps near the noise;
    * sway: u + sway (cos(pi u / 2) - 1 + u), for sway in [-1, 1.7]; -1 is the cosine grid,
      0 the uniform one (Chen et al. 2024, F5-TTS);
    * shifted: shift u / (1 + (shift - 1) u), for shift > 0; under 1 the steps near the noise are
      the small ones (Esser et al. 2024, section 5.3.2, in our direction of time).

    Raises ValueError for no steps, an unknown kind or constants out of range.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, found {steps}")

    def versed(u: Tensor) -> Tensor:  # 1 - cos(pi u / 2), without its rounding near 0
        return 2 * torch.sin(0.25 * math.pi * u).square()

    formulas: dict[str, Callable[[Tensor], Tensor]] = {
        "uniform": lambda u: u,
        "cosine": versed,
        "sway": lambda u: u + sway * (u - versed(u)),
        "shifted": lambda u: shift * u / (1 + (shift - 1) * u),
    }
    if kind not in formulas:
        raise ValueError(f"grid '{kind}' is not known: choose one of {', '.join(GRIDS)}")
    if kind == "sway" and not -1 <= sway <= _MOST_SWAY:
        raise ValueError(f"sway must lie in [-1, {_MOST_SWAY}], found {sway}")
    if kind == "shifted" and not shift > 0:
        raise ValueError(f"shift must be above 0, found {shift}")
    u = torch.linspace(0, 1, steps + 1, device=device, dtype=dtype)
    grid = within[0] + (within[1] - within[0]) * formulas[kind](u)
    grid[0], grid[-1] = within[0], within[1]
    return check_grid(grid)


def given_grid(times: Sequence[float], device: torch.device | str | None = None) -> Tensor:
    """A grid of the given times, checked."""
    return check_grid(torch.tensor(list(times), dtype=torch.float32, device=device))


def check_grid(grid: Tensor) -> Tensor:
    """The grid; ValueError unless it has two times or more, within [0, 1], strictly increasing."""
    if grid.dim() != 1 or len(grid) < 2:
        raise ValueError(f"a grid has two times or more in a row, found {tuple(grid.shape)}")
    if not bool(torch.isfinite(grid).all()) or float(grid.min()) < 0 or float(grid.max()) > 1:
        raise ValueError(f"a grid's times lie in [0, 1], found {_shown(grid)}")
    if not bool((grid.diff() > 0).all()):
        raise ValueError(f"a grid's times must increase strictly, found {_shown(grid)}")
    return grid


def _shown(grid: Tensor) -> str:
    values = [f"{value:g}" for value in grid.tolist()]
    return ", ".join(values if len(values) <= 8 else [*values[:4], "...", *values[-3:]])
