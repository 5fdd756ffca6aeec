"""What a Gaussian probability path is: x_t = alpha_t x_1 + sigma_t x_0, noise at t = 0, data at 1.

x_0 is standard normal on every path. A path knows its two functions and their derivatives; samples,
velocities and conversions follow from them. It declares its ends, its prior (what sampling starts
from), and the times between which its velocity may be integrated. The paths themselves stand in
`paths.py`; `FunctionPath` makes one of any two functions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

Quantity = Literal["velocity", "x1", "x0", "v", "score"]
"""What a network may predict of x_t: u_t, the data, the noise (epsilon), the v-prediction
sigma_t x_1 - alpha_t x_0 (Salimans and Ho 2022, with time and sign turned), or the score."""

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

Field = Callable[[Tensor, Tensor], Tensor]
"""A velocity, or a network that predicts a quantity: (t () or (B,), x (B, ...)) -> (B, ...)"""

_SMALLEST = 1e-6  # what a conversion divides by, at the least
_INSIDE = 1e-6  # how far from an end a derivative is taken that is not finite there


def expand_right(x: Tensor, like: Tensor) -> Tensor:
    """`x`, of the first axes of `like`, with axes of length 1 added on the right."""
    return x.reshape(x.shape + (1,) * (like.dim() - x.dim()))


def check_time(t: Tensor, x: Tensor) -> None:
    """ValueError unless t is (), (B,) or any first axes of x (B, ...), and within [0, 1].

    The values are looked at on a CPU alone: on a GPU that would wait for it at every step.
    """
    if not t.is_floating_point():
        raise ValueError(f"t must be of a floating type, found {t.dtype}")
    if t.shape != x.shape[: t.dim()]:
        raise ValueError(
            f"t has the shape {tuple(t.shape)}, expected () or the first axes of {tuple(x.shape)}"
        )
    if t.device.type == "cpu" and not bool(((t >= 0) & (t <= 1)).all()):
        wrong = t[~((t >= 0) & (t <= 1))].flatten()[0]
        raise ValueError(f"t must lie in [0, 1] (0 noise, 1 data), found {float(wrong):g}")


def check_pair(x0: Tensor, x1: Tensor) -> None:
    """ValueError unless noise and data have one shape."""
    if x0.shape != x1.shape:
        raise ValueError(
            f"x0 and x1 must have one shape, found {tuple(x0.shape)} and {tuple(x1.shape)}"
        )


@dataclass(frozen=True)
class Ends:
    """alpha and sigma at t = 0 and at t = 1."""

    alpha_0: float = 0.0
    sigma_0: float = 1.0
    alpha_1: float = 1.0
    sigma_1: float = 0.0


@dataclass(frozen=True)
class Prior:
    """N(0, std^2) on every element: what sampling starts from."""

    std: float = 1.0

    def sample(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws (shape), on the generator's device."""
        device = generator.device if generator is not None else None
        return self.std * torch.randn(shape, generator=generator, device=device)

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log density (B,) in nats of x (B, ...), of its elements where `mask` is True."""
        density = -0.5 * (x / self.std).square() - math.log(self.std) - 0.5 * math.log(2 * math.pi)
        if mask is not None:
            density = density * expand_right(mask, x)
        return density.flatten(1).sum(1)


class Path(ABC):
    """A pair of functions of time; all of t (B,) or (), in t's precision, finite on [0, 1]."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Weight of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Weight of the noise."""

    @abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """d alpha / dt."""

    @abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor:
        """d sigma / dt; where it is singular, a large finite number."""

    @property
    def ends(self) -> Ends:
        """Declared values at t = 0 and 1; `check_ends` compares the functions with them."""
        return Ends()

    @property
    def prior(self) -> Prior:
        """What sampling starts from at t = 0."""
        return Prior(self.ends.sigma_0)

    @property
    def times(self) -> tuple[float, float]:
        """Between which times the velocity may be integrated: (0, 1) unless an end is singular."""
        return (0.0, 1.0)

    def variance_rate(self, t: Tensor) -> Tensor:
        """sigma sigma' = (sigma^2)' / 2, finite at the ends also where sigma' is not."""
        return self.sigma(t) * self.sigma_dot(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        """lambda = log(alpha / sigma); infinite where either is zero (Lu et al. 2022)."""
        return self.alpha(t).log() - self.sigma(t).log()

    def sample(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """x_t (B, ...) for noise x0 (B, ...), data x1 (B, ...) and t (B,) or ().

        Raises ValueError for shapes that do not fit or a t outside [0, 1].
        """
        return self._combine(self.alpha, self.sigma, x0, x1, t)

    def velocity(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """u_t = alpha' x1 + sigma' x0 = d x_t / dt (B, ...) (Lipman et al. 2023, theorem 3)."""
        return self._combine(self.alpha_dot, self.sigma_dot, x0, x1, t)

    def quantity(self, name: Quantity, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        """The named quantity of the pair at time t (B, ...): a network's target."""
        check_pair(x0, x1)
        check_time(t, x1)
        if name == "score":
            return -x0 / expand_right(self._positive_sigma(t), x0)
        on_x1, on_x0 = self._weights(name, t)
        return expand_right(on_x1, x1) * x1 + expand_right(on_x0, x0) * x0

    def convert(
        self, value: Tensor, xt: Tensor, t: Tensor, source: Quantity, target: Quantity
    ) -> Tensor:
        """The quantity `target` (B, ...) where `source` has the value (B, ...) at x_t (B, ...).

        x_t and any one quantity determine x_1 and x_0, and so the others. Where that fails (x_1
        from x_0 where alpha is 0, x_0 from x_1 or the score where sigma is 0) the divisor is held
        at 1e-6: finite, and right in the limit alone.
        """
        check_pair(value, xt)
        check_time(t, xt)
        for name in (source, target):
            if name not in QUANTITIES:
                raise ValueError(f"'{name}' is not one of {', '.join(QUANTITIES)}")
        if source == target:
            return value
        if source == "score":
            return self.convert(-expand_right(self.sigma(t), xt) * value, xt, t, "x0", target)
        if target == "score":
            noise = self.convert(value, xt, t, source, "x0")
            return -noise / expand_right(self._positive_sigma(t), xt)
        alpha, sigma = (expand_right(f(t), xt) for f in (self.alpha, self.sigma))
        on_x1, on_x0 = (expand_right(w, xt) for w in self._weights(source, t))
        determinant = alpha * on_x0 - sigma * on_x1
        sign = torch.where(determinant < 0, -1.0, 1.0).to(determinant.dtype)
        determinant = sign * determinant.abs().clamp_min(_SMALLEST)
        x1 = (on_x0 * xt - sigma * value) / determinant
        x0 = (alpha * value - on_x1 * xt) / determinant
        on_x1, on_x0 = (expand_right(w, xt) for w in self._weights(target, t))
        return on_x1 * x1 + on_x0 * x0

    def check_ends(self) -> None:
        """ValueError when alpha or sigma does not meet the ends that the path declares."""
        for t in (0, 1):
            time = torch.tensor(float(t))
            for name in ("alpha", "sigma"):
                declared = getattr(self.ends, f"{name}_{t}")
                found = float(getattr(self, name)(time))
                if not abs(found - declared) <= 1e-5 * max(1.0, abs(declared)):
                    raise ValueError(
                        f"{type(self).__name__}: {name} is {found:g} at t = {t}, but the path "
                        f"declares {declared:g}; mend the function or the declared ends"
                    )

    def _combine(
        self,
        weight_of_x1: Callable[[Tensor], Tensor],
        weight_of_x0: Callable[[Tensor], Tensor],
        x0: Tensor,
        x1: Tensor,
        t: Tensor,
    ) -> Tensor:
        check_pair(x0, x1)
        check_time(t, x1)
        return expand_right(weight_of_x1(t), x1) * x1 + expand_right(weight_of_x0(t), x0) * x0

    def _weights(self, name: Quantity, t: Tensor) -> tuple[Tensor, Tensor]:
        """The quantity is the first times x_1 plus the second times x_0."""
        if name == "velocity":
            return self.alpha_dot(t), self.sigma_dot(t)
        if name == "x1":
            return torch.ones_like(t), torch.zeros_like(t)
        if name == "x0":
            return torch.zeros_like(t), torch.ones_like(t)
        if name == "v":
            return self.sigma(t), -self.alpha(t)
        raise ValueError(f"'{name}' is not one of {', '.join(QUANTITIES)}")

    def _positive_sigma(self, t: Tensor) -> Tensor:
        return self.sigma(t).clamp_min(_SMALLEST)


@dataclass(frozen=True)
class FunctionPath(Path):
    """Any pair of functions of time, elementwise and differentiable by torch.

    Where a derivative is not finite at an end, that of a time 1e-6 further in stands for it. Raises
    ValueError when the functions do not meet the declared ends.
    """

    alpha_function: Callable[[Tensor], Tensor]
    sigma_function: Callable[[Tensor], Tensor]
    declared_ends: Ends = field(default_factory=Ends)
    declared_prior: Prior | None = None
    declared_times: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        self.check_ends()

    def alpha(self, t: Tensor) -> Tensor:
        return self.alpha_function(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_function(t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        return _derivative(self.alpha_function, t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return _derivative(self.sigma_function, t)

    def variance_rate(self, t: Tensor) -> Tensor:
        return 0.5 * _derivative(lambda time: self.sigma_function(time).square(), t)

    @property
    def ends(self) -> Ends:
        return self.declared_ends

    @property
    def prior(self) -> Prior:
        return self.declared_prior or super().prior

    @property
    def times(self) -> tuple[float, float]:
        return self.declared_times


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    def at(time: Tensor) -> Tensor:
        return torch.func.jvp(function, (time,), (torch.ones_like(time),))[1]

    # Both always: to look first whether it is finite would wait for a GPU at every step.
    found, inside = at(t), at(t.clamp(_INSIDE, 1 - _INSIDE))
    return torch.where(torch.isfinite(found), found, inside)
