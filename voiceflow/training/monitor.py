"""What a person sees of a run: a progress bar, TensorBoard, a log of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from voiceflow.files import replacing
from voiceflow.training.samples import Shown


class Monitor:
    """Progress bar and logs on the first process; nothing on the others."""

    def __init__(self, accelerator: Accelerator, folder: Path, task: str, updates: int) -> None:
        self.accelerator = accelerator
        self.path = folder / "log.jsonl"
        self.progress = Progress(
            TextColumn(f"[bold]{task}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            disable=not accelerator.is_main_process,
        )
        self.bar = self.progress.add_task(task, total=updates, status="")
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
        accelerator.init_trackers("tensorboard")

    def __enter__(self) -> Monitor:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self.accelerator.end_training()

    def resume(self, update: int) -> None:
        """Go on at `update`: what was logged after it, before the run was stopped, is cut."""
        self.progress.update(self.bar, completed=update)
        if not self.accelerator.is_main_process or not self.path.exists():
            return
        kept = []
        for line in self.path.read_text("utf-8").splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["update"] <= update:
                kept.append(line)
        with replacing(self.path) as temporary:
            temporary.write_text("".join(kept), "utf-8")

    def advance(self, update: int, loss: float, frames_per_second: float) -> None:
        """Move the bar."""
        status = f"loss {loss:.4f}  {frames_per_second:,.0f} frames/s"
        self.progress.update(self.bar, completed=update, status=status)

    def log(self, update: int, **values: float) -> None:
        """Write figures to TensorBoard and to log.jsonl."""
        self.accelerator.log(values, step=update)
        if self.accelerator.is_main_process:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"update": update, **values}) + "\n")

    def show(self, update: int, shown: Shown) -> None:
        """A sample in TensorBoard, as sound and picture; other trackers get the picture.

        Its figures go to all, and to log.jsonl.
        """
        if shown.figures:
            self.log(update, **shown.figures)
        for tracker in self.accelerator.trackers:
            picture = np.asarray(Image.open(shown.picture).convert("RGB"))
            if tracker.name == "tensorboard":
                wave = torch.from_numpy(shown.wave)[None]
                tracker.tracker.add_audio(shown.name, wave, update, shown.sample_rate)
                tracker.tracker.add_image(shown.name, picture, update, dataformats="HWC")
            elif hasattr(tracker, "log_images"):
                tracker.log_images({shown.name: picture[None]}, step=update)

    def skipped(
        self, update: int, loss: float, gradient_norm: float, utterances: Sequence[str]
    ) -> None:
        """Name the batches of an update that was left out, in skipped.jsonl."""
        if not self.accelerator.is_main_process:
            return
        told = {"update": update, "loss": str(loss), "gradient_norm": str(gradient_norm),
                "utterances": list(utterances)}  # fmt: skip
        with (self.path.parent / "skipped.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")
        self.say(f"update {update} left out: loss {loss}, gradient norm {gradient_norm}; its "
                 f"utterances stand in {self.path.parent / 'skipped.jsonl'}")  # fmt: skip

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.accelerator.is_main_process:
            self.progress.console.print(text, highlight=False)
