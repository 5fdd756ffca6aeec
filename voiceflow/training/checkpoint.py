"""The state of a run on disk: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, optim

from voiceflow.config import UserError
from voiceflow.files import read_json, replacing_folder, write_json
from voiceflow.training.ema import EMA


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

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        named = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        named |= {f"ema.{k}": v for k, v in self.ema.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"optimizer.{name}.{key}"] = value
        return named


def save(folder: Path, state: TrainState, keep: int) -> Path:
    """Write a checkpoint named by its update; the last `keep` stay."""
    path = folder / f"{state.update:08d}"
    with replacing_folder(path) as temporary:
        save_file({k: v.contiguous() for k, v in state.tensors().items()},
                  temporary / "state.safetensors")
        write_json(
            temporary / "state.json",
            {
                "update": state.update,
                "feed": state.feed,
                "seconds": state.seconds,
                "frames": state.frames,
            },
        )
    for old in found(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def found(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(p.parent for p in folder.glob("[0-9]*/state.json"))


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing."""
    for left in folder.glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def load(path: Path, state: TrainState) -> None:
    """Fill `state` from a checkpoint. UserError when it is damaged or of another network."""
    try:
        tensors = load_file(path / "state.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: the checkpoint is damaged ({error}): remove this folder, and the run goes on "
            "from the one before"
        ) from error
    expected = set(state.network.state_dict())
    present = {k.removeprefix("network.") for k in tensors if k.startswith("network.")}
    if expected != present:
        raise UserError(f"{path} is a checkpoint of another network: choose another out=")
    state.network.load_state_dict(_part(tensors, "network."))
    state.ema.network.load_state_dict(_part(tensors, "ema."))
    for name, parameter in state.network.named_parameters():
        values = _part(tensors, f"optimizer.{name}.")
        if values:
            state.optimizer.state[parameter] = {
                k: v.to(parameter.device) for k, v in values.items()
            }
    values_json: dict[str, Any] = read_json(path / "state.json")
    state.update = values_json["update"]
    state.feed = values_json["feed"]
    state.seconds = values_json["seconds"]
    state.frames = values_json["frames"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
