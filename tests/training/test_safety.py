"""A run loses no work: losses that are not finite, signals, stalls, memory, the best checkpoint."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voiceflow.config import TrainConfig, UserError
from voiceflow.data.batching import Batch
from voiceflow.files import read_json
from voiceflow.training import checkpoint
from voiceflow.training.monitor import Monitor
from voiceflow.training.safety import REQUEUE, Preemption, StallWatch
from voiceflow.training.tasks import VelocityTask


def poison(patch: pytest.MonkeyPatch, *updates: int) -> list[tuple[str, ...]]:
    """Make the losses of these updates (from 0) infinite; the ids of their batches come in."""
    seen: list[tuple[str, ...]] = []
    bad: list[tuple[str, ...]] = []
    right = VelocityTask.loss_sum

    def poisoned(self: VelocityTask, network: nn.Module, batch: Batch) -> Tensor:
        loss = right(self, network, batch)
        if network.training:
            seen.append(batch.ids)
            if len(seen) - 1 in updates:
                bad.append(batch.ids)
                return loss * math.inf
        return loss

    patch.setattr(VelocityTask, "loss_sum", poisoned)
    return bad


def test_an_update_without_a_finite_loss_is_left_out_and_named(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = poison(monkeypatch, 3, 4)
    made = run("velocity", tmp_path, "train.skip_limit=2")
    told = [json.loads(x) for x in (made.folder / "skipped.jsonl").read_text().splitlines()]
    assert [(t["update"], tuple(t["utterances"])) for t in told] == [(3, bad[0]), (4, bad[1])]
    assert "update 3 left out: loss inf" in capsys.readouterr().out
    assert len(made.losses) == 20
    last = checkpoint.found(made.folder / "checkpoints")[-1]
    assert read_json(last / "state.json")["skipped"] == 2
    weights = checkpoint.load_file(last / "state.safetensors")
    assert all(torch.isfinite(w).all() for w in weights.values())
    assert int(weights["optimizer.output.weight.step"]) == 18


def test_too_many_in_a_row_stop_the_run(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poison(monkeypatch, 1, 3, 4, 5)
    with pytest.raises(FloatingPointError, match=r"update 5: .* number 3 in a row .*skip_limit=2"):
        run("velocity", tmp_path, "train.skip_limit=2")


@pytest.mark.parametrize("number", Preemption.SIGNALS)
def test_a_scheduler_that_wants_the_machine_back(
    run: Any, finished: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Saved at once, with a code to be requeued on; taken up, the run is the unbroken one."""
    log = Monitor.log

    def signalled(self: Monitor, update: int, **values: float) -> None:
        log(self, update, **values)
        if update == 7 and "loss" in values:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(Monitor, "log", signalled)
        run("velocity", tmp_path)
    assert left.value.code == REQUEUE == 75
    said = capsys.readouterr().out
    [saved] = checkpoint.found(tmp_path / "velocity" / "checkpoints")
    assert saved.name in ("00000007", "00000008")
    assert f"asked to stop, saved after update {int(saved.name)}" in said
    assert run("velocity", tmp_path).losses == finished.losses


def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption:
        assert signal.getsignal(signal.SIGTERM) != before
        assert not preemption.asked
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_stall_prints_the_stack() -> None:
    code = (
        "import time\nfrom voiceflow.training.safety import StallWatch\n"
        "def hangs(): time.sleep(1.5)\n"
        "with StallWatch(0.3) as watch:\n    watch.alive()\n    hangs()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Timeout (0:00:00.3" in done.stderr
    assert "in hangs" in done.stderr


def test_no_stall_watch_where_none_is_wanted() -> None:
    with StallWatch(0.0) as watch:
        watch.alive()
        time.sleep(0.01)


def out_of_memory(*_: object) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore")


@pytest.mark.parametrize("probe", [True, False])
def test_out_of_memory_names_shape_and_settings(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, probe: bool
) -> None:
    monkeypatch.setattr(VelocityTask, "loss_sum", out_of_memory)
    with pytest.raises(UserError, match=r"out of memory on a batch of \d+ x \d+ frames") as raised:
        run("velocity", tmp_path, f"train.memory_probe={probe}")
    for name in ("batch_frames", "accumulate", "batch_square_frames", "checkpoint_activations"):
        assert name in str(raised.value)


def test_the_probe_is_as_large_as_batches_get_and_changes_nothing(
    run: Any, finished: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shapes: list[tuple[int, int]] = []
    right = VelocityTask.loss_sum

    def noting(self: VelocityTask, network: nn.Module, batch: Batch) -> Tensor:
        if network.training:
            shapes.append((batch.mel.shape[0], batch.mel.shape[1]))
        return right(self, network, batch)

    monkeypatch.setattr(VelocityTask, "loss_sum", noting)
    made = run("velocity", tmp_path, "train.memory_probe=true")
    assert made.losses == finished.losses
    probe, *others = shapes
    assert probe[1] >= max(frames for _, frames in others)
    assert probe[0] * probe[1] <= 400


def test_the_best_checkpoint_stays(tmp_path: Path) -> None:
    values = {"feed": {}, "seconds": 0.0, "frames": 0, "skipped": 0}
    for update, loss in enumerate([0.9, 0.5, None, 0.7, math.nan, 0.8], start=1):
        told = {"update": update, "validation_loss": loss, **values}
        taken = checkpoint.Snapshot({"network.w": torch.zeros(1)}, told)
        checkpoint.save(tmp_path, taken, keep=2)
    assert [p.name for p in checkpoint.found(tmp_path)] == ["00000002", "00000005", "00000006"]
    best = checkpoint.best(tmp_path)
    assert best is not None and best.name == "00000002"


def test_what_the_writer_could_not_write_is_raised() -> None:
    def fails() -> None:
        raise UserError("disk full")

    with checkpoint.Writer() as writer:
        writer.submit(fails)
        with pytest.raises(UserError, match="disk full"):
            writer.submit(lambda: None)
    with pytest.raises(UserError, match="disk full"), checkpoint.Writer() as writer:
        writer.submit(fails)


def test_a_snapshot_is_not_touched_by_what_follows(tmp_path: Path) -> None:
    from voiceflow.training.ema import EMA
    from voiceflow.training.optim import make_optimizer

    network = nn.Linear(2, 2)
    optimizer = make_optimizer(network, TrainConfig())
    state = checkpoint.TrainState(network, EMA(network, 0.9), optimizer)
    taken = state.snapshot()
    before = taken.tensors["network.weight"].clone()
    nn.init.constant_(network.weight, 7.0)
    assert torch.equal(taken.tensors["network.weight"], before)


@pytest.mark.long
def test_sigterm_from_outside(
    command: Callable[..., list[str]], repository: Path, tmp_path: Path
) -> None:
    """A real process, with loaders of its own: exit code 75, a whole checkpoint, no one left."""
    words = command("velocity", tmp_path / "run", "train.updates=100000", "train.workers=2",
                    "train.checkpoint_every=100000", "train.validate_every=100000")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "voiceflow", "train", *words], cwd=repository,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    log = tmp_path / "run" / "velocity" / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") > 3):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == REQUEUE, said
    [saved] = checkpoint.found(tmp_path / "run" / "velocity" / "checkpoints")
    assert f"saved after update {int(saved.name)}" in said
