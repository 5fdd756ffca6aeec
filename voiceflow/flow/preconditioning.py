"""Scales that let a network see and say numbers near 1 on any path, at any time."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from voiceflow.flow.path import Field, Path, expand_right

_SMALLEST_OUT = 1e-3  # in deviations of the data


@dataclass(frozen=True)
class Preconditioning:
    """velocity = skip(t) x + out(t) F(t, into(t) x), for data of deviation `data_std` about 0.

    skip x is the best linear guess of u_t at x_t, and out the deviation of what it leaves, so F has
    a target of unit variance (Karras et al. 2022, section 5, for any Gaussian path). The loss with
    the weight 1 / out^2 is then the plain squared error of F: equal weight at all times, and finite
    where the velocity's own is not (square-root variance: out^2 grows as 1 / (1 - t)).
    """

    path: Path
    data_std: float

    def __post_init__(self) -> None:
        if not self.data_std > 0:
            raise ValueError(f"data_std must be above 0, found {self.data_std}")

    def variance(self, t: Tensor) -> Tensor:
        """Of x_t, for data N(0, data_std^2)."""
        return (self.path.alpha(t) * self.data_std).square() + self.path.sigma(t).square()

    def into(self, t: Tensor) -> Tensor:
        """What x_t is multiplied with to have unit variance."""
        return self.variance(t).rsqrt()

    def skip(self, t: Tensor) -> Tensor:
        """Covariance of u_t and x_t over the variance of x_t."""
        path = self.path
        on_data = path.alpha(t) * path.alpha_dot(t) * self.data_std**2
        return (on_data + path.variance_rate(t)) / self.variance(t)

    def out(self, t: Tensor) -> Tensor:
        """Deviation of u_t given x_t, for data N(0, data_std^2)."""
        path = self.path
        across = path.alpha_dot(t) * path.sigma(t) - path.alpha(t) * path.sigma_dot(t)
        return self.data_std * across.abs() * self.into(t)

    def weight(self, t: Tensor) -> Tensor:
        """1 / out^2: the weight by time (B,) of the velocity's squared error.

        Where out is 0 (polynomial paths, at t = 0) it stops growing.
        """
        return self.out(t).clamp_min(_SMALLEST_OUT * self.data_std).square().reciprocal()

    def velocity(self, network: Field, t: Tensor, x: Tensor) -> Tensor:
        """The velocity (B, ...) that the network's output stands for; t (B,), x (B, ...)."""
        said = network(t, expand_right(self.into(t), x) * x)
        return expand_right(self.skip(t), x) * x + expand_right(self.out(t), x) * said
