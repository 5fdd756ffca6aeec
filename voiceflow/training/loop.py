"""The training loop, the same for every network.

    voiceflow train task=velocity data=data/train model=mini train=cpu out=runs/mini
    torchrun --nproc_per_node 2 -m voiceflow train task=velocity ...        two CPU processes (gloo)
    accelerate launch -m voiceflow train task=velocity train=gpu ...        the GPUs at hand
    torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d \
        --rdzv_endpoint HOST:29500 -m voiceflow train ...                   several nodes

The same command given again goes on where the run stopped. `out/<task>/` holds the run
(run.yaml, checkpoints, log.jsonl, tensorboard) and `out/model` the voice, brought up to date
with every checkpoint.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from voiceflow import __version__
from voiceflow.config import RunConfig, UserError, as_dict, compose
from voiceflow.data.batching import Batch, collate
from voiceflow.data.dataset import ExampleMaker, split
from voiceflow.data.feed import make_feed
from voiceflow.data.masking import generator_for
from voiceflow.data.shards import Prepared, open_prepared
from voiceflow.files import replacing
from voiceflow.model_folder import ModelFolder, load_weights, save_network
from voiceflow.training import checkpoint
from voiceflow.training.ema import EMA
from voiceflow.training.monitor import Monitor
from voiceflow.training.optim import learning_rate, make_optimizer
from voiceflow.training.tasks import Task, make_task

VALIDATION_DRAWS = 4
_UNCROPPED = 10**9  # frames
# Settings that may differ when a run is taken up again.
FREE_SETTINGS = ("train.workers", "train.checkpoint_every", "train.keep_checkpoints",
                 "train.log_every", "train.validate_every", "train.updates", "sample.")


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
    torch.manual_seed(options.seed)
    network = task.build(prepared.phones, prepared.features)
    if options.init_from:
        start_from(options.init_from, network, task, prepared)
    ema = EMA(network, options.ema_decay).to(accelerator.device)
    optimizer = make_optimizer(network, options)
    model, optimizer = accelerator.prepare(network, optimizer)
    state = checkpoint.TrainState(network, ema, optimizer)
    rows, held_out = split(prepared, options.validation_utterances)
    feed = make_feed(config, prepared, rows, accelerator.process_index, accelerator.num_processes)
    if accelerator.is_main_process:
        claim(folder, config, prepared, n_parameters(network), len(rows))
        checkpoint.clear_leftovers(folder / "checkpoints")
    accelerator.wait_for_everyone()
    with Monitor(accelerator, folder, task.name, options.updates) as monitor:
        if whole := checkpoint.found(folder / "checkpoints"):
            checkpoint.load(whole[-1], state)
            monitor.say(f"going on after update {state.update} of {options.updates}")
            if lost := feed.load_state_dict(state.feed):
                monitor.say(lost)
        monitor.resume(state.update)
        validation = list(validation_batches(config, prepared, held_out))
        lap = time.perf_counter()
        for parts in feed if state.update < options.updates else ():
            torch.manual_seed(generator_for(options.seed, "dropout", state.update,
                                            accelerator.process_index).initial_seed())
            parts = [part.to(accelerator.device) for part in parts]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(state.update, options)
            loss, frames = accumulate_gradients(accelerator, task, model, parts)
            norm = float(accelerator.clip_grad_norm_(model.parameters(), options.clip))
            if not (loss == loss and norm < float("inf")):
                raise FloatingPointError(
                    f"update {state.update}: loss {loss}, gradient norm {norm} on utterances "
                    f"{', '.join(i for part in parts for i in part.ids)}"
                )
            optimizer.step()
            optimizer.zero_grad()
            state.update += 1
            ema.update(network, state.update)
            state.frames += frames
            now = time.perf_counter()
            state.seconds += now - lap
            speed, lap = frames / (now - lap), now
            monitor.advance(state.update, loss, speed)
            last = state.update == options.updates
            if state.update % options.log_every == 0 or last:
                monitor.log(state.update, loss=loss, gradient_norm=norm, frames_per_second=speed,
                            learning_rate=learning_rate(state.update - 1, options))
            saving = state.update % options.checkpoint_every == 0 or last
            if saving:
                state.feed = feed.state_dict(gather_object)
            if accelerator.is_main_process:
                if state.update % options.validate_every == 0 or last:
                    value = validate(accelerator, task, ema.network, validation)
                    monitor.log(state.update, validation_loss=value)
                    monitor.say(f"update {state.update}: validation loss {value:.4f}")
                if saving:
                    # The voice first: a run whose last checkpoint is there is not gone on with.
                    save_voice(config, task, prepared, state, folder)
                    checkpoint.save(folder / "checkpoints", state, options.keep_checkpoints)
            if last:
                break
        monitor.say(f"{task.name}: {state.update} updates done, voice in {config.out}/model")


def accumulate_gradients(
    accelerator: Accelerator, task: Task, model: nn.Module, parts: Sequence[Batch]
) -> tuple[float, int]:
    """Gradients of the loss's sum over all parts and processes divided by their global count.

    DDP averages gradients over processes, so each sum is multiplied by their number. Returns the
    loss and the frames (not counting padding), both over all processes.
    """
    count = torch.tensor(
        [sum(task.count(p) for p in parts), sum(int(p.frame_lengths.sum()) for p in parts)],
        dtype=torch.float64,
        device=accelerator.device if accelerator.device.type != "mps" else "cpu",
    )
    totals = accelerator.reduce(count, "sum")
    n_masked = max(float(totals[0]), 1.0)
    loss = torch.zeros((), device=accelerator.device)
    for i, part in enumerate(parts):
        with accelerator.no_sync(model) if i < len(parts) - 1 else nullcontext():
            total = task.loss_sum(model, part)
            accelerator.backward(total * (accelerator.num_processes / n_masked))
        loss += total.detach() / n_masked
    return float(accelerator.reduce(loss, "sum")), int(totals[1])


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
    make = ExampleMaker(prepared.features, config.task, config.train.crop_frames, seed=20230627)
    held_out = prepared.rows(rows)
    for draw in range(VALIDATION_DRAWS):
        for start in range(0, len(rows), 8):
            yield collate([make(draw, row) for row in held_out[start : start + 8]])


@torch.no_grad()
def validate(
    accelerator: Accelerator, task: Task, network: nn.Module, batches: Sequence[Batch]
) -> float:
    """Mean loss over the held-out batches; nan when none are held out."""
    total, count = 0.0, 0
    for batch in batches:
        total += float(task.loss_sum(network, batch.to(accelerator.device)))
        count += task.count(batch)
    return total / count if count else float("nan")


def for_borders(config: RunConfig, prepared: Prepared) -> RunConfig:
    """The run as it can be on these data: what has no borders is not cropped at any.

    UserError where data whose phones are spread evenly are to teach where phones stand.
    """
    if prepared.info.get("aligner") != "even":
        return config
    if config.task.name != "aligner" or config.task.ctc_weight < 1:
        raise UserError(
            f"{prepared.address} has no borders (--aligner even): train task=aligner "
            "task.ctc_weight=1 on it, then prepare the corpus with --aligner ctc and that voice"
        )
    return replace(config, train=replace(config.train, crop_frames=_UNCROPPED))


def with_statistics_of(voice: str, prepared: Prepared) -> Prepared:
    """The data as a voice hears them: normalised by the mean and deviation that it was trained on.

    UserError where the front ends differ in anything else.
    """
    folder = ModelFolder.open(voice)
    mine = prepared.features.with_statistics(folder.features.mean, folder.features.std)
    folder.features.require(mine, str(folder.path), prepared.address)
    return replace(prepared, features=folder.features)


def start_from(voice: str, network: nn.Module, task: Task, prepared: Prepared) -> None:
    """Fill the network with a voice's weights; its phones must be the data's."""
    folder = ModelFolder.open(voice)
    if folder.phones != prepared.phones:
        raise UserError(f"{folder.path} and {prepared.address} have different phone tables")
    size = getattr(folder.config, task.name)
    if size is not None and size != task.network_config:
        raise UserError(
            f"{folder.path} has a {task.name} network of another size: choose the same "
            f"{'model' if task.name == 'velocity' else task.name}= as it was trained with"
        )
    load_weights(network, folder.path / f"{task.name}.safetensors")


def n_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def claim(
    folder: Path, config: RunConfig, prepared: Prepared, parameters: int, utterances: int
) -> None:
    """Write what the run uses to run.yaml, or refuse a folder that holds another run."""
    path = folder / "run.yaml"
    settings = as_dict(config)
    if path.is_file():
        before = yaml.safe_load(path.read_text("utf-8"))
        # Folders may move: the data are known by their fingerprint.
        old = flatten({**before["config"], "data": before["data_fingerprint"], "out": ""})
        new = flatten({**settings, "data": prepared.info["fingerprint"], "out": ""})
        differing = sorted(
            key
            for key in {*old, *new}
            if old.get(key) != new.get(key) and not key.startswith(FREE_SETTINGS)
        )
        if differing:
            shown = ", ".join(f"{k}: {old.get(k)} then, {new.get(k)} now" for k in differing)
            raise UserError(
                f"{folder} holds a run with other settings ({shown}): choose another out="
            )
    record = {
        "config": settings,
        "data_fingerprint": prepared.info["fingerprint"],
        "parameters": parameters,
        "training_utterances": utterances,
        "versions": {
            "voiceflow": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(record, sort_keys=False), "utf-8")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def save_voice(
    config: RunConfig,
    task: Task,
    prepared: Prepared,
    state: checkpoint.TrainState,
    folder: Path,
) -> None:
    """Bring out/model up to date with the averaged weights."""
    training = {
        "updates": state.update,
        "hours_of_data": round(float(prepared.info["hours"]), 2),
        "passes_over_data": round(state.frames / int(prepared.info["frames"]), 2),
        "wall_hours": round(state.seconds / 3600, 3),
        "data_fingerprint": prepared.info["fingerprint"],
        "aligner": prepared.info.get("aligner", ""),
        "run": str(folder),
    }
    save_network(
        Path(config.out) / "model",
        task.name,
        state.ema.network.state_dict(),
        task.network_config,
        prepared.phones,
        prepared.features,
        config.sample,
        training,
    )
