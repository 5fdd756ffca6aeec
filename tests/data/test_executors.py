"""Executors: every task once, few under way, and a death that is told."""

import os
from collections.abc import Iterator

import pytest

from voiceflow.config import UserError
from voiceflow.data.executors import Processes


def square(x: int) -> int:
    return x * x


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


def test_a_dead_worker_is_told() -> None:
    with pytest.raises(UserError, match="a worker process died"):
        list(Processes(1).run(die, [1]))


def test_no_workers() -> None:
    with pytest.raises(UserError, match="at least 1, found 0"):
        Processes(0)
