"""The Gaussian paths in use; see `path.py` for what they have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from voiceflow.flow.path import Ends, Path

_SMALLEST_SIGMA = 1e-4  # what the derivative of a square root divides by, at the least
_SINGULAR_END = 1 - 1e-5  # where the integration of a velocity that is singular at t = 1 stops


@dataclass(frozen=True)
class OptimalTransport(Path):
    """alpha = t, sigma = 1 - (1 - sigma_min) t (Lipman et al. 2023, eq. 20-22).

    Straight lines: u_t = x_1 - (1 - sigma_min) x_0 does not depend on t.
    """

    sigma_min: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < 1:
            raise ValueError(f"sigma_min must lie in [0, 1), found {self.sigma_min}")

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - (1 - self.sigma_min) * t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma_min - 1)

    @property
    def ends(self) -> Ends:
        return Ends(sigma_1=self.sigma_min)


@dataclass(frozen=True)
class VariancePreserving(Path):
    """alpha = exp(-T(1 - t) / 2), sigma^2 = 1 - alpha^2 (Song et al. 2021; Lipman et al., eq. 19).

    T(s) = beta_min s + (beta_max - beta_min) s^2 / 2. It starts at alpha = exp(-T(1) / 2), which is
    small but not 0; sigma' is singular at t = 1.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(
                f"expected 0 < beta_min <= beta_max, found {self.beta_min} and {self.beta_max}"
            )

    def _integral(self, t: Tensor) -> Tensor:
        s = 1 - t
        return self.beta_min * s + 0.5 * (self.beta_max - self.beta_min) * s * s

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * (1 - t)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self._integral(t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    def alpha_dot(self, t: Tensor) -> Tensor:
        return 0.5 * self._beta(t) * self.alpha(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return self.variance_rate(t) / self.sigma(t).clamp_min(_SMALLEST_SIGMA)

    def variance_rate(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.alpha_dot(t)

    @property
    def ends(self) -> Ends:
        total = 0.5 * (self.beta_min + self.beta_max)
        return Ends(math.exp(-0.5 * total), math.sqrt(-math.expm1(-total)))

    @property
    def times(self) -> tuple[float, float]:
        return (0.0, _SINGULAR_END)


@dataclass(frozen=True)
class VarianceExploding(Path):
    """alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^(1 - t) (Song et al. 2021).

    The data are there from the start, under noise so wide that the prior N(0, sigma_max^2) hides
    them: sigma_max must be several times the data's extent.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"expected 0 < sigma_min < sigma_max, found {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.exp(self._log_ratio * (1 - t))

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -self._log_ratio * self.sigma(t)

    @property
    def ends(self) -> Ends:
        return Ends(1.0, self.sigma_max, 1.0, self.sigma_min)


@dataclass(frozen=True)
class Trigonometric(Path):
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2): a quarter of a circle.

    Its velocity is pi / 2 times the v-prediction (Salimans and Ho 2022).
    """

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * (1 - t))  # the cosine, and exactly 0 at t = 1

    def alpha_dot(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi * self.sigma(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -0.5 * math.pi * self.alpha(t)


@dataclass(frozen=True)
class SquareRootVariance(Path):
    """alpha = t, sigma^2 = 1 - t.

    sigma' is singular at t = 1, and the unweighted velocity loss has an infinite expectation:
    train it on x_1, or with the weight 1 - t.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(1 - t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -0.5 / self.sigma(t).clamp_min(_SMALLEST_SIGMA)

    def variance_rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -0.5)

    @property
    def times(self) -> tuple[float, float]:
        return (0.0, _SINGULAR_END)


@dataclass(frozen=True)
class Polynomial(Path):
    """alpha = t^n, sigma = 1 - t^n, for n of 1 or more."""

    n: float = 2.0

    def __post_init__(self) -> None:
        if not self.n >= 1:
            raise ValueError(
                f"n must be at least 1 (under it the derivative is singular at t = 0), "
                f"found {self.n}"
            )

    def alpha(self, t: Tensor) -> Tensor:
        return t**self.n

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t**self.n

    def alpha_dot(self, t: Tensor) -> Tensor:
        return self.n * t ** (self.n - 1)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -self.alpha_dot(t)


PATHS: dict[str, type[Path]] = {
    "optimal_transport": OptimalTransport,
    "variance_preserving": VariancePreserving,
    "variance_exploding": VarianceExploding,
    "trigonometric": Trigonometric,
    "square_root_variance": SquareRootVariance,
    "polynomial": Polynomial,
}
"""The paths by name."""


def make_path(name: str) -> Path:
    """The named path with its default constants; ValueError names the known ones."""
    if name not in PATHS:
        raise ValueError(f"path '{name}' is not known: choose one of {', '.join(PATHS)}")
    return PATHS[name]()
