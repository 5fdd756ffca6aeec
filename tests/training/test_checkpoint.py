"""Checkpoints: everything comes back, whole or not at all."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from voiceflow.config import TrainConfig, UserError
from voiceflow.files import replacing_folder
from voiceflow.training import checkpoint
from voiceflow.training.checkpoint import TrainState
from voiceflow.training.ema import EMA
from voiceflow.training.optim import make_optimizer


def made(seed: int, width: int = 4) -> TrainState:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))
    optimizer = make_optimizer(network, TrainConfig(learning_rate=0.05))
    return TrainState(network, EMA(network, 0.9), optimizer)


def step(state: TrainState, times: int) -> list[float]:
    """Updates on fixed data; returns the losses."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(16, 3, generator=generator)
    losses = []
    for _ in range(times):
        loss = (state.network(x) - x.prod(1, keepdim=True)).square().mean()
        loss.backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.update += 1
        state.feed = {"epoch": state.update // 3, "position": state.update % 3}
        state.seconds += 0.25
        state.frames += 100
        state.ema.update(state.update)
        losses.append(loss.item())
    return losses


def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = made(0)
    step(whole, 7)
    path = checkpoint.save(tmp_path, whole, keep=2)
    other = made(5)
    step(other, 2)
    checkpoint.load(path, other)
    assert (other.update, other.feed) == (7, {"epoch": 2, "position": 1})
    assert (other.seconds, other.frames) == (1.75, 700)
    saved = whole.tensors()
    assert {f"optimizer.0.weight.{k}" for k in ("step", "exp_avg", "exp_avg_sq")} < set(saved)
    assert all(torch.equal(other.tensors()[name], value) for name, value in saved.items())
    assert step(other, 5) == step(whole, 5)
    assert all(torch.equal(other.tensors()[name], value) for name, value in whole.tensors().items())


def test_without_its_optimizer_a_run_would_not_go_on_so(tmp_path: Path) -> None:
    whole, other = made(0), made(0)
    step(whole, 7)
    checkpoint.load(checkpoint.save(tmp_path, whole, keep=2), other)
    other.optimizer.state.clear()
    assert step(other, 5) != step(whole, 5)


def test_the_last_k_stay(tmp_path: Path) -> None:
    state = made(0)
    for update in (2, 30, 100, 2000):
        state.update = update
        checkpoint.save(tmp_path, state, keep=3)
    assert [p.name for p in checkpoint.found(tmp_path)] == ["00000030", "00000100", "00002000"]
    assert {p.name for p in tmp_path.iterdir()} == {"00000030", "00000100", "00002000"}


def test_a_half_written_checkpoint_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = made(0)
    step(state, 1)
    whole = checkpoint.save(tmp_path, state, keep=2)
    step(state, 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "write_json", killed)
        checkpoint.save(tmp_path, state, keep=2)
    left = tmp_path / f".00000002.{os.getpid()}.tmp"  # as kill -9 leaves it
    left.mkdir()
    (left / "state.safetensors").write_bytes(b"half")
    assert checkpoint.found(tmp_path) == [whole]
    newer = checkpoint.save(tmp_path, state, keep=2)  # by a process of the same number
    assert checkpoint.found(tmp_path) == [whole, newer]
    assert not left.exists()


def test_a_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    state = made(0)
    checkpoint.save(tmp_path, state, keep=2)
    state.frames = 17
    path = checkpoint.save(tmp_path, state, keep=2)
    other = made(1)
    checkpoint.load(path, other)
    assert other.frames == 17
    assert [p.name for p in tmp_path.iterdir()] == ["00000000"]


def test_a_checkpoint_of_another_network(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, made(0), keep=2)
    other = made(0)
    other.network.append(nn.Linear(1, 1))
    with pytest.raises(UserError, match="checkpoint of another network: choose another out="):
        checkpoint.load(path, other)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, made(0), keep=2)
    (path / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=f"{path}: the checkpoint is damaged .* remove this folder"):
        checkpoint.load(path, made(0))


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    whole = checkpoint.save(tmp_path, made(0), keep=2)
    (tmp_path / ".00000002.99.tmp").mkdir()
    checkpoint.clear_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [whole]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), replacing_folder(
        tmp_path / "file" / "folder"
    ):
        raise AssertionError("the block is not reached")
