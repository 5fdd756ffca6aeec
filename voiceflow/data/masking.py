"""Which phones are to be generated, and which conditions are dropped: drawn for each sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from voiceflow.config import TaskConfig


def generator_for(*key: int | str) -> torch.Generator:
    """A generator that depends on the key alone: the same draw in any batch, on any process."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One number of U[low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


@dataclass(frozen=True)
class Draw:
    """One sample's span and drop.

    mask: (N,) True on phones to be generated; unconditional: context and phones are dropped.
    """

    mask: Tensor
    unconditional: bool


def draw_mask(lengths: Tensor, config: TaskConfig, generator: torch.Generator) -> Draw:
    """Draw which of N units are masked; `lengths` (N,) are their sizes (frames, or ones).

    With p_unconditional everything is masked and dropped; with p_mask_all everything is masked;
    else one contiguous span of r ~ U[mask_ratio_min, mask_ratio_max] of the total, its borders
    moved to the nearest unit edge, at least one unit long. A unit is masked whole or not at all.
    """
    n = len(lengths)
    unconditional = uniform(generator) < config.p_unconditional
    everything = uniform(generator) < config.p_mask_all
    ratio = uniform(generator, config.mask_ratio_min, config.mask_ratio_max)
    place = uniform(generator)
    if unconditional or everything or n == 1:
        return Draw(torch.ones(n, dtype=torch.bool), unconditional)
    edges = torch.cat([torch.zeros(1), lengths.double().cumsum(0)])
    total = float(edges[-1])
    start = place * (1 - ratio) * total
    first = int((edges - start).abs().argmin())
    last = int((edges - (start + ratio * total)).abs().argmin())
    if last <= first or float(edges[last]) <= float(edges[first]):
        sized = torch.nonzero(lengths > 0).flatten()
        if len(sized) == 0:
            return Draw(torch.ones(n, dtype=torch.bool), unconditional)
        first = int(sized[(edges[sized] - start).abs().argmin()])
        last = first + 1
    mask = torch.zeros(n, dtype=torch.bool)
    mask[first:last] = True
    return Draw(mask, unconditional)


def crop_phones(durations: np.ndarray, max_frames: int, generator: torch.Generator) -> slice:
    """A random run of whole phones of at most `max_frames` frames (all, when they fit).

    It starts at any phone up to the one after which no more is left than fits, so every phone is
    in some crop. A single phone longer than `max_frames` is taken whole; the caller bounds it.
    """
    total = int(durations.sum())
    if total <= max_frames:
        return slice(0, len(durations))
    edges = np.concatenate([[0], np.cumsum(durations)])
    fits, end = (int(i) for i in np.searchsorted(edges, [total - max_frames, total]))
    latest = min(fits, end - 1)  # where no more is left than fits, and yet something
    first = int(uniform(generator) * (latest + 1))
    last = int(np.searchsorted(edges, edges[first] + max_frames, side="right")) - 1
    heard = first + int(np.argmax(durations[first:] > 0))  # a crop has frames
    return slice(first, max(last, heard + 1))
