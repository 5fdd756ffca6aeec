"""The launch lines of voiceflow.training.loop: torchrun and accelerate on this machine's CPU."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.training.conftest import TWO
from voiceflow.files import read_json
from voiceflow.model_folder import ModelFolder
from voiceflow.training import checkpoint
from voiceflow.training.safety import REQUEUE

pytestmark = pytest.mark.long

Launch = Callable[..., Any]


@pytest.fixture()
def launch(
    command: Callable[..., list[str]], finished: Any, launched: Any, tmp_path: Path
) -> Launch:
    """(launcher's words, *overrides) to a velocity run of four updates in a new folder."""

    def go(launcher: list[str], *more: str) -> Any:
        words = command("velocity", tmp_path / "run", "train.updates=4", *more)
        told = launched(launcher, words)
        assert told.count("velocity: 4 updates done") == 1  # one process speaks
        return type(finished)(tmp_path / "run", "velocity")

    return go


def assert_whole(run: Any) -> None:
    """A voice, a checkpoint that ends the run, and each update logged once."""
    voice = ModelFolder.open(run.out / "model")
    voice.load("velocity")
    assert voice.config.training["velocity"]["updates"] == 4
    assert [update for update, *_ in run.losses] == [1, 2, 3, 4]
    assert [update for update, _ in run.validation] == [4]
    assert len(list((run.folder / "tensorboard").rglob("events*"))) == 1
    assert {p.name for p in run.folder.iterdir()} == {
        "checkpoints", "log.jsonl", "run.yaml", "tensorboard"
    }  # fmt: skip


def frames(run: Any) -> int:
    """Frames seen, over all processes."""
    return int(read_json(checkpoint.found(run.folder / "checkpoints")[-1] / "state.json")["frames"])


def test_torchrun_trains_with_two_processes(launch: Launch, run: Any, tmp_path: Path) -> None:
    """Which together do what one process does that accumulates two batches."""
    both = launch(TWO)
    assert_whole(both)
    one = run("velocity", tmp_path / "one", "train.updates=4", "train.accumulate=2")
    assert frames(both) == frames(one)
    single = run("velocity", tmp_path / "single", "train.updates=4")
    assert frames(single) < 0.6 * frames(one)  # so a process on its own would have been noticed
    for (_, loss, norm), (_, wanted, wanted_norm) in zip(both.losses, one.losses, strict=True):
        assert loss == pytest.approx(wanted, rel=1e-4)
        assert norm == pytest.approx(wanted_norm, rel=1e-3)
    assert both.validation[-1][1] == pytest.approx(one.validation[-1][1], rel=1e-4)
    a, b = (load_file(r.out / "model" / "velocity.safetensors") for r in (both, one))
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-4


def test_accelerate_launch_trains(launch: Launch, run: Any, tmp_path: Path) -> None:
    launched = launch(["accelerate.commands.launch", "--cpu"])
    assert_whole(launched)
    alone = run("velocity", tmp_path / "alone", "train.updates=4")
    assert frames(launched) == frames(alone)
    for (_, loss, _), (_, wanted, _) in zip(launched.losses, alone.losses, strict=True):
        assert loss == pytest.approx(wanted, rel=1e-4)


def feed(run: Any) -> Any:
    """Where the data stand."""
    return read_json(checkpoint.found(run.folder / "checkpoints")[-1] / "state.json")["feed"]


def test_one_process_goes_on_with_mapped_data_of_two(
    launch: Launch, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The order goes on where it was: 4 updates of 2 batches and 4 of 1 are 12 of 1."""
    both = launch(TWO)
    again = run("velocity", both.out, "train.updates=8")
    said = " ".join(capsys.readouterr().out.split())
    assert "going on after update 4 of 8 1 batches an update where there were 2" in said
    assert [update for update, *_ in again.losses] == list(range(1, 9))
    one = run("velocity", tmp_path / "one", "train.updates=12")
    assert {**feed(again), "batches_an_update": 1} == feed(one)
    assert frames(again) == frames(one)


def test_one_process_goes_on_with_a_stream_of_two(
    launch: Launch, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which other readers share otherwise: the epoch begins anew, and that is said."""
    both = launch(TWO, "train.stream=true")
    epoch = min(cursor[0] for rank in feed(both)["ranks"] for cursor in rank["cursors"])
    again = run("velocity", both.out, "train.stream=true", "train.updates=8")
    said = " ".join(capsys.readouterr().out.split())
    assert f"1 readers of the stream where there were 2: epoch {epoch} begins anew" in said
    assert [update for update, *_ in again.losses] == list(range(1, 9))
    assert len(feed(again)["ranks"]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_all_processes_of_a_run_saves_it(
    command: Callable[..., list[str]], finished: Any, repository: Path, tmp_path: Path, number: int
) -> None:
    """As schedulers send it: to those that load data too, which must not go first."""
    words = command("velocity", tmp_path, "train.updates=100000", "train.workers=2")
    process = subprocess.Popen(
        [sys.executable, "-m", "voiceflow", "train", *words],
        cwd=repository,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "velocity" / "log.jsonl"
    end = time.monotonic() + 300
    try:
        while not (log.exists() and log.read_bytes().count(b'"loss"') > 5):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        os.killpg(process.pid, number)
        said, _ = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == REQUEUE, said[-3000:]
    [saved] = checkpoint.found(tmp_path / "velocity" / "checkpoints")[-1:]
    assert f"saved after update {int(saved.name)};" in said
