"""What may not change what is learned: compiling, half precision, and being killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file
from torch import Tensor, nn

from voiceflow.config import compose
from voiceflow.data.dataset import split
from voiceflow.data.feed import make_feed
from voiceflow.data.shards import open_prepared
from voiceflow.training import checkpoint, trainer
from voiceflow.training.gradients import accumulate_gradients
from voiceflow.training.tasks import make_task

pytestmark = pytest.mark.long

UPDATES = 6  # of batches of other lengths


@pytest.fixture()
def _compiled_anew() -> Iterator[None]:
    """What was compiled before, or will be, is no other test's business."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def gradients(words: list[str]) -> list[dict[str, Tensor]]:
    """Of the first updates of a run, all at the same weights."""
    config = compose(words)
    accelerator = trainer.make_accelerator(config)
    data = open_prepared(config.data)
    task = make_task(config)
    torch.manual_seed(0)
    network = task.build(data.phones, data.features)
    nn.init.normal_(network.output.weight, std=0.1)  # at zero nothing below it would learn
    model = trainer.distribute(network, accelerator, config.train)
    found = []
    for parts in islice(make_feed(config, data, split(data, 2)[0]), UPDATES):
        accumulate_gradients(accelerator, task, model, parts)
        found.append({name: p.grad.clone() for name, p in network.named_parameters()})
        network.zero_grad()
    return found


def norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([t.square().sum() for t in tensors]).sum().sqrt())


@pytest.mark.usefixtures("_compiled_anew")
@pytest.mark.parametrize(
    ("task", "precision", "within"),
    [
        ("velocity", "no", 1e-4),
        ("velocity", "bf16", 0.03),
        ("duration", "no", 1e-4),
        ("duration_flow", "no", 1e-4),
    ],
)
def test_a_compiled_network_has_the_same_gradients(
    command: Callable[..., list[str]], task: str, precision: str, within: float, tmp_path: Path
) -> None:
    """Relative to the gradient's norm, and compiled once for all blocks, sizes and lengths."""
    words = command(task, tmp_path, f"train.mixed_precision={precision}")
    eager = gradients(words)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = gradients([*words, "train.compile=true"])
    for found, wanted in zip(compiled, eager, strict=True):
        assert found.keys() == wanted.keys()
        off = norm([found[n] - wanted[n] for n in wanted])
        assert 0 < off < within * norm(list(wanted.values()))
    # Once more where a batch has nothing padded, which is no mask.
    assert 1 <= torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2


def test_half_precision_learns_alike(run: Any, tmp_path: Path) -> None:
    """Within 1 % of each other: the mean loss of the last 100 of 300 updates, and validation.

    Both runs see the same batches, spans, noise and times.
    """

    def made(precision: str) -> Any:
        AcceleratorState._reset_state(reset_partial_state=True)  # as in a process of its own
        GradientState._reset_state()
        return run("velocity", tmp_path / precision, f"train.mixed_precision={precision}",
                   "train.updates=300", "train.learning_rate=0.003", "train.validate_every=100",
                   "train.checkpoint_every=300")  # fmt: skip

    fp32, bf16 = made("no"), made("bf16")
    whole, half = ([loss for _, loss, _ in r.losses] for r in (fp32, bf16))
    assert len(whole) == len(half) == 300
    assert mean(whole[200:]) < 0.5 * mean(whole[:20])  # it learned
    assert whole != half
    assert mean(half[200:]) == pytest.approx(mean(whole[200:]), rel=0.01)
    assert [update for update, _ in fp32.validation] == [100, 200, 300]
    for (_, found), (_, wanted) in zip(bf16.validation, fp32.validation, strict=True):
        assert found == pytest.approx(wanted, rel=0.01)


def voice(run: Any) -> dict[str, Tensor]:
    return load_file(run.out / "model" / "velocity.safetensors")


def last_state(run: Any) -> dict[str, Tensor]:
    return load_file(checkpoint.found(run.folder / "checkpoints")[-1] / "state.safetensors")


def test_a_killed_run_is_taken_up_bit_for_bit(
    command: Callable[..., list[str]], finished: Any, repository: Path, tmp_path: Path
) -> None:
    """The same command again after kill -9 at random moments, VOICEFLOW_KILLS of them (else 2).

    A moment is so many updates on and a part of one, wherever a checkpoint is being written:
    it follows the work, whatever the machine's speed.
    """
    kills = int(os.environ.get("VOICEFLOW_KILLS", "2"))
    random = Random(kills)
    most = 240 // kills  # so that the last one comes before the end

    def launched(out: Path, checkpoint_every: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "voiceflow", "train",
             *command("velocity", out, "model.dropout=0.1", "train.updates=300",
                      f"train.checkpoint_every={checkpoint_every}")],
            cwd=repository,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def finish(process: subprocess.Popen[str]) -> str:
        try:
            said, _ = process.communicate(timeout=400)
        finally:
            process.kill()
        assert process.returncode == 0
        return said

    def kill(process: subprocess.Popen[str], more: int, part: float) -> str:
        """As soon as the log is that much longer than it was, and a part of an update later."""
        begun = logged()
        first = time.monotonic()
        end = first + 400
        try:
            while logged() < begun + more:
                assert process.poll() is None
                assert time.monotonic() < end
                if logged() <= begun:
                    first = time.monotonic()
                time.sleep(0.005)
            time.sleep(part * (time.monotonic() - first) / more)
        finally:
            process.kill()
            said, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL
        return said

    def logged() -> int:
        log = broken.folder / "log.jsonl"
        return log.read_bytes().count(b'"loss"') if log.exists() else 0

    whole = type(finished)(tmp_path / "whole", "velocity")
    broken = type(finished)(tmp_path / "broken", "velocity")
    finish(launched(whole.out, checkpoint_every=20))
    resumed = []
    for number in range(kills + 1):
        saved = checkpoint.found(broken.folder / "checkpoints")
        process = launched(broken.out, checkpoint_every=(20, 1, 3)[number % 3])
        if number < kills:
            said = kill(process, random.randint(2 * most // 3, most), random.random())
        else:
            said = finish(process)
        if saved:
            [update] = re.findall(r"going on after update (\d+) of", said)
            resumed.append(int(update))
    assert len(resumed) >= kills - 1
    assert resumed == sorted(resumed)
    assert 0 < resumed[-1] < 300
    assert [update for update, *_ in broken.losses] == list(range(1, 301))
    assert (broken.losses, broken.validation) == (whole.losses, whole.validation)
    for tensors in (voice, last_state):
        found, wanted = tensors(broken), tensors(whole)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
