"""Gradients of one loss over all parts of an update and all processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import nn

from voiceflow.config import TrainConfig
from voiceflow.data.batching import Batch, collate, fits
from voiceflow.data.dataset import Example
from voiceflow.data.shards import Prepared
from voiceflow.training.flops import update_flops
from voiceflow.training.safety import naming_memory
from voiceflow.training.sharding import is_sharded, whole, without_sync
from voiceflow.training.tasks import Task


def accumulate_gradients(
    accelerator: Accelerator,
    task: Task,
    model: nn.Module,
    parts: Sequence[Batch],
    weights: int = 0,
) -> tuple[float, int, float]:
    """Gradients of the loss's sum over all parts and processes divided by their global count.

    DDP averages gradients over processes, so each sum is multiplied by their number. Returns the
    loss, the frames (not counting padding), and the floating-point operations that these need of a
    network of so many `weights` (see `update_flops`), over all processes.
    """
    flops = sum(update_flops(weights, task.network_config, task.tokens(p)) for p in parts)
    count = torch.tensor(
        [sum(task.count(p) for p in parts), sum(int(p.frame_lengths.sum()) for p in parts), flops],
        dtype=torch.float64,
        device=accelerator.device if accelerator.device.type != "mps" else "cpu",
    )
    totals = accelerator.reduce(count, "sum")
    n_masked = max(float(totals[0]), 1.0)
    loss = torch.zeros((), device=accelerator.device)
    for i, part in enumerate(parts):
        with nullcontext() if i == len(parts) - 1 else unsynced(accelerator, model):
            total = task.loss_sum(model, part)
            accelerator.backward(total * (accelerator.num_processes / n_masked))
        loss += total.detach() / n_masked
    return float(accelerator.reduce(loss, "sum")), int(totals[1]), float(totals[2])


def unsynced(accelerator: Accelerator, model: nn.Module) -> AbstractContextManager[None]:
    """Gradients stay in their process until a backward outside of this."""
    return without_sync(model) if is_sharded(model) else accelerator.no_sync(model)


def clip_gradients(network: nn.Module, most: float) -> float:
    """The gradients' norm over all processes, before it is bounded by `most`."""
    norm = nn.utils.clip_grad_norm_(network.parameters(), most)
    return float(whole(norm))


def probe_memory(
    accelerator: Accelerator,
    task: Task,
    model: nn.Module,
    prepared: Prepared,
    options: TrainConfig,
) -> None:
    """Forward and backward on the largest batch that can come, so that it fails now or never."""
    frames = min(options.crop_frames, int(prepared.index.n_frames.max()))
    count = 1
    while fits(count + 1, frames, options.batch_frames, options.batch_square_frames):
        count += 1
    zeros = torch.zeros(frames, prepared.features.n_mels)
    n_phones = max(1, frames // 4)
    durations = torch.full((n_phones,), frames // n_phones)
    durations[-1] += frames - int(durations.sum())
    example = Example(
        id="memory probe", mel=zeros, phones=torch.full((n_phones,), 2), durations=durations,
        mask=torch.ones(n_phones, dtype=torch.bool), unconditional=False, noise=zeros, t=0.5,
        wave=torch.zeros((frames - 1) * prepared.features.hop if task.part else 0),
    )  # fmt: skip
    batch = collate([example] * count).to(accelerator.device)
    buffers = [b.clone() for b in model.buffers()]
    with naming_memory([batch], options):
        accumulate_gradients(accelerator, task, model, [batch])
    for parameter in model.parameters():
        parameter.grad = None
    for buffer, before in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(before)
