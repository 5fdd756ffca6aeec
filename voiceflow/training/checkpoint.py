"""The state of a run on disk: safetensors and JSON, written whole or not at all.

A state is taken while the processes stand still, and written beside the next updates.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, optim
from torch.distributed.checkpoint.api import CheckpointException

from voiceflow.config import UserError
from voiceflow.files import read_json, replacing_folder, write_json
from voiceflow.training.ema import EMA
from voiceflow.training.sharding import empty_as, part_of, whole

_FIELDS = ("update", "feed", "seconds", "frames", "skipped", "validation_loss")


@dataclass
class TrainState:
    """Everything that a resumed run needs to give what an unbroken one gives.

    There is no generator state: whatever is random is keyed by seed, epoch or update.
    """

    network: nn.Module
    ema: EMA
    optimizer: optim.Optimizer
    update: int = 0  # updates done
    feed: dict[str, Any] = field(default_factory=dict)  # where the data stands, of all processes
    seconds: float = 0.0  # spent so far
    frames: int = 0  # seen so far, over all processes
    skipped: int = 0  # updates left out because their loss was not finite
    validation_loss: float | None = None  # at this very update, where it was measured

    def tensors(self, take: Callable[[Tensor], Tensor] = whole) -> dict[str, Tensor]:
        """All tensors by name, as `take` has them of what may be dealt out; every process calls it.
        """
        named = {f"network.{k}": take(v) for k, v in self.changing().items()}
        named |= {f"ema.{k}": v for k, v in self.ema.state_dict(take).items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"optimizer.{name}.{key}"] = take(value)
        return named

    def parameter_of(self, name: str) -> Tensor | None:
        """The network's parameter that a tensor of `tensors` is of, by the tensor's name."""
        kind, rest = name.split(".", 1)
        named = dict(self.network.named_parameters())
        return named.get(rest.rpartition(".")[0] if kind == "optimizer" else rest)

    def values(self) -> dict[str, Any]:
        """All but the tensors, as JSON has it."""
        return {name: getattr(self, name) for name in _FIELDS}

    def changing(self) -> dict[str, Tensor]:
        """The network's tensors but for those that are frozen: they are the averages' too."""
        frozen = {n for n, p in self.network.named_parameters() if not p.requires_grad}
        return {k: v for k, v in self.network.state_dict().items() if k not in frozen}

    def snapshot(self) -> Snapshot:
        """The state as it is now, on the CPU, untouched by what follows; every process calls it."""
        tensors = {k: v.detach().to("cpu", copy=True) for k, v in self.tensors().items()}
        return Snapshot(tensors, self.values())


@dataclass(frozen=True)
class Snapshot:
    """A state's tensors, on the CPU, and its numbers."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    @staticmethod
    def of_averages(state: TrainState) -> Snapshot:
        """The averaged weights alone, whole; every process calls it."""
        averages = {f"ema.{k}": v.to("cpu") for k, v in state.ema.state_dict().items()}
        return Snapshot(averages, state.values())

    def averages(self) -> dict[str, Tensor]:
        """The averaged weights, by the network's names."""
        return _part(self.tensors, "ema.")


class Writer:
    """Writes beside the training, one thing at a time and in order."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[Any] | None = None

    def submit(self, write: Callable[[], Any]) -> None:
        """Write once what was submitted before is done; raises what that raised."""
        self.wait()
        self._last = self._pool.submit(write)

    def wait(self) -> None:
        """Until all is written; raises what the writing raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)
        self.wait()


def save(folder: Path, state: TrainState | Snapshot, keep: int) -> Path:
    """Write a checkpoint named by its update; the last `keep` stay, and the best."""
    taken = state.snapshot() if isinstance(state, TrainState) else state
    path = folder / f"{taken.values['update']:08d}"
    with replacing_folder(path) as temporary:
        save_file({k: v.contiguous() for k, v in taken.tensors.items()},
                  temporary / "state.safetensors")
        write_json(temporary / "state.json", taken.values)
    _prune(folder, keep)
    return path


def save_shares(folder: Path, state: TrainState, keep: int) -> Path:
    """As `save`, by all processes together: each writes its share of what is dealt out.

    Nothing is put together. Every process calls it; the folder must be one that they share.
    """
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    path = folder / f"{state.update:08d}"
    shares = folder / f".{path.name}.shares.tmp"
    leads = dist.get_rank() == 0
    if leads:
        shutil.rmtree(shares, ignore_errors=True)
        shares.mkdir(parents=True)
    dist.barrier()
    dcp.save(
        {k: v.detach() for k, v in state.tensors(lambda tensor: tensor).items()},
        storage_writer=dcp.HuggingFaceStorageWriter(str(shares), save_distributed=True),
    )
    dist.barrier()
    if leads:
        write_json(shares / "state.json", {**state.values(), "shares": dist.get_world_size()})
        shutil.rmtree(path, ignore_errors=True)
        shares.rename(path)
        _prune(folder, keep)
    dist.barrier()
    return path


def _prune(folder: Path, keep: int) -> None:
    best_one = best(folder)
    for old in found(folder)[:-keep]:
        if old != best_one:
            shutil.rmtree(old)


def found(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(p.parent for p in folder.glob("[0-9]*/state.json"))


def best(folder: Path) -> Path | None:
    """The checkpoint with the lowest validation loss; None where none was measured."""
    losses = {path: read_json(path / "state.json")["validation_loss"] for path in found(folder)}
    measured = {p: loss for p, loss in losses.items() if loss is not None and loss == loss}
    return min(measured, key=measured.__getitem__) if measured else None


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing."""
    for left in folder.glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def load(path: Path, state: TrainState) -> None:
    """Fill `state` from a checkpoint, of whichever form. UserError when it is damaged or of another
    network. Every process calls it.
    """
    try:
        whole_one = path / "state.safetensors"
        tensors = load_file(whole_one) if whole_one.exists() else _shares(path, state)
    except (OSError, SafetensorError, CheckpointException) as error:
        raise UserError(
            f"{path}: the checkpoint is damaged ({error}): remove this folder, and the run goes on "
            "from the one before"
        ) from error
    values: dict[str, Any] = read_json(path / "state.json")
    if missing := [name for name in _FIELDS if name not in values]:
        raise UserError(
            f"{path} was written by another version of voiceflow (no {', '.join(missing)}): start "
            "a new run from its voice with train.init_from=<out>/model"
        )
    own = state.network.state_dict()
    weights = {**_part(tensors, "ema."), **_part(tensors, "network.")}
    if set(own) != set(weights):
        raise UserError(f"{path} is a checkpoint of another network: choose another out=")
    state.network.load_state_dict({k: part_of(v, own[k]) for k, v in weights.items()})
    state.ema.load_state_dict(_part(tensors, "ema."))
    for name, parameter in state.network.named_parameters():
        moments = _part(tensors, f"optimizer.{name}.")
        if moments:
            state.optimizer.state[parameter] = {
                k: part_of(v, parameter) if v.shape == parameter.shape else v.to(parameter.device)
                for k, v in moments.items()
            }
    for name in _FIELDS:
        setattr(state, name, values[name])


def _shares(path: Path, state: TrainState) -> dict[str, Tensor]:
    """What `save_shares` wrote, dealt out as the state is, to however many processes."""
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    written = read_json(path / "state.json").get("shares", 1)
    if (found := len(list(path.glob("shard-*.safetensors")))) < written:
        raise FileNotFoundError(f"{written - found} of {written} shares are missing")
    stored = dcp.HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    tensors = {}
    for name, entry in stored.items():
        assert isinstance(entry, dcp.TensorStorageMetadata)
        tensors[name] = empty_as(state.parameter_of(name), entry.size, entry.properties.dtype)
    alone = not dist.is_initialized()
    with warnings.catch_warnings():
        if alone:
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
        dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(path)), no_dist=alone)
    return tensors


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
