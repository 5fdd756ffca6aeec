"""What a training run has, and each thing that is done in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from voiceflow.config import RunConfig, TrainConfig, UserError
from voiceflow.data.batching import Batch
from voiceflow.data.dataset import split
from voiceflow.data.feed import make_feed
from voiceflow.data.masking import generator_for
from voiceflow.data.shards import open_prepared
from voiceflow.nn.transformer import Block
from voiceflow.training import checkpoint
from voiceflow.training.adapters import adapt, merged
from voiceflow.training.ema import EMA
from voiceflow.training.flops import weights_used
from voiceflow.training.gradients import accumulate_gradients, clip_gradients, probe_memory
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
from voiceflow.training.safety import naming_memory
from voiceflow.training.samples import SHOWN, samples
from voiceflow.training.sharding import shard
from voiceflow.training.tasks import make_task
from voiceflow.training.validation import validate, validation_batches


@dataclass(frozen=True)
class Done:
    """An update, over all processes: frames without padding; flops as `update_flops` has them."""

    loss: float
    gradient_norm: float
    frames: int
    flops: float


class Trainer:
    """A run: what stays the same while it lasts, and the state that every update changes.

    Every process has one, and calls the same methods in the same order. state: the network with its
    averages, the optimiser and where the run stands. Raises UserError for data, options or a folder
    that do not fit.
    """

    def __init__(self, config: RunConfig) -> None:
        self.task = make_task(config)
        prepared = open_prepared(config.data)
        self.config = config = for_borders(config, prepared)
        options = config.train
        if options.init_from:
            prepared = with_statistics_of(options.init_from, prepared)
        self.prepared = prepared
        self.folder = Path(config.out) / self.task.name
        self.accelerator = accelerator = make_accelerator(config)
        rows, self.held_out = split(prepared, options.validation_utterances)
        self.feed = make_feed(
            config, prepared, rows, accelerator.process_index, accelerator.num_processes
        )
        torch.manual_seed(options.seed)
        network = self.task.build(prepared.phones, prepared.features)
        if options.init_from:
            start_from(options.init_from, network, self.task, prepared, options.extend_phones)
        network = adapt(network, options)
        parameters, self.weights = n_parameters(network), weights_used(network)
        self.model = distribute(network, accelerator, options)
        optimizer = make_optimizer(network, options)
        self.state = checkpoint.TrainState(network, EMA(network, options.ema_decay), optimizer)
        self.validation: list[Batch] = []
        self._skipped_in_a_row = 0
        if accelerator.is_main_process:
            claim(self.folder, config, prepared, parameters, len(rows))
            checkpoint.clear_leftovers(self.folder / "checkpoints")
        accelerator.wait_for_everyone()

    @property
    def finished(self) -> bool:
        """Whether no update is left to do."""
        return self.state.update >= self.config.train.updates

    def due(self, every: int) -> bool:
        """Whether something done once in so many updates is, now; 0 is never."""
        return every > 0 and (self.state.update % every == 0 or self.finished)

    def take_up(self, monitor: Monitor) -> None:
        """Go on from the last checkpoint, if there is one, and make ready what validation needs.

        Raises UserError where the processes do not share their folder.
        """
        state, options = self.state, self.config.train
        if saved := checkpoint.found(self.folder / "checkpoints"):
            checkpoint.load(saved[-1], state)
            monitor.say(f"going on after update {state.update} of {options.updates}")
            if lost := self.feed.load_state_dict(state.feed):
                monitor.say(lost)
        if len(set(places := gather_object([state.update]))) > 1:
            raise UserError(
                f"the processes found checkpoints of different updates ({places}): "
                f"{self.config.out} must be one folder that all of them share"
            )
        monitor.resume(state.update)
        self.validation = list(validation_batches(self.config, self.prepared, self.held_out))
        if not self.validation:
            monitor.say(
                f"{self.task.name}: no utterance is held out, so no validation loss is told"
            )
        if options.memory_probe and not self.finished:
            probe_memory(self.accelerator, self.task, self.model, self.prepared, options)

    def update(self, parts: Sequence[Batch], monitor: Monitor) -> Done:
        """One update on this process's share of a batch; left out where it is not finite.

        Raises FloatingPointError once more than train.skip_limit in a row were left out.
        """
        state, options, accelerator = self.state, self.config.train, self.accelerator
        key = generator_for(options.seed, "dropout", state.update, accelerator.process_index)
        torch.manual_seed(key.initial_seed())
        parts = [part.to(accelerator.device) for part in parts]
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(state.update, options)
        with naming_memory(parts, options):
            loss, frames, flops = accumulate_gradients(
                accelerator, self.task, self.model, parts, self.weights
            )
            norm = clip_gradients(state.network, options.clip)
        if math.isfinite(loss) and math.isfinite(norm):
            state.optimizer.step()
            state.ema.update(state.update + 1)
            self._skipped_in_a_row = 0
        else:
            self._skipped_in_a_row += 1
            state.skipped += 1
            ids = [i for part in parts for i in part.ids]
            monitor.skipped(state.update, loss, norm, gather_object(ids))
            if self._skipped_in_a_row > options.skip_limit:
                raise FloatingPointError(
                    f"update {state.update}: loss {loss}, gradient norm {norm}, "
                    f"number {self._skipped_in_a_row} in a row that is not finite "
                    f"(train.skip_limit={options.skip_limit}); the utterances stand in "
                    f"{self.folder / 'skipped.jsonl'}"
                )
        state.optimizer.zero_grad()
        state.update += 1
        state.frames += frames
        state.validation_loss = None
        return Done(loss, norm, frames, flops)

    def tell(self, done: Done, seconds: float, waited: float, monitor: Monitor) -> None:
        """Move the bar, and log where it is due: of `seconds`, `waited` went for the batch."""
        options, update = self.config.train, self.state.update
        speed = done.frames / seconds
        monitor.advance(update, done.loss, speed)
        if not self.due(options.log_every):
            return
        used = {}
        if options.peak_tflops:
            peak = options.peak_tflops * 1e12 * self.accelerator.num_processes
            used = {"flops_utilisation": done.flops / (seconds * peak)}
        monitor.log(
            update, loss=done.loss, gradient_norm=done.gradient_norm, frames_per_second=speed,
            waiting_share=waited / seconds, skipped=self.state.skipped,
            learning_rate=learning_rate(update - 1, options), **used,
        )  # fmt: skip

    def validate(self, monitor: Monitor) -> None:
        """The averaged weights' figures on what is held out, where they are due."""
        state = self.state
        if not (self.validation and self.due(self.config.train.validate_every)):
            return
        with state.ema.applied() as averaged:
            figures = validate(self.accelerator, self.task, averaged, self.validation)
        state.validation_loss = figures["validation_loss"]
        monitor.log(state.update, **figures)
        told = ", ".join(f"{name.replace('_', ' ')} {v:.4f}" for name, v in figures.items())
        monitor.say(f"update {state.update}: {told}")

    def show_samples(self, monitor: Monitor) -> None:
        """A held-out utterance, where it is due, in out/<task>/samples and in the trackers: of a
        velocity network a gap and a sentence, of a vocoder the recording made anew."""
        config, state = self.config, self.state
        if not self.due(config.train.sample_every):
            return
        averages = state.ema.state_dict()
        if not (self.accelerator.is_main_process and self.task.name in SHOWN and self.held_out):
            return
        network = self.task.build(self.prepared.phones, self.prepared.features).eval()
        network.load_state_dict(
            merged({k: v.to("cpu") for k, v in averages.items()}, config.train)
        )
        [framed] = self.prepared.rows(self.held_out[:1])
        settings = replace(config.sample, path=config.task.path)
        for shown in samples(
            network, framed, self.prepared, settings, self.folder / "samples", state.update
        ):
            monitor.show(state.update, shown)

    def save(self, writer: checkpoint.Writer) -> None:
        """The state as it is, and the voice, written while the training goes on.

        With train.sharded_checkpoints every process writes its share first.
        """
        config, state = self.config, self.state
        state.feed = self.feed.state_dict(gather_object)
        main = self.accelerator.is_main_process
        if config.train.sharded_checkpoints:
            taken = checkpoint.Snapshot.of_averages(state)
            if main:
                save_voice(config, self.task, self.prepared, taken, self.folder)
            kept = config.train.keep_checkpoints
            checkpoint.save_shares(self.folder / "checkpoints", state, kept)
        else:
            taken = state.snapshot()
            if main:
                write = partial(save_all, config, self.task, self.prepared, taken, self.folder)
                writer.submit(write)


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
