"""Flow matching objectives, with sum and count apart.

A mean over a batch cannot be averaged over batches whose spans differ; a sum and a count can be
added over accumulation and processes and divided once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from voiceflow.flow.path import (
    QUANTITIES,
    Field,
    Path,
    Quantity,
    check_pair,
    check_time,
    expand_right,
)

TimeWeight = Callable[[Tensor], Tensor]
"""t (B,) -> the weight of the squared error at that time (B,)"""


@dataclass(frozen=True)
class Loss:
    """A summed squared error (), and over how many elements it was summed ()."""

    total: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """total / count; 0 where nothing was counted."""
        return self.total / self.count.clamp_min(1)


def masked_squared_error(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Sum over masked elements of weight * (prediction - target)^2, in float32 or better.

    prediction, target: (B, ...); mask: any first axes of them, True where an element is to be
    generated (None: everywhere); weight: (B,). Le et al. 2023, eq. 5: the loss counts masked
    frames alone.
    """
    check_pair(target, prediction)
    precision = torch.promote_types(prediction.dtype, torch.float32)
    error = prediction.to(precision) - target.to(precision)
    if mask is not None:
        error = error.masked_fill(~expand_right(mask, error), 0)
    squared = error.square()
    if weight is not None:
        squared = squared * expand_right(weight, squared)
    return squared.sum()


def masked_count(mask: Tensor, width: int) -> int:
    """Number of elements that `masked_squared_error` adds: masked positions times `width`."""
    return int(mask.sum()) * width


def one_minus_t(t: Tensor) -> Tensor:
    """The weight 1 - t, under which the square-root variance path has a finite velocity loss."""
    return 1 - t


@dataclass(frozen=True)
class FlowMatching:
    """E |v(t, x_t) - u_t(x_t)|^2, the marginal velocity known (Lipman et al. 2023, eq. 5)."""

    marginal_velocity: Field
    weight: TimeWeight | None = None

    def __call__(self, network: Field, xt: Tensor, t: Tensor) -> Loss:
        """Loss of the network on draws xt (B, ...) of the marginals at t (B,)."""
        check_time(t, xt)
        weight = None if self.weight is None else self.weight(t)
        target = self.marginal_velocity(t, xt)
        total = masked_squared_error(network(t, xt), target, weight=weight)
        return Loss(total, torch.tensor(xt.numel(), device=xt.device))


@dataclass(frozen=True)
class ConditionalFlowMatching:
    """E |v(t, x_t) - u_t(x_t | x_1)|^2 (Lipman et al. 2023, eq. 9), on masked elements if asked.

    `predicts` is what the network says of x_t; `measured` is the quantity that the squared error is
    taken of, reached through the path's conversions. `weight` is a weight by time. Raises
    ValueError for an unknown quantity or a path that does not meet its ends.
    """

    path: Path
    predicts: Quantity = "velocity"
    measured: Quantity = "velocity"
    weight: TimeWeight | None = None

    def __post_init__(self) -> None:
        for name in (self.predicts, self.measured):
            if name not in QUANTITIES:
                raise ValueError(f"'{name}' is not one of {', '.join(QUANTITIES)}")
        self.path.check_ends()

    def __call__(
        self, network: Field, x0: Tensor, x1: Tensor, t: Tensor, mask: Tensor | None = None
    ) -> Loss:
        """Loss for noise x0 and data x1 (B, ...), t (B,), mask any first axes of them.

        x_t on context (where mask is False) lies on its known path, as it does at inference.
        """
        xt = self.path.sample(x0, x1, t)
        said = self.path.convert(network(t, xt), xt, t, self.predicts, self.measured)
        target = self.path.quantity(self.measured, x0, x1, t)
        weight = None if self.weight is None else self.weight(t)
        total = masked_squared_error(said, target, mask, weight)
        counted = torch.ones(len(x1), dtype=torch.bool, device=x1.device) if mask is None else mask
        count = counted.sum() * (x1.numel() // counted.numel())
        return Loss(total, count)
