"""The training loop, the same for every network.

    voiceflow train task=velocity data=data/train model=mini train=cpu out=runs/mini
    torchrun --standalone --nproc_per_node 2 -m voiceflow train ...   two CPU processes (gloo)
    torchrun --standalone --nproc_per_node 8 -m voiceflow train ...   eight GPUs
    accelerate launch -m voiceflow train ...                          the GPUs at hand
    torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d \
        --rdzv_endpoint "$HOST:29500" -m voiceflow train ...          several machines, on each

docs/launch/ has these lines whole, and those for SLURM, FSDP and streams (docs/training.md).

The same command given again goes on where the run stopped. `out/<task>/` holds the run
(run.yaml, checkpoints, log.jsonl, tensorboard) and `out/model` the voice, brought up to date
with every checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from voiceflow.config import RunConfig, TrainConfig, UserError, compose
from voiceflow.data.batching import Batch, collate, fits
from voiceflow.data.dataset import Example, split
from voiceflow.data.feed import example_maker, make_feed
from voiceflow.data.masking import generator_for
from voiceflow.data.shards import Prepared, open_prepared
from voiceflow.nn.transformer import Block
from voiceflow.training import checkpoint
from voiceflow.training.adapters import adapt, merged
from voiceflow.training.ema import EMA
from voiceflow.training.flops import update_flops, weights_used
from voiceflow.training.monitor import Monitor
from voiceflow.training.optim import learning_rate, make_optimizer
from voiceflow.training.run import (
    claim,
    for_borders,
    n_parameters,
    save_all,
    save_voice,
    start_from,
    with_statistics_of,
)
from voiceflow.training.safety import REQUEUE, Preemption, StallWatch, naming_memory
from voiceflow.training.samples import SHOWN, samples
from voiceflow.training.sharding import is_sharded, shard, whole, without_sync
from voiceflow.training.tasks import Task, make_task

VALIDATION_DRAWS = 4


def main(overrides: Sequence[str]) -> None:
    """Train what the overrides describe; see the module's docstring."""
    train(compose(overrides))


def train(config: RunConfig) -> None:
    """Train one network, or go on with a run that was stopped."""
    task = make_task(config)
    prepared = open_prepared(config.data)
    config = for_borders(config, prepared)
    options = config.train
    if options.init_from:
        prepared = with_statistics_of(options.init_from, prepared)
    folder = Path(config.out) / task.name
    accelerator = make_accelerator(config)
    rows, held_out = split(prepared, options.validation_utterances)
    feed = make_feed(config, prepared, rows, accelerator.process_index, accelerator.num_processes)
    torch.manual_seed(options.seed)
    network = task.build(prepared.phones, prepared.features)
    if options.init_from:
        start_from(options.init_from, network, task, prepared, options.extend_phones)
    network = adapt(network, options)
    parameters, weights = n_parameters(network), weights_used(network)
    model = distribute(network, accelerator, options)
    optimizer = make_optimizer(network, options)
    state = checkpoint.TrainState(network, EMA(network, options.ema_decay), optimizer)
    if accelerator.is_main_process:
        claim(folder, config, prepared, parameters, len(rows))
        checkpoint.clear_leftovers(folder / "checkpoints")
    accelerator.wait_for_everyone()
    with (
        Monitor(accelerator, folder, task.name, options.updates) as monitor,
        checkpoint.Writer() as writer,
        StallWatch(options.stall_seconds) as watch,
        Preemption() as preemption,
    ):
        if saved := checkpoint.found(folder / "checkpoints"):
            checkpoint.load(saved[-1], state)
            monitor.say(f"going on after update {state.update} of {options.updates}")
            if lost := feed.load_state_dict(state.feed):
                monitor.say(lost)
        if len(set(places := gather_object([state.update]))) > 1:
            raise UserError(
                f"the processes found checkpoints of different updates ({places}): {config.out} "
                "must be one folder that all of them share"
            )
        monitor.resume(state.update)
        validation = list(validation_batches(config, prepared, held_out))
        if not validation:
            monitor.say(f"{task.name}: no utterance is held out, so no validation loss is told")
        if options.memory_probe and state.update < options.updates:
            probe_memory(accelerator, task, model, prepared, options)
        skipped_in_a_row = 0
        lap = time.perf_counter()
        for parts in feed if state.update < options.updates else ():
            watch.alive()
            waited = time.perf_counter() - lap
            torch.manual_seed(generator_for(options.seed, "dropout", state.update,
                                            accelerator.process_index).initial_seed())
            parts = [part.to(accelerator.device) for part in parts]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state.update, options)
            with naming_memory(parts, options):
                loss, frames, flops = accumulate_gradients(accelerator, task, model, parts, weights)
                norm = clip_gradients(network, options.clip)
            if math.isfinite(loss) and math.isfinite(norm):
                optimizer.step()
                state.ema.update(state.update + 1)
                skipped_in_a_row = 0
            else:
                skipped_in_a_row += 1
                state.skipped += 1
                ids = [i for part in parts for i in part.ids]
                monitor.skipped(state.update, loss, norm, gather_object(ids))
                if skipped_in_a_row > options.skip_limit:
                    raise FloatingPointError(
                        f"update {state.update}: loss {loss}, gradient norm {norm}, "
                        f"number {skipped_in_a_row} in a row that is not finite "
                        f"(train.skip_limit={options.skip_limit}); the utterances stand in "
                        f"{folder / 'skipped.jsonl'}"
                    )
            optimizer.zero_grad()
            state.update += 1
            state.frames += frames
            now = time.perf_counter()
            seconds, lap = now - lap, now
            state.seconds += seconds
            speed, waiting = frames / seconds, waited / seconds
            monitor.advance(state.update, loss, speed)
            stopping = preemption.agreed(accelerator)
            last = state.update == options.updates
            if state.update % options.log_every == 0 or last:
                used = {} if not options.peak_tflops else {
                    "flops_utilisation": flops / (seconds * options.peak_tflops * 1e12
                                                  * accelerator.num_processes)
                }  # fmt: skip
                monitor.log(state.update, loss=loss, gradient_norm=norm, frames_per_second=speed,
                            waiting_share=waiting, skipped=state.skipped,
                            learning_rate=learning_rate(state.update - 1, options), **used)
            state.validation_loss = None
            if validation and (state.update % options.validate_every == 0 or last):
                with state.ema.applied() as averaged:
                    figures = validate(accelerator, task, averaged, validation)
                state.validation_loss = figures["validation_loss"]
                monitor.log(state.update, **figures)
                monitor.say(f"update {state.update}: " + ", ".join(
                    f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items()))
            if options.sample_every and (state.update % options.sample_every == 0 or last):
                averages = state.ema.state_dict()
                if accelerator.is_main_process and task.name in SHOWN and held_out:
                    show_samples(config, task, prepared, held_out[0], averages, monitor, state)
            if state.update % options.checkpoint_every == 0 or last or stopping:
                state.feed = feed.state_dict(gather_object)
                if options.sharded_checkpoints:
                    taken = checkpoint.Snapshot.of_averages(state)
                    if accelerator.is_main_process:
                        save_voice(config, task, prepared, taken, folder)
                    checkpoint.save_shares(folder / "checkpoints", state, options.keep_checkpoints)
                else:
                    taken = state.snapshot()
                    if accelerator.is_main_process:
                        writer.submit(partial(save_all, config, task, prepared, taken, folder))
            if stopping and not last:
                writer.wait()
                accelerator.wait_for_everyone()  # torchrun ends all once one has ended
                monitor.say(
                    f"{task.name}: asked to stop, saved after update {state.update}; the same "
                    f"command goes on (exit code {REQUEUE})"
                )
                raise SystemExit(REQUEUE)
            if last:
                break
            lap = time.perf_counter()  # validating and saving are not the next update's
            state.seconds += lap - now
        writer.wait()
        monitor.say(f"{task.name}: {state.update} updates done, voice in {config.out}/model")


def show_samples(
    config: RunConfig,
    task: Task,
    prepared: Prepared,
    row: int,
    averages: dict[str, Tensor],
    monitor: Monitor,
    state: checkpoint.TrainState,
) -> None:
    """A held-out utterance, in out/<task>/samples and in the trackers: of a velocity network a gap
    and a sentence, of a vocoder the recording made anew."""
    network = task.build(prepared.phones, prepared.features).eval()
    averages = merged({k: v.to("cpu") for k, v in averages.items()}, config.train)
    network.load_state_dict(averages)
    folder = Path(config.out) / task.name / "samples"
    [framed] = prepared.rows([row])
    settings = replace(config.sample, path=config.task.path)
    for shown in samples(network, framed, prepared, settings, folder, state.update):
        monitor.show(state.update, shown)


def distribute(network: nn.Module, accelerator: Accelerator, options: TrainConfig) -> nn.Module:
    """The network on its device, compiled if asked for, as the processes share it.

    DDP where there are several processes; with train.fsdp its parameters are dealt out, and the
    network itself is what is called.
    """
    if options.sharded_checkpoints and not options.fsdp:
        raise UserError("train.sharded_checkpoints writes what train.fsdp deals out: set both")
    if options.fsdp:
        if accelerator.num_processes == 1:
            raise UserError("train.fsdp deals a network out to several processes, this is one: "
                            "start them with torchrun or accelerate launch")  # fmt: skip
        shard(network.to(accelerator.device))
    if options.compile:
        for module in network.modules():
            if isinstance(module, Block):
                module.compile(dynamic=True)
    # In evaluation mode accelerate adds autocast and the device, and no DDP.
    return accelerator.prepare_model(network, evaluation_mode=options.fsdp).train()


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


def make_accelerator(config: RunConfig) -> Accelerator:
    """Accelerate, as the launcher set it up, with TensorBoard in out/<task>."""
    precision = config.train.mixed_precision
    if precision not in ("no", "bf16"):
        raise UserError(f"train.mixed_precision must be no or bf16, found {precision}")
    return Accelerator(
        cpu=not torch.accelerator.is_available(),  # else accelerate overlooks torchrun's processes
        mixed_precision=precision,
        log_with="tensorboard",
        project_dir=str(Path(config.out) / config.task.name),
    )


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
