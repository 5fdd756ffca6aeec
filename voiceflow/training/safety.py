"""What keeps a run of weeks from losing work: losses, memory, stalls and schedulers that kill."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

from voiceflow.config import TrainConfig, UserError
from voiceflow.data.batching import Batch

REQUEUE = 75  # sysexits' EX_TEMPFAIL: to be started again, with the same command


class StallWatch:
    """Prints the stack of every thread of this process when an update takes too long.

    Each process watches itself, so that of a hanging collective all sides are seen.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def alive(self) -> None:
        """An update begins."""
        if self.seconds > 0 and sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(self.seconds, repeat=True, file=sys.__stderr__)

    def __enter__(self) -> StallWatch:
        self.alive()
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()


class Preemption:
    """Whether a scheduler wants the machine back: SIGTERM, or SIGUSR1 (SLURM's --signal)."""

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.asked = False
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Preemption:
        for number in self.SIGNALS:
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: who calls from one handles signals itself
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a loader, forked with this handler
            os._exit(128 + number)
        self.asked = True

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked; every process calls it, once an update."""
        if accelerator.num_processes == 1:
            return self.asked
        asked = torch.tensor([float(self.asked)], device=accelerator.device)
        return bool(accelerator.reduce(asked, "sum") > 0)


@contextmanager
def naming_memory(parts: Sequence[Batch], options: TrainConfig) -> Iterator[None]:
    """Out of memory, told with the shape that did not fit and the settings to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        shapes = ", ".join(f"{len(p.ids)} x {p.mel.shape[1]} frames" for p in parts)
        raise UserError(
            f"out of memory on a batch of {shapes} ({str(error).splitlines()[0]}): lower "
            f"train.batch_frames ({options.batch_frames}) and raise train.accumulate instead, or "
            f"bound train.batch_square_frames ({options.batch_square_frames}), lower "
            f"train.crop_frames ({options.crop_frames}), or set model.checkpoint_activations=true"
        ) from error
