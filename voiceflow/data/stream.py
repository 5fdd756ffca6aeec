"""Prepared data as a stream of shards, from local disk or any fsspec address.

Each epoch the shards are put in a new order and cut into pools of a few; the pools are dealt in
turn to the readers (the loader processes of all ranks), so that each shard is read by one reader
and each utterance comes once in an epoch. Inside a pool utterances are sorted by length into
batches, and the batches shuffled. There is no shuffle buffer: where a reader stands is three
numbers, its `Cursor`, and a run that is taken up again goes on with the very next batch.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from voiceflow.config import UserError
from voiceflow.data.batching import Batch, bucketed, collate
from voiceflow.data.dataset import ExampleMaker
from voiceflow.data.masking import generator_for
from voiceflow.data.shards import Prepared

POOL_SHARDS = 8  # the most that a reader holds at once

Gather = Callable[[list[Any]], list[Any]]  # lists of all processes to one, the same on each


def deaf(_: int) -> None:
    """A loader hears none of the signals that a scheduler sends to all processes of a run.

    It goes when the process that it loads for lets it go, or is gone.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class Cursor(NamedTuple):
    """The next batch of a reader: of which epoch, which of its pools, and where in the pool."""

    epoch: int = 0
    pool: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Reader:
    """Which pools of an epoch are read: numbers `number`, `number + n_readers`, ..."""

    number: int
    n_readers: int

    def pools(self, n_shards: int, seed: int, epoch: int) -> list[list[int]]:
        """The shards of each of its pools. UserError where there are fewer shards than readers."""
        if n_shards < self.n_readers:
            raise UserError(
                f"{n_shards} shards cannot be dealt to {self.n_readers} readers (processes times "
                "train.workers): use fewer, or prepare the data with smaller --shard-utterances"
            )
        generator = generator_for(seed, "shards", epoch)
        order = torch.randperm(n_shards, generator=generator).tolist()
        size = min(POOL_SHARDS, n_shards // self.n_readers)
        pools = [order[i : i + size] for i in range(0, n_shards, size)]
        return pools[self.number :: self.n_readers]


class ShardStream(IterableDataset[tuple[Batch, Cursor]]):
    """The batches of one process's readers, each with the cursor after it.

    left_out: ids that are not given (those held out); budget: padded frames of a batch;
    cursors: where each of this process's readers begins.
    """

    def __init__(
        self,
        prepared: Prepared,
        make: ExampleMaker,
        left_out: Collection[str],
        budget: int,
        rank: int,
        world: int,
        cursors: list[Cursor],
        first: int = 0,
        square_budget: int = 0,
    ) -> None:
        self.prepared = prepared
        self.names = prepared.store.names("shards", ".parquet")
        self.make = make
        self.left_out = frozenset(left_out)
        self.budget = budget
        self.rank = rank
        self.world = world
        self.cursors = cursors
        self.first = first
        self.square_budget = square_budget

    def __iter__(self) -> Iterator[tuple[Batch, Cursor]]:
        """Endless; in a loader's process number w the reader that comes w-th from `first`."""
        info = get_worker_info()
        mine = ((0 if info is None else info.id) + self.first) % len(self.cursors)
        reader = Reader(self.rank * len(self.cursors) + mine, self.world * len(self.cursors))
        epoch, start, skip = self.cursors[mine]
        while True:
            pools = reader.pools(len(self.names), self.make.seed, epoch)
            for number, pool in enumerate(pools[start:], start):
                for batch, after in self._batches(epoch, number, pool, skip):
                    yield batch, Cursor(epoch, number, after)
                skip = 0
            epoch, start = epoch + 1, 0

    def _batches(
        self, epoch: int, number: int, pool: list[int], skip: int
    ) -> Iterator[tuple[Batch, int]]:
        """A pool's batches from number `skip` on, each with the number of the next."""
        rows = [
            row
            for shard in pool
            for row in self.prepared.framed_shard(self.names[shard])
            if row.id not in self.left_out
        ]
        lengths = [min(len(row.mel), self.make.crop_frames) for row in rows]
        generator = generator_for(self.make.seed, "pool", epoch, *pool)
        order = torch.randperm(len(rows), generator=generator).tolist()
        batches = bucketed(order, lengths, self.budget, self.square_budget)
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        for place, chosen in enumerate(shuffled[skip:], skip):
            yield collate([self.make(epoch, rows[i]) for i in batches[chosen]]), place + 1


class StreamFeed:
    """Endless updates from a stream; see `voiceflow.data.feed`."""

    def __init__(
        self,
        prepared: Prepared,
        make: ExampleMaker,
        left_out: Collection[str],
        budget: int,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        workers: int = 0,
        square_budget: int = 0,
    ) -> None:
        self.prepared = prepared
        self.make = make
        self.left_out = left_out
        self.budget = budget
        self.rank = rank
        self.world = world
        self.accumulate = accumulate
        self.workers = workers
        self.square_budget = square_budget
        self.cursors = [Cursor()] * max(1, workers)
        self.next = 0  # the reader whose turn it is

    def __iter__(self) -> Iterator[list[Batch]]:
        """This process's batches of each update."""
        stream = ShardStream(
            self.prepared, self.make, self.left_out, self.budget, self.rank, self.world,
            list(self.cursors), self.next, self.square_budget,
        )  # fmt: skip
        # Not forked: a filesystem's connections do not outlive a fork.
        context = "spawn" if self.workers and not self.prepared.is_local else None
        loader = iter(
            DataLoader(
                stream,
                batch_size=None,
                num_workers=self.workers,
                multiprocessing_context=context,
                worker_init_fn=deaf,
            )
        )
        turns = islice(cycle(range(len(self.cursors))), self.next, None)
        while True:
            batches = []
            for reader in islice(turns, self.accumulate):
                batch, self.cursors[reader] = next(loader)
                self.next = (reader + 1) % len(self.cursors)
                batches.append(batch)
            yield batches

    def state_dict(self, gather: Gather) -> dict[str, Any]:
        """Where all readers of all processes stand; every process calls it."""
        mine = {"next": self.next, "cursors": [list(c) for c in self.cursors]}
        return {"ranks": gather([mine])}

    def load_state_dict(self, state: dict[str, Any]) -> str:
        """Go on from `state_dict`'s place; returns what could not be kept, empty where nothing.

        With another number of readers the pools are dealt otherwise, and the epoch begins anew.
        """
        ranks = state["ranks"]
        before = sum(len(rank["cursors"]) for rank in ranks)
        if len(ranks) == self.world and before == self.world * len(self.cursors):
            self.next = ranks[self.rank]["next"]
            self.cursors = [Cursor(*c) for c in ranks[self.rank]["cursors"]]
            return ""
        epoch = min(c[0] for rank in ranks for c in rank["cursors"])
        self.cursors = [Cursor(epoch)] * len(self.cursors)
        self.next = 0
        return (
            f"{self.world * len(self.cursors)} readers of the stream where there were {before}: "
            f"epoch {epoch} begins anew, and part of it is heard a second time"
        )
