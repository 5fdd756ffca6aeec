"""Mixtures of Gaussians: data whose flow is known in closed form on every path."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from voiceflow.flow.path import Path, check_time, expand_right


class Posterior(NamedTuple):
    """What is known of the pair given x_t, for each of the K components.

    weight: (B, K); x1: (B, K, ...), mean of the data; x0_rate: (B, K, ...), mean of the noise over
    sigma_t; variance: (B or 1, K, ...), of x_t.
    """

    weight: Tensor
    x1: Tensor
    x0_rate: Tensor
    variance: Tensor


class GaussianMixture:
    """sum_k w_k N(m_k, s_k^2) with independent elements, of items of any shape.

    means: (K, ...); std: a number, (K,), or of the shape of means; weights: (K,), equal if not
    given, or (B, K) for a mixture of its own for each item (`given`). Every density is in nats.
    Methods that take a `mask` (any first axes of x) look at the elements where it is True alone.
    Raises ValueError for shapes that do not fit, deviations or weights that are not positive.
    """

    def __init__(
        self, means: Tensor, std: Tensor | float = 1.0, weights: Tensor | None = None
    ) -> None:
        if means.dim() < 2:
            raise ValueError(f"means must be (K, ...), found {tuple(means.shape)}")
        deviation = torch.as_tensor(std, dtype=means.dtype, device=means.device)
        if tuple(deviation.shape) not in ((), (len(means),), tuple(means.shape)):
            raise ValueError(
                f"std must be a number, ({len(means)},) or {tuple(means.shape)}, found "
                f"{tuple(deviation.shape)}"
            )
        if not bool((deviation > 0).all()):
            raise ValueError(f"deviations must be positive, found {float(deviation.min()):g}")
        self.means = means
        self.std = expand_right(deviation, means).expand_as(means)
        if weights is None:
            weights = means.new_ones(len(means))
        if weights.dim() not in (1, 2) or weights.shape[-1] != len(means):
            raise ValueError(
                f"weights must be ({len(means)},) or (B, {len(means)}), found "
                f"{tuple(weights.shape)}"
            )
        if not bool((weights >= 0).all()) or not bool((weights.sum(-1) > 0).all()):
            raise ValueError("weights must not be negative, nor all zero")
        weights = weights.to(means)
        self.weights = weights / weights.sum(-1, keepdim=True)

    @classmethod
    def symmetric_2d(
        cls,
        modes: int = 11,
        std: float = 1.0,
        radius: float = 10.0,
        dtype: torch.dtype | None = None,
    ) -> GaussianMixture:
        """Equal modes evenly on a circle about the origin, the first on the x axis."""
        if modes < 1:
            raise ValueError(f"modes must be at least 1, found {modes}")
        angle = 2 * math.pi * torch.arange(modes, dtype=dtype) / modes
        return cls(radius * torch.stack([angle.cos(), angle.sin()], 1), std)

    @property
    def modes(self) -> int:
        """How many components."""
        return len(self.means)

    @property
    def mean(self) -> Tensor:
        """Of the mixture, (...); (B, ...) where each item has its own weights."""
        return torch.tensordot(self.weights, self.means, 1)

    @property
    def covariance(self) -> Tensor:
        """Of the mixture's flattened elements, (D, D); (B, D, D) with weights for each item."""
        mean = self.mean.flatten(self.weights.dim() - 1)
        means = self.means.flatten(1) - mean.unsqueeze(-2)
        inner = torch.diag_embed(self.weights @ self.std.flatten(1).square())
        return inner + torch.einsum("...k,...ki,...kj->...ij", self.weights, means, means)

    def to(self, like: Tensor) -> GaussianMixture:
        """The mixture in the precision and on the device of a tensor."""
        return GaussianMixture(self.means.to(like), self.std.to(like), self.weights.to(like))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws (count, ...); (B, count, ...) where each item has its own weights."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        means = self.means[chosen]
        noise = torch.randn(
            means.shape, generator=generator, dtype=means.dtype, device=means.device
        )
        return means + self.std[chosen] * noise

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log density (B,) at x (B, ...)."""
        return torch.logsumexp(self._joint(x, self.means, self.std.square(), mask), 1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log density (B, ...) at x (B, ...)."""
        weight = torch.softmax(self._joint(x, self.means, self.std.square(), None), 1)
        return _average(weight, (self.means - x[:, None]) / self.std.square())

    def nearest_mode(self, x: Tensor) -> Tensor:
        """The component (B,) that x (B, ...) most likely comes from."""
        return self._joint(x, self.means, self.std.square(), None).argmax(1)

    def given(self, x: Tensor, mask: Tensor) -> GaussianMixture:
        """The mixture of the elements where `mask` is True, given those of x (B, ...) where not.

        Its elements outside the mask stay as they were: give `mask` to its methods.
        """
        weight = torch.softmax(self._joint(x, self.means, self.std.square(), ~mask), 1)
        return GaussianMixture(self.means, self.std, weight)

    def marginal_log_prob(
        self, x: Tensor, t: Tensor, path: Path, mask: Tensor | None = None
    ) -> Tensor:
        """Log density (B,) of x_t at x (B, ...), t () or (B,)."""
        mean, variance = self._marginal(x, t, path)
        return torch.logsumexp(self._joint(x, mean, variance, mask), 1)

    def marginal_score(
        self, x: Tensor, t: Tensor, path: Path, mask: Tensor | None = None
    ) -> Tensor:
        """Gradient of `marginal_log_prob` (B, ...)."""
        found = self.posterior(x, t, path, mask)
        return -_average(found.weight, found.x0_rate)

    def marginal_velocity(
        self, x: Tensor, t: Tensor, path: Path, mask: Tensor | None = None
    ) -> Tensor:
        """u_t(x) = E[u_t | x_t = x] (B, ...) at t () or (B,) (Lipman et al. 2023, eq. 8)."""
        found = self.posterior(x, t, path, mask)
        on_x1, on_x0 = (expand_right(f(t), x) for f in (path.alpha_dot, path.variance_rate))
        return on_x1 * _average(found.weight, found.x1) + on_x0 * _average(
            found.weight, found.x0_rate
        )

    def posterior(self, x: Tensor, t: Tensor, path: Path, mask: Tensor | None = None) -> Posterior:
        """The components' weights and the pair's means given x_t = x (B, ...), t () or (B,).

        In component k, x_t is N(alpha m, alpha^2 s^2 + sigma^2), jointly Gaussian with x_1 and x_0.
        """
        mean, variance = self._marginal(x, t, path)
        weight = torch.softmax(self._joint(x, mean, variance, mask), 1)
        rate = (x[:, None] - mean) / variance
        alpha = _beside_components(path.alpha(t), x)
        return Posterior(weight, self.means + alpha * self.std.square() * rate, rate, variance)

    def posterior_sample(
        self, x: Tensor, t: Tensor, path: Path, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """A pair (x_0, x_1), (B, ...) each, drawn given x_t = x (B, ...), at t () or (B,).

        A component by its weight, then x_1 of its Gaussian; x_0 from both where sigma_t is not 0.
        """
        found = self.posterior(x, t, path)
        chosen = torch.multinomial(found.weight, 1, generator=generator).squeeze(1)
        item = torch.arange(len(x), device=x.device)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        sigma = expand_right(path.sigma(t), x)
        deviation = (
            self.std[chosen] * sigma * found.variance.expand_as(found.x1)[item, chosen].rsqrt()
        )
        x1 = found.x1[item, chosen] + deviation * noise
        return path.convert(x1, x, t, "x1", "x0"), x1

    def entropy(self, reach: float = 8.0, spacing: float = 0.2) -> float:
        """Differential entropy in nats of a 2-D mixture, by quadrature on the CPU in float64.

        The trapezoid rule on a smooth density that has died away at the border, `reach` deviations
        beyond the modes, with points `spacing` deviations apart: good to 1e-9 and better.
        """
        if self.means.shape[1:] != (2,):
            raise ValueError(
                f"the entropy is known for items (2,), found {tuple(self.means.shape[1:])}"
            )
        exact = self.to(torch.zeros(0, dtype=torch.float64))
        largest = float(exact.means.abs().max()) + reach * float(exact.std.max())
        points = 1 + math.ceil(2 * largest / (spacing * float(exact.std.min())))
        axis = torch.linspace(-largest, largest, points, dtype=torch.float64)
        total = 0.0
        for row in axis:
            log_density = exact.log_prob(torch.stack([row.expand(points), axis], 1))
            total -= float((log_density.exp() * log_density).sum())
        return total * float(axis[1] - axis[0]) ** 2

    def _marginal(self, x: Tensor, t: Tensor, path: Path) -> tuple[Tensor, Tensor]:
        """Each component's mean and variance of x_t, (B or 1, K, ...)."""
        check_time(t, x)
        alpha, sigma = (_beside_components(f(t), x) for f in (path.alpha, path.sigma))
        return alpha * self.means, (alpha * self.std).square() + sigma.square()

    def _joint(self, x: Tensor, mean: Tensor, variance: Tensor, mask: Tensor | None) -> Tensor:
        """log w_k + log N(x; mean_k, variance_k), (B, K)."""
        if x.shape[1:] != self.means.shape[1:]:
            raise ValueError(
                f"items of the shape {tuple(self.means.shape[1:])} expected, found x of "
                f"{tuple(x.shape)}"
            )
        squared = (x[:, None] - mean).square() / variance
        density = -0.5 * (squared + torch.log(2 * math.pi * variance))
        if mask is not None:
            density = density * expand_right(mask, x)[:, None]
        return self.weights.log() + density.flatten(2).sum(2)


def _beside_components(value: Tensor, x: Tensor) -> Tensor:
    """A function of t, () or (B,), shaped to broadcast over (B, K, ...)."""
    return expand_right(value, x).unsqueeze(1 if value.dim() else 0)


def _average(weight: Tensor, values: Tensor) -> Tensor:
    """sum_k weight (B, K) values (B, K, ...) -> (B, ...)."""
    return torch.einsum("bk,bk...->b...", weight, values)
