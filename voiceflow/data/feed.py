"""What a training run is fed: this process's batches of every update, and where it stands.

Memory-mapped data are fed in one order for any number of processes (`MappedFeed`); a stream deals
its shards to the processes there are (`StreamFeed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import DataLoader

from voiceflow.config import RunConfig, UserError
from voiceflow.data.batching import Batch, FrameBudgetSampler, balanced, collate, fits
from voiceflow.data.dataset import ExampleDataset, ExampleMaker
from voiceflow.data.shards import Prepared
from voiceflow.data.stream import Gather, StreamFeed, deaf
from voiceflow.data.waves import Waves

BALANCES = ("none", "speaker", "language")


class Feed(Protocol):
    """Endless updates, resumable."""

    def __iter__(self) -> Iterator[list[Batch]]:
        """This process's batches of each update."""
        ...

    def state_dict(self, gather: Gather) -> dict[str, Any]:
        """Where the feed stands after the last update given; every process calls it."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> str:
        """Go on from there; returns what cannot be kept, empty where all is."""
        ...


class MappedFeed:
    """Updates of memory-mapped data in a `FrameBudgetSampler`'s order, read ahead by `workers`."""

    def __init__(
        self, dataset: ExampleDataset, sampler: FrameBudgetSampler, workers: int = 0
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self.workers = workers

    def __iter__(self) -> Iterator[list[Batch]]:
        """This process's batches of each update."""
        keys = (batch for update, _ in self.sampler.updates() for batch in update)
        loader = iter(
            DataLoader(
                self.dataset,
                batch_sampler=keys,
                collate_fn=collate,
                num_workers=self.workers,
                worker_init_fn=deaf,
            )
        )
        for update, state in self.sampler.updates():
            batches = [next(loader) for _ in update]
            self.sampler.load_state_dict(state)
            yield batches

    def state_dict(self, gather: Gather) -> dict[str, Any]:
        """Epoch, batches of it given out over all processes, and batches an update."""
        share = self.sampler.world * self.sampler.accumulate
        return {**self.sampler.state_dict(), "batches_an_update": share}

    def load_state_dict(self, state: dict[str, Any]) -> str:
        """Go on from `state_dict`'s place, with as many processes as there are."""
        self.sampler.load_state_dict(state)
        before = state["batches_an_update"]
        now = self.sampler.world * self.sampler.accumulate
        if now == before:
            return ""
        return (
            f"{now} batches an update where there were {before} (processes times "
            "train.accumulate): the order goes on where it was, the size of an update does not"
        )


def example_maker(config: RunConfig, prepared: Prepared, seed: int) -> ExampleMaker:
    """What makes examples for the run's task; UserError where its data cannot serve it."""
    waves = None
    if config.task.name == "vocoder":
        if config.train.stream or not prepared.is_local:
            raise UserError("task=vocoder reads the recordings: it needs prepared data on a disk")
        waves = Waves.of(Path(prepared.address), prepared.features.sample_rate)
    return ExampleMaker(
        prepared.features, config.task, config.train.crop_frames, seed, waves,
        aligned=prepared.info.get("aligner") != "unaligned",
    )  # fmt: skip


def make_feed(
    config: RunConfig,
    prepared: Prepared,
    training: Sequence[int],
    rank: int = 0,
    world: int = 1,
) -> Feed:
    """The feed of the rows `training`: a stream where train.stream or an address asks for it."""
    options = config.train
    index = prepared.index
    if options.balance not in BALANCES:
        raise UserError(
            f"train.balance must be one of {', '.join(BALANCES)}, found {options.balance}"
        )
    if not training:
        raise UserError(
            f"{prepared.address} leaves no utterance to train on: all are held out; lower "
            f"train.validation_utterances ({options.validation_utterances}) or prepare more"
        )
    longest = min(int(index.n_frames[list(training)].max()), options.crop_frames)
    if not fits(1, longest, options.batch_frames, options.batch_square_frames):
        raise UserError(
            f"the longest utterance has {longest} frames (as train.crop_frames leaves it), which "
            f"no batch holds: train.batch_frames is {options.batch_frames}, "
            f"train.batch_square_frames {options.batch_square_frames}; raise these or lower "
            "train.crop_frames"
        )
    make = example_maker(config, prepared, options.seed)
    if options.stream or not prepared.is_local:
        if options.balance != "none":
            raise UserError("train.balance wants all rows at hand: a stream cannot be balanced")
        chosen = set(training)
        left_out = [id for i, id in enumerate(index.ids) if i not in chosen]
        return StreamFeed(
            prepared, make, left_out, options.batch_frames, rank, world, options.accumulate,
            options.workers, options.batch_square_frames,
        )  # fmt: skip
    groups = {"speaker": index.speakers, "language": index.languages}.get(options.balance)
    sampler = FrameBudgetSampler(
        training,
        [min(int(index.n_frames[row]), options.crop_frames) for row in training],
        options.batch_frames,
        options.seed,
        rank,
        world,
        options.accumulate,
        options.batch_square_frames,
        None if groups is None else balanced([groups[i] for i in training], options.balance_power),
    )
    return MappedFeed(ExampleDataset(prepared, make), sampler, options.workers)
