"""A chain of Euler steps as a residual flow: exactly invertible, with an exact density.

phi_k(x) = x + delta u_k(x) is invertible while delta times u_k's Lipschitz constant is below 1
(Behrmann et al. 2019; Chen et al. 2019). It is the density of the sampler itself, with its own
steps, where `log_likelihood` gives that of the flow with infinitely many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from voiceflow.flow.jacobian import jacobian
from voiceflow.flow.path import Field
from voiceflow.flow.solvers import Checked, as_grid


class NotContractive(ArithmeticError):
    """A step of the chain cannot be inverted by fixed-point iteration; the message says which."""


@dataclass(frozen=True)
class Passed:
    """Where the chain led, and how it changed volumes.

    x: (B, ...); log_det: (B,), sum of log |det d phi_k / dx| over the steps, in the direction of
    phi; nfe: evaluations of the velocity.
    """

    x: Tensor
    log_det: Tensor
    nfe: int


class ResidualFlow:
    """Euler's method on a velocity as a chain of invertible maps, for x (B, ...).

    steps: a number of equal steps from 0 to 1, or a grid. The contraction is checked at every state
    that is visited, by the spectral norm of delta times the Jacobian there: what holds at these
    places need not hold elsewhere, but the inverse of a visited state is then its own.
    """

    def __init__(
        self,
        velocity: Field,
        steps: int | Tensor,
        tolerance: float = 1e-6,
        most_iterations: int = 200,
    ) -> None:
        self.velocity = velocity
        self.steps = steps
        self.tolerance = tolerance
        self.most_iterations = most_iterations

    @torch.no_grad()
    def forward(self, x: Tensor) -> Passed:
        """From noise x (B, ...) to data, as `solve(..., "euler")` goes; raises NotContractive."""
        field = Checked(self.velocity)
        log_det = x.new_zeros(len(x))
        for s, t in pairwise(as_grid(self.steps, x)):
            v, change = self._step(field, s, t, x)
            x, log_det = x + (t - s) * v, log_det + change
        return Passed(x, log_det, field.nfe)

    @torch.no_grad()
    def inverse(self, y: Tensor) -> Passed:
        """From data y (B, ...) to the noise that the chain leads to it; raises NotContractive."""
        field = Checked(self.velocity)
        log_det = y.new_zeros(len(y))
        grid = as_grid(self.steps, y).flip(0)
        for t, s in pairwise(grid):
            y = self._invert(field, s, t, y)
            log_det = log_det + self._step(field, s, t, y)[1]
        return Passed(y, log_det, field.nfe)

    def log_prob(self, y: Tensor, prior: Callable[[Tensor], Tensor]) -> Tensor:
        """Log density (B,) in nats of the chain at y (B, ...), for x ~ prior (a log density)."""
        found = self.inverse(y)
        return prior(found.x) - found.log_det

    def _step(self, field: Field, s: Tensor, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """v at x, and log |det| (B,) of the step from s to t there."""
        v, rows = jacobian(lambda place: field(s, place), x)
        grown = (t - s) * rows
        self._refuse(s, t, torch.linalg.matrix_norm(grown, ord=2))
        unit = torch.eye(grown.shape[-1], dtype=x.dtype, device=x.device)
        return v, torch.linalg.slogdet(unit + grown)[1]

    def _invert(self, field: Field, s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The x with x + (t - s) v(s, x) = y; each iteration must move each item less."""
        enough = self.tolerance * max(1.0, float(y.abs().max()))
        x, before = y, None
        for _ in range(self.most_iterations):
            following = y - (t - s) * field(s, x)
            moved = (following - x).flatten(1).square().mean(1).sqrt()
            x = following
            if float(moved.max()) <= enough:
                return x
            if before is not None:
                self._refuse(s, t, torch.where(moved > enough, moved / before, 0.0))
            before = moved
        raise NotContractive(
            f"the step from t = {float(s):.4f} to {float(t):.4f} was not inverted in "
            f"{self.most_iterations} iterations (the last moved by {float(moved.max()):.3g}); take "
            f"more steps"
        )

    def _refuse(self, s: Tensor, t: Tensor, factor: Tensor) -> None:
        """NotContractive when a factor (B,), of how places come together, is 1 or more."""
        if bool((factor < 1).all()):
            return
        item = int(factor.argmax())
        raise NotContractive(
            f"the step from t = {float(s):.4f} to {float(t):.4f} is not a contraction: its length "
            f"times the velocity's Lipschitz constant is {float(factor[item]):.3g} or more at item "
            f"{item} and must be below 1; take more steps"
        )
