"""How far two sets of samples are apart, as distributions."""

from __future__ import annotations

import torch
from torch import Tensor

_AT_ONCE = 1024  # rows of the distance matrix that are in memory


def energy_distance(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of samples x (N, D) and y (M, D) (Szekely and Rizzo 2013).

    The V-statistic: a square, 0 for equal sets, and never negative. Raises ValueError for shapes
    that do not fit.
    """
    _check(x, y)
    between, within_x, within_y = (_mean_distance(*pair) for pair in ((x, y), (x, x), (y, y)))
    return 2 * between - within_x - within_y


def _mean_distance(x: Tensor, y: Tensor) -> float:
    """Mean Euclidean distance over all pairs, without the rounding of |x|^2 - 2xy + |y|^2."""
    total = 0.0
    for part in x.split(_AT_ONCE):
        distances = torch.cdist(part, y, compute_mode="donot_use_mm_for_euclid_dist")
        total += float(distances.sum(1).double().sum())
    return total / (len(x) * len(y))


def sliced_wasserstein(
    x: Tensor, y: Tensor, projections: int = 200, generator: torch.Generator | None = None
) -> float:
    """Sliced 2-Wasserstein distance of samples x (N, D) and y (N, D) (Bonneel et al. 2015).

    The root of the mean, over random directions, of the squared 2-Wasserstein distance of the
    projections, which sorting gives. Raises ValueError for shapes that do not fit.
    """
    _check(x, y)
    if projections < 1:
        raise ValueError(f"projections must be at least 1, found {projections}")
    if len(x) != len(y):
        raise ValueError(f"expected as many samples of each, found {len(x)} and {len(y)}")
    directions = torch.randn(x.shape[1], projections, generator=generator).to(x)
    directions = directions / directions.norm(dim=0)
    ordered_x, ordered_y = ((samples @ directions).sort(0).values for samples in (x, y))
    return float((ordered_x - ordered_y).square().mean().sqrt())


def _check(x: Tensor, y: Tensor) -> None:
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or not len(x) or not len(y):
        raise ValueError(
            f"expected samples (N, D) and (M, D), found {tuple(x.shape)} and {tuple(y.shape)}"
        )
