"""docs/training.md: its launch lines are those of docs/launch/, and those start a training.

Lines for GPUs run here on the CPU with tiny networks and two processes; SLURM is played by two
small programs.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from voiceflow.config import TrainConfig, compose
from voiceflow.files import read_json
from voiceflow.model_folder import ModelFolder
from voiceflow.training import loop
from voiceflow.training.safety import REQUEUE

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENT = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
LAUNCH = REPOSITORY / "docs" / "launch"
FILES = sorted(p.name for p in LAUNCH.iterdir())
BASH_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
Start = Callable[..., "subprocess.Popen[str]"]


def body(name: str) -> str:
    """A launch file without the line that names its interpreter."""
    return (LAUNCH / name).read_text(encoding="utf-8").split("\n", 1)[1]


def commands(text: str) -> list[list[str]]:
    """The words of each command that trains, from its launcher on and without "$@" behind it."""
    found = re.findall(
        r"^(?!#).*?\b((?:torchrun|accelerate launch|voiceflow train)\b.*)$",
        re.sub(r"\\\n\s*", "", text),
        re.MULTILINE,
    )
    return [[w for w in shlex.split(line) if w not in ("$@", "&")] for line in found]


def settings(words: list[str]) -> list[str]:
    """What `voiceflow train` is told."""
    return words[words.index("voiceflow") + 2 :]


def test_the_document_shows_each_launch_file_and_no_other_line() -> None:
    blocks = [b for b in BASH_BLOCK.findall(DOCUMENT) if commands(b) or "train" in b]
    assert sorted(blocks) == sorted(body(name) for name in FILES)
    for name in FILES:
        assert f"docs/launch/{name}" in DOCUMENT


@pytest.mark.parametrize("name", FILES)
def test_a_launch_line_is_a_run(name: str) -> None:
    assert (LAUNCH / name).stat().st_mode & 0o111
    [words] = commands(body(name))
    config = compose(settings(words))
    assert config.task.name == "velocity"
    assert '"$@"' in body(name)
    if config.train.batch_frames >= 15000:  # on GPUs: what the paper's updates hold
        count = {"gpu.sh": 1, "accelerate.sh": 8, "nodes.sh": 16, "slurm.sh": 16}.get(name, 8)
        assert count * config.train.accumulate * config.train.batch_frames == 240_000


def test_the_loop_names_the_same_lines() -> None:
    """Each begins as a line of docs/launch does; what follows `...` is left out."""
    assert loop.__doc__ is not None
    lines = re.findall(r"^ {4}(\S.*)$", re.sub(r"\\\n\s*", "", loop.__doc__), re.MULTILINE)
    known = [words for name in FILES for words in commands(body(name))]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(re.split(r"\.\.\.| {3,}", line)[0])
        assert any(k[: len(words)] == words for k in known), line


def test_the_document_names_settings_that_exist() -> None:
    named = set(re.findall(r"`train\.(\w+)", DOCUMENT))
    assert named <= {f.name for f in fields(TrainConfig)}
    explained = "accumulate batch_square_frames memory_probe compile fsdp stream balance workers"
    assert set(explained.split()) < named


@pytest.mark.parametrize("task", ["velocity", "duration"])
def test_the_document_explains_all_that_a_run_leaves(
    run_alone: Callable[..., Path], task: str
) -> None:
    """Each figure of log.jsonl, and each name in the run's folder."""
    out = run_alone(1, f"task={task}", "train.peak_tflops=1")
    log = [json.loads(line) for line in (out / task / "log.jsonl").read_text().splitlines()]
    names = {name for line in log for name in line} - {"update"}
    assert {"loss", "gradient_norm", "waiting_share", "skipped", "validation_loss"} <= names
    for name in names:
        assert f"| `{name}` |" in DOCUMENT, name
    for path in (*out.iterdir(), *(out / task).iterdir()):
        assert f"`{path.name.replace(task, '<task>')}" in DOCUMENT, path


@pytest.fixture()
def start(tmp_path: Path) -> Start:
    """(launch file, *overrides, replacing, **environment) to its process, at tiny size."""

    def go(
        name: str, *more: str, replacing: dict[str, str] | None = None, **environment: str
    ) -> "subprocess.Popen[str]":
        text = (LAUNCH / name).read_text(encoding="utf-8")
        for old, new in (replacing or {}).items():
            assert old in text
            text = text.replace(old, new)
        script = tmp_path / name
        script.write_text(text)
        tiny = ["model=tiny", "train=tiny", "train.batch_frames=400", "train.accumulate=1",
                f"out={tmp_path / 'run'}"]  # fmt: skip
        path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(script), *tiny, *more],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "home"),
                 "COLUMNS": "200", "PATH": path, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    return go


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        process.terminate()  # torchrun then ends its processes
    assert process.returncode == code, said[-3000:]
    return said


def losses(out: Path) -> list[float]:
    log = [json.loads(line) for line in (out / "velocity" / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in log if "loss" in line]


def frames(out: Path) -> int:
    """Seen, over all processes."""
    [*_, last] = sorted((out / "velocity" / "checkpoints").glob("*/state.json"))
    return int(read_json(last)["frames"])


def free_port() -> int:
    """Of those that docs/launch/slurm.sh chooses from."""
    for port in range(20_000 + os.getpid() % 9_000, 30_000):
        with socket.socket() as listening:
            if listening.connect_ex(("localhost", port)):
                return port
    raise AssertionError("no free port")


TWO = {"--nproc_per_node 8": "--nproc_per_node 2"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "replacing", "processes"),
    [
        ("cpu.sh", {}, 1),
        ("gpu.sh", {}, 1),
        ("stream.sh", {}, 1),
        ("accelerate.sh", {}, 1),  # as many as there are GPUs, else one
        ("cpu_processes.sh", {}, 2),
        ("gpus.sh", TWO, 2),
        ("fsdp.sh", TWO, 2),
    ],
)
def test_a_launch_file_trains(
    start: Start, prepared: Path, run_alone: Any, tmp_path: Path, name: str,
    replacing: dict[str, str], processes: int,
) -> None:  # fmt: skip
    """Four updates, each of as many batches as there are processes."""
    data = f"file://{prepared}" if name == "stream.sh" else str(prepared)
    workers = "train.workers=2" if name == "stream.sh" else "train.workers=0"
    said = finish(start(name, f"data={data}", workers, "train.updates=4", replacing=replacing))
    assert said.count("velocity: 4 updates done") == 1
    assert len(losses(tmp_path / "run")) == 4
    ModelFolder.open(tmp_path / "run" / "model").load("velocity")
    if name != "stream.sh":  # which has an order of its own
        alone = run_alone(processes)
        assert frames(tmp_path / "run") == frames(alone)
        assert losses(tmp_path / "run") == pytest.approx(losses(alone), rel=1e-4)


@pytest.fixture()
def run_alone(prepared: Path, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """(batches an update, *overrides) to the run that one process makes of them."""
    from accelerate.state import AcceleratorState, GradientState

    def go(batches: int, *more: str) -> Path:
        out = tmp_path / "alone"
        loop.main(["task=velocity", f"data={prepared}", f"out={out}", "model=tiny",
                   "duration=tiny", "train=tiny", "train.batch_frames=400", "train.updates=4",
                   f"train.accumulate={batches}", *more])  # fmt: skip
        return out

    yield go
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.long
def test_two_nodes_train(start: Start, prepared: Path, run_alone: Any, tmp_path: Path) -> None:
    """Here on one machine; each is told the same line."""
    port = {"29500": str(free_port()), "--nproc_per_node 8": "--nproc_per_node 1"}
    more = (f"data={prepared}", "train.workers=0", "train.updates=4")
    both = [start("nodes.sh", *more, replacing=port, HOST="localhost") for _ in range(2)]
    said = "".join(finish(process) for process in both)
    assert said.count("velocity: 4 updates done") == 1
    alone = run_alone(2)
    assert frames(tmp_path / "run") == frames(alone)
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), rel=1e-4)


SRUN = """#!{python}
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
tasks = [
    subprocess.Popen(words, start_new_session=True,
                     env={{**os.environ, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}})
    for i in range(int(os.environ["SLURM_NTASKS"]))
]
# Every process of a task hears it, those that load data too.
signal.signal(signal.SIGUSR1, lambda *_: [os.killpg(task.pid, signal.SIGUSR1) for task in tasks])
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """#!/usr/bin/env bash
if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$REQUEUED"; fi
"""


@pytest.mark.long
def test_slurm_starts_stops_and_requeues(start: Start, prepared: Path, tmp_path: Path) -> None:
    """Time runs out, the job saves and is queued again, goes on, and is done."""
    programs, requeued = tmp_path / "bin", tmp_path / "requeued"
    programs.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    job = free_port() - 20_000
    environment = {"SLURM_JOB_ID": str(job), "SLURM_JOB_NODELIST": "here", "SLURM_NTASKS": "2",
                   "REQUEUED": str(requeued)}  # fmt: skip
    more = (f"data={prepared}", "train.workers=1")
    first = start("slurm.sh", *more, "train.updates=100000", **environment)
    log = tmp_path / "run" / "velocity" / "log.jsonl"
    end = time.monotonic() + 300
    try:
        while not (log.exists() and log.read_text().count('"loss"') > 5):
            assert first.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        first.send_signal(signal.SIGUSR1)  # the batch shell alone hears it
    except AssertionError:
        first.kill()
        raise
    said = finish(first, REQUEUE)
    [saved] = re.findall(r"asked to stop, saved after update (\d+)", said)
    assert requeued.read_text() == f"requeue {job}\n"
    updates = int(saved) + 3
    said = finish(start("slurm.sh", *more, f"train.updates={updates}", **environment))
    assert f"going on after update {saved} of {updates}" in said
    assert len(losses(tmp_path / "run")) == updates
    assert requeued.read_text() == f"requeue {job}\n"
