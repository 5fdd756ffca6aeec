"""Batches with a budget of frames, the same for any number of processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from voiceflow.config import UserError
from voiceflow.data.dataset import Example
from voiceflow.data.masking import generator_for

BUCKET_BATCHES = 20


def balanced(groups: Sequence[str], power: float) -> list[float]:
    """How often each row comes in an epoch, so that groups get shares of size^power.

    groups: each row's speaker or language. power 1 leaves the data as they are, 0 gives every
    group the same share; the largest group's rows come once, smaller groups' more often (upsampling
    as in Conneau et al. 2020). Raises UserError for a power outside [0, 1].
    """
    if not 0 <= power <= 1:
        raise UserError(f"train.balance_power must lie in [0, 1], found {power}")
    sizes = Counter(groups)
    most = max(sizes.values())
    return [(most / sizes[group]) ** (1 - power) for group in groups]


@dataclass(frozen=True)
class Batch:
    """Examples padded to the longest; a field is (B, T, ...) by frames or (B, N) by phones.

    mel, noise: (B, T, M); frame_phones, frame_mask: (B, T); frame_lengths: (B,); phones,
    durations, mask: (B, N); phone_lengths: (B,); unconditional, t: (B,); wave: (B, samples), of no
    samples but for a vocoder. Masks are False at padding.
    """

    ids: tuple[str, ...]
    mel: Tensor
    noise: Tensor
    frame_phones: Tensor
    frame_mask: Tensor
    frame_lengths: Tensor
    phones: Tensor
    durations: Tensor
    mask: Tensor
    phone_lengths: Tensor
    unconditional: Tensor
    t: Tensor
    wave: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        tensors: dict[str, Any] = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **{k: v.to(device, non_blocking=True) for k, v in tensors.items()})


def collate(examples: Sequence[Example]) -> Batch:
    """Pad and stack; whatever is drawn was drawn before, from each example's own length."""

    def padded(values: list[Tensor]) -> Tensor:
        return pad_sequence(values, batch_first=True)

    return Batch(
        ids=tuple(e.id for e in examples),
        mel=padded([e.mel for e in examples]),
        noise=padded([e.noise for e in examples]),
        frame_phones=padded([e.frame_phones for e in examples]),
        frame_mask=padded([e.frame_mask for e in examples]),
        frame_lengths=torch.tensor([len(e.mel) for e in examples]),
        phones=padded([e.phones for e in examples]),
        durations=padded([e.durations for e in examples]),
        mask=padded([e.mask for e in examples]),
        phone_lengths=torch.tensor([len(e.phones) for e in examples]),
        unconditional=torch.tensor([e.unconditional for e in examples]),
        t=torch.tensor([e.t for e in examples]),
        wave=padded([e.wave for e in examples]),
    )


def fits(count: int, longest: int, budget: int, square_budget: int = 0) -> bool:
    """Whether so many items padded to `longest` frames are a batch.

    square_budget bounds count * longest^2, which attention's memory grows with; 0 is no bound.
    """
    return count * longest <= budget and not 0 < square_budget < count * longest**2


def bucketed(
    order: Sequence[int], lengths: Sequence[int], budget: int, square_budget: int = 0
) -> list[list[int]]:
    """`order`'s numbers in batches of at most `budget` padded frames, by length; see `fits`.

    lengths: of each number. Numbers of one length keep their order; one that is too long for the
    budgets is a batch of its own.
    """
    batches: list[list[int]] = []
    batch: list[int] = []
    for i in sorted(order, key=lambda i: lengths[i]):
        if batch and not fits(len(batch) + 1, lengths[i], budget, square_budget):
            batches.append(batch)
            batch = []
        batch.append(i)
    return [*batches, batch] if batch else batches


class FrameBudgetSampler:
    """Endless batches of (epoch, row) keys, at most `budget` padded frames each (see `fits`).

    weights: how often a row comes in an epoch, on average: 2.5 is twice or three times. Every
    epoch is a new shuffle, sorted by length inside pools of batches. The order is one for all
    processes: update u takes the next world * accumulate batches, process r the r-th run of
    `accumulate` of them, so two processes and one process with accumulation see the same. The
    last batches of an epoch that do not fill an update go into the next epoch's first.
    """

    def __init__(
        self,
        rows: Sequence[int],
        lengths: Sequence[int],
        budget: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        square_budget: int = 0,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not rows:
            raise ValueError("no rows to draw batches from")
        self.rows = list(rows)
        self.lengths = list(lengths)
        self.budget = budget
        self.seed = seed
        self.rank = rank
        self.world = world
        self.accumulate = accumulate
        self.square_budget = square_budget
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        self.epoch = 0
        self.position = 0  # batches of this epoch already given out, over all processes

    def state_dict(self) -> dict[str, int]:
        """Where the sampler is."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from `state_dict`'s place."""
        self.epoch, self.position = state["epoch"], state["position"]

    def epoch_batches(self, epoch: int) -> list[list[tuple[int, int]]]:
        """All batches of one epoch; without weights each row is in exactly one."""
        generator = generator_for(self.seed, "order", epoch)
        times = torch.arange(len(self.rows))
        if self.weights is not None:
            chance = torch.rand(len(self.rows), generator=generator, dtype=torch.float64)
            times = times.repeat_interleave((self.weights + chance).floor().long())
        shuffled = torch.randperm(len(times), generator=generator)
        order = times[shuffled].tolist()
        mean = sum(self.lengths) / len(self.lengths)
        pool_size = max(1, int(BUCKET_BATCHES * self.budget / max(mean, 1)))
        batches: list[list[tuple[int, int]]] = []
        for start in range(0, len(order), pool_size):
            pool = order[start : start + pool_size]
            for batch in bucketed(pool, self.lengths, self.budget, self.square_budget):
                batches.append([(epoch, self.rows[i]) for i in batch])
        shuffle = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[i] for i in shuffle]

    def updates(self) -> Iterator[tuple[list[list[tuple[int, int]]], dict[str, int]]]:
        """Endlessly: this process's batches of an update, and the state after it."""
        share = self.world * self.accumulate
        epoch, position = self.epoch, self.position
        batches = self.epoch_batches(epoch)[position:]
        while True:
            taken: list[list[tuple[int, int]]] = []
            while len(taken) < share:
                while not batches:
                    epoch, position = epoch + 1, 0
                    batches = self.epoch_batches(epoch)
                taken.append(batches.pop(0))
                position += 1
            mine = taken[self.rank * self.accumulate : (self.rank + 1) * self.accumulate]
            yield mine, {"epoch": epoch, "position": position}
