"""Who does the work of preparation: processes of this machine, or a Ray cluster.

Both are handed a function, which makes what it needs once in each worker, and a stream of tasks;
results come in any order. No more than a few tasks a worker are under way, so that memory does not
grow with the corpus. Under torchrun or accelerate each rank takes its share instead.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from itertools import islice
from typing import Any, Protocol, TypeVar

from voiceflow.config import UserError
from voiceflow.notes import tell_notes

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 2  # tasks a worker that are under way


def rank_and_world() -> tuple[int, int]:
    """Which of how many processes of torchrun or accelerate this is; (0, 1) without them."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def wait_for_all_ranks() -> None:
    """Until every other rank is here, however long its share takes."""
    if rank_and_world()[1] > 1:
        from torch import distributed

        if not distributed.is_initialized():
            distributed.init_process_group("gloo", timeout=timedelta(days=30))
        distributed.barrier()


class Executor(Protocol):
    """Runs tasks on workers."""

    def run(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The results, in the order in which they are done."""
        ...


class Processes:
    """Processes of this machine; one process works in this one's place, without another."""

    def __init__(self, workers: int = 1) -> None:
        if workers < 1:
            raise UserError(f"workers must be at least 1, found {workers}")
        self.workers = workers

    def run(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Raises UserError when a process dies (of too little memory, for example)."""
        context = multiprocessing.get_context("spawn")
        waiting = iter(tasks)
        with ProcessPoolExecutor(self.workers, context, initializer=_begin) as pool:
            under_way: set[Future[Result]] = {
                pool.submit(work, task) for task in islice(waiting, _AHEAD * self.workers)
            }
            try:
                while under_way:
                    done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
                        under_way |= {pool.submit(work, task) for task in islice(waiting, 1)}
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker process died, perhaps of too little memory; the same command goes on "
                    "where this one stopped, with fewer --workers if need be"
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """A worker tells notes as the command does, and ends where its parent was killed.

    It does not go on then with what it was handed before.
    """
    tell_notes()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Ray:
    """Workers of a Ray cluster; what a lost node was doing is done again elsewhere.

    address: as `ray.init` takes it: "auto" for the cluster that this machine belongs to, "local"
    for one of its own. The corpus and the output must be reachable by the same paths everywhere.
    """

    def __init__(self, address: str = "auto") -> None:
        self.address = address

    def run(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Raises UserError where Ray is not installed or no cluster answers."""
        try:
            import ray
        except ImportError as error:
            raise UserError("--executor ray needs Ray: pip install -e '.[ray]'") from error
        try:
            ray.init(address=self.address, log_to_driver=False, ignore_reinit_error=True)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"no Ray cluster answers at {self.address!r} ({error}): start one with "
                "`ray start --head`, or name its --address"
            ) from error
        remote: Any = ray.remote(num_cpus=1, max_retries=-1)(_call)
        waiting = iter(tasks)
        ahead = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        under_way: list[Any] = [remote.remote(work, task) for task in islice(waiting, ahead)]
        try:
            while under_way:
                done, under_way = ray.wait(under_way, num_returns=1)
                for reference in done:
                    yield ray.get(reference)
                under_way += [remote.remote(work, task) for task in islice(waiting, 1)]
        finally:
            ray.shutdown()


def _call(work: Callable[[Task], Result], task: Task) -> Result:
    return work(task)
