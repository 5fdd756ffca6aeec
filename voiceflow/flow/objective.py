"""Conditional flow matching objectives, with sum and count apart.

A mean over a batch cannot be averaged over batches whose spans differ; a sum and a count can be
added over accumulation and processes and divided once.
"""

from __future__ import annotations

from torch import Tensor

from voiceflow.flow.paths import expand_time


def masked_squared_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Sum over masked elements of (prediction - target)^2, in float32.

    prediction, target: (B, T, M); mask: (B, T), True where the element is to be generated.
    Le et al. 2023, eq. 5: the loss counts masked frames alone.
    """
    error = (prediction.float() - target.float()).square()
    return (error * expand_time(mask, error)).sum()


def masked_count(mask: Tensor, width: int) -> int:
    """Number of elements that `masked_squared_error` adds: masked frames times `width`."""
    return int(mask.sum()) * width
