"""The loss on what is held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from torch import nn

from voiceflow.config import RunConfig
from voiceflow.data.batching import Batch, collate
from voiceflow.data.feed import example_maker
from voiceflow.data.shards import Prepared
from voiceflow.training.tasks import Task

VALIDATION_DRAWS = 4


def validation_batches(
    config: RunConfig, prepared: Prepared, rows: Sequence[int]
) -> Iterator[Batch]:
    """Held-out utterances on spans, noise and times that are the same for ever."""
    make = example_maker(config, prepared, seed=20230627)
    held_out = prepared.rows(rows)
    for draw in range(VALIDATION_DRAWS):
        for start in range(0, len(rows), 8):
            yield collate([make(draw, row) for row in held_out[start : start + 8]])


@torch.no_grad()
def validate(
    accelerator: Accelerator, task: Task, network: nn.Module, batches: Sequence[Batch]
) -> dict[str, float]:
    """The mean loss over the held-out batches, as `validation_loss`, and the task's own figures.

    Every process does the same, since of a sharded network none could do it alone.
    """
    sums: dict[str, float] = {"validation_loss": 0.0}
    count = 0
    for batch in batches:
        batch = batch.to(accelerator.device)
        sums["validation_loss"] += float(task.loss_sum(network, batch))
        for name, value in task.figure_sums(network, batch).items():
            sums[name] = sums.get(name, 0.0) + value
        count += task.count(batch)
    return {name: value / count for name, value in sums.items()}
