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

import time
from collections.abc import Sequence

from voiceflow.config import RunConfig, compose
from voiceflow.training import checkpoint
from voiceflow.training.monitor import Monitor
from voiceflow.training.safety import REQUEUE, Preemption, StallWatch
from voiceflow.training.trainer import Trainer


def main(overrides: Sequence[str]) -> None:
    """Train what the overrides describe; see the module's docstring."""
    train(compose(overrides))


def train(config: RunConfig) -> None:
    """Train one network, or go on with a run that was stopped."""
    trainer = Trainer(config)
    options, state = trainer.config.train, trainer.state
    accelerator, name = trainer.accelerator, trainer.task.name
    with (
        Monitor(accelerator, trainer.folder, name, options.updates) as monitor,
        checkpoint.Writer() as writer,
        StallWatch(options.stall_seconds) as watch,
        Preemption() as preemption,
    ):
        trainer.take_up(monitor)
        lap = time.perf_counter()
        for parts in trainer.feed if not trainer.finished else ():
            watch.alive()
            waited = time.perf_counter() - lap
            done = trainer.update(parts, monitor)
            now = time.perf_counter()
            state.seconds += now - lap
            trainer.tell(done, now - lap, waited, monitor)
            stopping = preemption.agreed(accelerator)
            trainer.validate(monitor)
            trainer.show_samples(monitor)
            if trainer.due(options.checkpoint_every) or stopping:
                trainer.save(writer)
            if trainer.finished:
                break
            if stopping:
                writer.wait()
                accelerator.wait_for_everyone()  # torchrun ends all once one has ended
                monitor.say(
                    f"{name}: asked to stop, saved after update {state.update}; the same "
                    f"command goes on (exit code {REQUEUE})"
                )
                raise SystemExit(REQUEUE)
            lap = time.perf_counter()  # validating and saving are not the next update's
            state.seconds += lap - now
        writer.wait()
        monitor.say(f"{name}: {state.update} updates done, voice in {config.out}/model")
