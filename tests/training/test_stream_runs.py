"""Training from a stream: learns, is taken up bit for bit, and is shared by processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import TWO
from voiceflow.files import read_json
from voiceflow.training import checkpoint

STREAM = ("train.stream=true", "train.updates=8", "train.checkpoint_every=3")


def assert_same(a: Any, b: Any) -> None:
    assert a.losses == b.losses
    assert a.validation == b.validation
    mine, other = (load_file(r.out / "model" / "velocity.safetensors") for r in (a, b))
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def cursors(run: Any) -> Any:
    last = checkpoint.found(run.folder / "checkpoints")[-1]
    return read_json(last / "state.json")["feed"]["ranks"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_taken_up_with_its_very_next_batch(
    run: Any, stopped_after: Any, tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    more = (*STREAM, f"train.workers={workers}")
    whole = run("velocity", tmp_path / "whole", *more)
    stopped_after(5, lambda: run("velocity", tmp_path / "broken", *more))
    broken = run("velocity", tmp_path / "broken", *more)
    assert "going on after update 3 of 8" in capsys.readouterr().out
    assert_same(broken, whole)
    assert cursors(broken) == cursors(whole)


def test_an_address_trains_as_the_disk_does(run: Any, prepared: Path, tmp_path: Path) -> None:
    disk = run("velocity", tmp_path / "disk", *STREAM)
    address = run("velocity", tmp_path / "address", *STREAM[1:], f"data=file://{prepared}")
    assert_same(address, disk)


def test_other_readers_begin_the_epoch_anew(
    run: Any, stopped_after: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped_after(5, lambda: run("velocity", tmp_path, *STREAM))
    again = run("velocity", tmp_path, *STREAM, "train.workers=2")
    assert "2 readers of the stream where there were 1: epoch" in capsys.readouterr().out
    assert len(again.losses) == 8


@pytest.mark.long
def test_two_processes_share_a_stream(
    command: Callable[..., list[str]], finished: Any, launched: Any, tmp_path: Path
) -> None:
    launched(TWO, command("velocity", tmp_path / "run", *STREAM))
    made = type(finished)(tmp_path / "run", "velocity")
    assert len(made.losses) == 8
    assert len(cursors(made)) == 2
