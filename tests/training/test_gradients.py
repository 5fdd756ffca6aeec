"""The same gradients from one batch, from its parts accumulated, and from two processes.

Gradients, not weights: Adam makes full steps of the rounding noise of gradients that are zero, such
as those of key biases. Run by torchrun this file is one of the two: `torchrun --nproc_per_node 2
test_gradients.py PREPARED FOLDER` writes the gradients that the processes agree on.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voiceflow.config import RunConfig, compose
from voiceflow.data.batching import Batch, collate
from voiceflow.data.dataset import ExampleDataset, ExampleMaker, split
from voiceflow.data.feed import make_feed
from voiceflow.data.shards import Prepared, open_prepared
from voiceflow.training.gradients import accumulate_gradients, clip_gradients
from voiceflow.training.tasks import make_task

TASKS = ("velocity", "duration", "duration_flow", "aligner")
# Examples of unequal lengths and spans, so that a mean of means would differ.
PARTS = ([0, 3, 5, 8], [1])
QUARTERS = ([0, 3], [5, 8], [1], [2])
UPDATES = 3  # taken from the feed of a run
TOLERANCE = 1e-5  # of the gradient's norm
RESULTS = {"loss", "frames", "norm"}
Gradients = dict[str, Tensor]


def configured(prepared: Path, task_name: str, *more: str) -> RunConfig:
    """Tiny networks without dropout, in a run that cuts the data into six batches an epoch."""
    return compose([f"task={task_name}", f"data={prepared}", "out=none", "model=tiny",
                    "duration=tiny", "aligner=tiny", "train=tiny", "train.batch_frames=400",
                    *more])  # fmt: skip


def gradients(
    config: RunConfig, data: Prepared, batches: Sequence[Batch], accelerator: Accelerator
) -> Gradients:
    """Gradients of all parameters, with what a run tells of them under the names of RESULTS."""
    task = make_task(config)
    torch.manual_seed(0)
    network = task.build(data.phones, data.features)
    nn.init.normal_(network.output.weight, std=0.1)  # at zero nothing below it would learn
    model = accelerator.prepare(network)
    loss, frames, *_ = accumulate_gradients(accelerator, task, model, batches)
    found = {name: p.grad.clone() for name, p in network.named_parameters()}
    told = (loss, float(frames), clip_gradients(network, 1e9))
    return found | dict(zip(("loss", "frames", "norm"), map(torch.tensor, told), strict=True))


def of_rows(
    prepared: Path, task_name: str, parts: Sequence[list[int]], accelerator: Accelerator
) -> Gradients:
    """Gradients of the batches that consist of these rows."""
    config, data = configured(prepared, task_name), open_prepared(prepared)
    dataset = ExampleDataset(data, ExampleMaker(data.features, config.task, 400, 0))
    batches = [collate([dataset[0, row] for row in part]) for part in parts]
    return gradients(config, data, batches, accelerator)


def of_updates(
    prepared: Path, task_name: str, accelerator: Accelerator, *more: str
) -> list[Gradients]:
    """Gradients of the first updates of a run, as its feed deals them to this process."""
    config, data = configured(prepared, task_name, *more), open_prepared(prepared)
    rows, _ = split(data, 2)
    feed = make_feed(config, data, rows, accelerator.process_index, accelerator.num_processes)
    return [gradients(config, data, batches, accelerator) for batches in islice(feed, UPDATES)]


def norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([t.double().square().sum() for t in tensors]).sum().sqrt())


def assert_equal(found: Gradients, wanted: Gradients) -> None:
    """The norm of the difference, and the largest of it, against those of the gradient."""
    assert found.keys() == wanted.keys()
    names = sorted(wanted.keys() - RESULTS)
    size = norm([wanted[n] for n in names])
    assert size > 1e-2
    assert norm([found[n] - wanted[n] for n in names]) < TOLERANCE * size
    largest = max(float(wanted[n].abs().max()) for n in names)
    for n in names:
        assert float((found[n] - wanted[n]).abs().max()) < TOLERANCE * largest, n
    assert found["frames"] == wanted["frames"]
    for told in ("loss", "norm"):
        assert float(found[told]) == pytest.approx(float(wanted[told]), rel=1e-5)


@pytest.fixture(scope="module", params=TASKS)
def task_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture()
def one_batch(prepared: Path, task_name: str) -> Gradients:
    return of_rows(prepared, task_name, [PARTS[0] + PARTS[1]], Accelerator(cpu=True))


@pytest.fixture(scope="module")
def two_processes(
    prepared: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Gradients]:
    """(name) to gradients that two processes agreed on."""
    folder = tmp_path_factory.mktemp("gradients")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         __file__, str(prepared), str(folder)],
        check=False, cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=400,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:3000]
    return lambda name: load_file(folder / f"{name}.safetensors")


def test_parts_accumulated_are_one_batch(
    prepared: Path, task_name: str, one_batch: Gradients
) -> None:
    assert_equal(of_rows(prepared, task_name, PARTS, Accelerator(cpu=True)), one_batch)


def test_what_stands_in_the_padding_changes_no_gradient(
    prepared: Path, task_name: str, one_batch: Gradients
) -> None:
    config, data = configured(prepared, task_name), open_prepared(prepared)
    dataset = ExampleDataset(data, ExampleMaker(data.features, config.task, 400, 0))
    batch = collate([dataset[0, row] for row in PARTS[0] + PARTS[1]])
    padding = torch.arange(batch.mel.shape[1]) >= batch.frame_lengths[:, None]
    assert padding.any()
    filled = {
        name: torch.where(padding[..., None], 1e3, value)
        for name, value in (("mel", batch.mel), ("noise", batch.noise))
    }
    found = gradients(config, data, [replace(batch, **filled)], Accelerator(cpu=True))
    assert_equal(found, one_batch)


def test_the_loss_is_the_mean_over_masked_elements(
    prepared: Path, task_name: str, one_batch: Gradients
) -> None:
    """Neither the mean of the parts' means nor a sum."""
    parts = [of_rows(prepared, task_name, [part], Accelerator(cpu=True)) for part in PARTS]
    config, data = configured(prepared, task_name), open_prepared(prepared)
    dataset = ExampleDataset(data, ExampleMaker(data.features, config.task, 400, 0))
    task = make_task(config)
    counts = [task.count(collate([dataset[0, row] for row in part])) for part in PARTS]
    losses = [float(part["loss"]) for part in parts]
    mean = sum(c * x for c, x in zip(counts, losses, strict=True)) / sum(counts)
    assert float(one_batch["loss"]) == pytest.approx(mean, rel=1e-5)
    assert abs(sum(losses) / 2 - mean) > 1e-3 * mean


def test_two_processes_are_one_batch(
    task_name: str, one_batch: Gradients, two_processes: Callable[[str], Gradients]
) -> None:
    assert_equal(two_processes(f"{task_name}-parts"), one_batch)


def test_two_processes_that_accumulate_are_one_batch(
    prepared: Path, task_name: str, two_processes: Callable[[str], Gradients]
) -> None:
    together = [[row for part in QUARTERS for row in part]]
    wanted = of_rows(prepared, task_name, together, Accelerator(cpu=True))
    assert_equal(two_processes(f"{task_name}-quarters"), wanted)


def test_a_runs_updates_are_the_same_from_two_processes_as_from_one(
    prepared: Path, task_name: str, two_processes: Callable[[str], Gradients]
) -> None:
    """What the feed gives: the order, the spans, the noise and the times do not depend on them."""
    wanted = of_updates(prepared, task_name, Accelerator(cpu=True), "train.accumulate=2")
    for number, update in enumerate(wanted):
        assert_equal(two_processes(f"{task_name}-update-{number}"), update)
    assert norm([wanted[0][n] - wanted[1][n] for n in wanted[0].keys() - RESULTS]) > 1e-2


def main(prepared: Path, folder: Path) -> None:
    """One of two processes."""
    from voiceflow.training.trainer import make_accelerator

    signal.alarm(400)  # whatever hangs ends
    both = make_accelerator(configured(prepared, "velocity", f"out={folder}/run"))
    assert both.num_processes == 2
    me = both.process_index
    found: dict[str, Gradients] = {}
    for name in TASKS:
        found[f"{name}-parts"] = of_rows(prepared, name, [PARTS[me]], both)
        found[f"{name}-quarters"] = of_rows(prepared, name, QUARTERS[2 * me : 2 * me + 2], both)
        for number, update in enumerate(of_updates(prepared, name, both)):
            found[f"{name}-update-{number}"] = update
    if both.is_main_process:
        for name, tensors in found.items():
            save_file(tensors, folder / f"{name}.safetensors")
    both.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
