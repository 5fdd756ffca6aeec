"""What the tests of training share: short runs on the synthetic data."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from voiceflow.config import compose
from voiceflow.training.loop import train
from voiceflow.training.monitor import Monitor

Train = Callable[..., "Run"]
TWO = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


class Run:
    """A run's folder, read."""

    def __init__(self, out: Path, task: str) -> None:
        self.out = out
        self.folder = out / task

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl."""
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    @property
    def losses(self) -> list[tuple[int, float, float]]:
        """Update, loss and gradient norm of every update logged."""
        return [(x["update"], x["loss"], x["gradient_norm"]) for x in self.log if "loss" in x]

    @property
    def validation(self) -> list[tuple[int, float]]:
        """Update and validation loss."""
        return [(x["update"], x["validation_loss"]) for x in self.log if "validation_loss" in x]


def overrides(task: str, data: Path, out: Path, *more: str) -> list[str]:
    """A run of tiny networks that cuts the synthetic data into about six batches an epoch."""
    tiny = ["model=tiny", "duration=tiny", "train=tiny", "train.batch_frames=400"]
    return [f"task={task}", f"data={data}", f"out={out}", *tiny, *more]


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its state for the whole process; a run has a process of its own."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def command(prepared: Path) -> Callable[..., list[str]]:
    """(task, out, *overrides) to what `voiceflow train` is told."""
    return lambda task, out, *more: overrides(task, prepared, out, *more)


@pytest.fixture(scope="session")
def run(prepared: Path) -> Train:
    """(task, out, *overrides) to the run, trained."""

    def go(task: str, out: Path, *more: str) -> Run:
        train(compose(overrides(task, prepared, out, *more)))
        return Run(out, task)

    return go


@pytest.fixture(scope="session")
def finished(run: Train, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An unbroken velocity run of 20 updates, with the duration network trained beside it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run("duration", out)
    return run("velocity", out)


@pytest.fixture()
def launched(repository: Path, tmp_path: Path) -> Callable[[list[str], list[str]], str]:
    """(launcher's words, the training's words) to what a run in processes of its own printed."""

    def go(launcher: list[str], words: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *launcher, "-m", "voiceflow", "train", *words],
            cwd=repository,
            # A home of nobody's, so that accelerate finds no settings.
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return go


@pytest.fixture()
def stopped_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """(update, run) runs until Ctrl-C after that update."""

    def stopped(last: int, go: Callable[[], object]) -> None:
        log = Monitor.log

        def interrupted(self: Monitor, update: int, **values: float) -> None:
            log(self, update, **values)
            if update == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Monitor, "log", interrupted)
            go()

    return stopped
