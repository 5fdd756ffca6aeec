"""Executors: every task once, few under way, and a death that is told."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from voiceflow.config import UserError, UserNote
from voiceflow.data.executors import Processes


def square(x: int) -> int:
    return x * x


def warn(x: int) -> int:
    warnings.warn(f"{x} is odd", UserNote, stacklevel=2)
    return x


def die(x: int) -> int:
    os._exit(1)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once(workers: int) -> None:
    assert sorted(Processes(workers).run(square, range(20))) == [x * x for x in range(20)]


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for x in range(50):
            taken.append(x)
            yield x

    results = Processes(1).run(square, tasks())
    next(results)
    assert len(taken) <= 4
    results.close()


def test_nothing_to_do() -> None:
    assert list(Processes(1).run(square, [])) == []


def test_a_workers_note_is_a_plain_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(Processes(1).run(warn, [3])) == [3]
    assert capfd.readouterr().err.splitlines() == ["voiceflow: note: 3 is odd"]


def test_a_dead_worker_is_told() -> None:
    with pytest.raises(UserError, match="a worker process died"):
        list(Processes(1).run(die, [1]))


def test_no_workers() -> None:
    with pytest.raises(UserError, match="at least 1, found 0"):
        Processes(0)


def slow(path: str) -> None:
    """Says who is at work, for two minutes."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(120)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, repository: Path) -> None:
    told = tmp_path / "pids"
    code = (
        "from tests.data.test_executors import slow\n"
        "from voiceflow.data.executors import Processes\n"
        f"if __name__ == '__main__': list(Processes(2).run(slow, [{str(told)!r}] * 2))\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(repository)}
    )
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text().count("\n") == 2):
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    workers = [int(pid) for pid in told.read_text().split()]
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers live on without their parent"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
