"""Which noise goes with which data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from voiceflow.flow.path import Field, Path, check_pair
from voiceflow.flow.solvers import solve

Coupling = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x0 (B, ...), x1 (B, ...)) -> the same, paired anew; the order of x1 is kept"""


def independent(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs as they were drawn."""
    check_pair(x0, x1)
    return x0, x1


def minibatch_optimal_transport(x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    """The pairing of the batch with the least sum of squared distances (Tong et al. 2024).

    Exact, by scipy's assignment; O(B^3). x1 keeps its order, and so what is known of each item.
    """
    from scipy.optimize import linear_sum_assignment

    check_pair(x0, x1)
    if x1.dim() < 2:
        raise ValueError(f"x0 and x1 must be (B, ...), found {tuple(x1.shape)}")
    cost = torch.cdist(
        x1.detach().flatten(1), x0.detach().flatten(1), compute_mode="donot_use_mm_for_euclid_dist"
    ).square()
    if not bool(torch.isfinite(cost).all()):
        raise ValueError("noise and data must be finite to be paired, found NaN or infinity")
    _, chosen = linear_sum_assignment(cost.cpu().numpy())
    return x0[torch.as_tensor(chosen, device=x0.device)], x1


@torch.no_grad()
def reflow(
    velocity: Field,
    path: Path,
    x0: Tensor,
    steps: int | Tensor = 32,
    method: str = "midpoint",
    batch: int = 4096,
) -> tuple[Tensor, Tensor]:
    """Couples of a trained flow: standard normal x0 (N, ...) and where the flow takes it (N, ...).

    A flow trained on them has straighter lines (Liu et al. 2023, the rectified flow). The state
    starts from the path's prior, prior.std * x0.
    """
    ends = [solve(velocity, path.prior.std * part, steps, method, path=path).x
            for part in x0.split(batch)]  # fmt: skip
    return x0, torch.cat(ends)


COUPLINGS: dict[str, Coupling] = {
    "independent": independent,
    "minibatch_optimal_transport": minibatch_optimal_transport,
}
"""The couplings of a batch, by name."""
