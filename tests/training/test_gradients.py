"""The same gradients from one batch, from its parts accumulated, and from two processes.

Run by torchrun this file is one of the two: `torchrun --nproc_per_node 2 test_gradients.py
PREPARED TASK FILE` writes the gradients that the processes agree on.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voiceflow.config import compose
from voiceflow.data.batching import Batch, collate
from voiceflow.data.dataset import ExampleDataset, ExampleMaker
from voiceflow.data.shards import open_prepared
from voiceflow.training.loop import accumulate_gradients
from voiceflow.training.tasks import make_task

# Examples of unequal lengths and spans, so that a mean of means would differ.
PARTS = ([0, 3, 5, 8], [1])
Gradients = dict[str, Tensor]


def gradients(
    prepared: Path, task_name: str, parts: list[list[int]], accelerator: Accelerator
) -> Gradients:
    """Gradients of all parameters, with the loss and the frames under `loss` and `frames`."""
    config = compose([f"task={task_name}", f"data={prepared}", "out=none", "model=tiny",
                      "duration=tiny"])  # fmt: skip
    opened = open_prepared(prepared)
    task = make_task(config)
    torch.manual_seed(0)
    network = task.build(opened.phones, opened.features)
    nn.init.normal_(network.output.weight, std=0.1)  # at zero nothing below it would learn
    dataset = ExampleDataset(opened, ExampleMaker(opened.features, config.task, 400, 0))
    batches: list[Batch] = [collate([dataset[0, row] for row in part]) for part in parts]
    model = accelerator.prepare(network)
    loss, frames = accumulate_gradients(accelerator, task, model, batches)
    found = {name: p.grad.clone() for name, p in network.named_parameters()}
    return found | {"loss": torch.tensor(loss), "frames": torch.tensor(float(frames))}


def assert_equal(found: Gradients, wanted: Gradients) -> None:
    assert found.keys() == wanted.keys()
    largest = max(float(g.abs().max()) for name, g in wanted.items() if name not in RESULTS)
    assert largest > 1e-3
    assert found["frames"] == wanted["frames"]
    assert float(found["loss"]) == pytest.approx(float(wanted["loss"]), rel=1e-5)
    for name in wanted.keys() - RESULTS:
        assert float((found[name] - wanted[name]).abs().max()) < 1e-5 * largest, name


RESULTS = {"loss", "frames"}


@pytest.fixture(scope="module", params=["velocity", "duration"])
def task_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture()
def one_batch(prepared: Path, task_name: str) -> Gradients:
    return gradients(prepared, task_name, [PARTS[0] + PARTS[1]], Accelerator(cpu=True))


def test_parts_accumulated_are_one_batch(
    prepared: Path, task_name: str, one_batch: Gradients
) -> None:
    assert_equal(gradients(prepared, task_name, list(PARTS), Accelerator(cpu=True)), one_batch)


def test_the_loss_is_the_mean_over_masked_elements(
    prepared: Path, task_name: str, one_batch: Gradients
) -> None:
    """Neither the mean of the parts' means nor a sum."""
    parts = [gradients(prepared, task_name, [part], Accelerator(cpu=True)) for part in PARTS]
    config = compose([f"task={task_name}", f"data={prepared}", "out=none"])
    opened = open_prepared(prepared)
    dataset = ExampleDataset(opened, ExampleMaker(opened.features, config.task, 400, 0))
    task = make_task(config)
    counts = [task.count(collate([dataset[0, row] for row in part])) for part in PARTS]
    losses = [float(part["loss"]) for part in parts]
    mean = sum(c * x for c, x in zip(counts, losses, strict=True)) / sum(counts)
    assert float(one_batch["loss"]) == pytest.approx(mean, rel=1e-5)
    assert abs(sum(losses) / 2 - mean) > 1e-3 * mean


def test_two_processes_are_one_batch(
    prepared: Path, task_name: str, one_batch: Gradients, tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "gradients.safetensors"
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         __file__, str(prepared), task_name, str(path)],
        check=True, cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300,
        capture_output=True,
    )  # fmt: skip
    assert_equal(load_file(path), one_batch)


if __name__ == "__main__":
    from voiceflow.training.loop import make_accelerator

    folder, name, target = sys.argv[1:]
    both = make_accelerator(compose([f"task={name}", f"data={folder}", f"out={target}.run"]))
    assert both.num_processes == 2
    mine = gradients(Path(folder), name, [PARTS[both.process_index]], both)
    if both.is_main_process:
        save_file(mine, target)
    both.end_training()
