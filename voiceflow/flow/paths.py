"""Gaussian probability paths from noise (t = 0) to data (t = 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


def expand_time(t: Tensor, like: Tensor) -> Tensor:
    """t (B,) or () shaped to broadcast over `like` (B, ...)."""
    return t.reshape(t.shape + (1,) * (like.dim() - t.dim()))


@dataclass(frozen=True)
class OptimalTransport:
    """x_t = t x_1 + (1 - (1 - sigma_min) t) x_0 (Lipman et al. 2023, eq. 20-22).

    Straight lines: u_t = x_1 - (1 - sigma_min) x_0 does not depend on t. It ends at
    N(x_1, sigma_min^2).
    """

    sigma_min: float = 1e-5

    def alpha(self, t: Tensor) -> Tensor:
        """Weight of the data, (B,)."""
        return t

    def sigma(self, t: Tensor) -> Tensor:
        """Weight of the noise, (B,)."""
        return 1 - (1 - self.sigma_min) * t

    def sample(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """x_t (B, ...) for noise x0 (B, ...), data x1 (B, ...) and t (B,) or ()."""
        return expand_time(self.alpha(t), x1) * x1 + expand_time(self.sigma(t), x0) * x0

    def velocity(self, x0: Tensor, x1: Tensor) -> Tensor:
        """u_t = d x_t / dt (B, ...)."""
        return x1 - (1 - self.sigma_min) * x0
