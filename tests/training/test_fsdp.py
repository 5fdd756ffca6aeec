"""A network dealt out to two processes (train.fsdp) does what its copies in each (DDP) do.

Run by torchrun this file is one of the two: `torchrun --nproc_per_node 2 test_fsdp.py FOLDER` does
the runs of FOLDER/jobs.json one after the other, then writes gradients.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from voiceflow.config import UserError, compose
from voiceflow.data.dataset import split
from voiceflow.data.feed import make_feed
from voiceflow.data.shards import open_prepared
from voiceflow.files import read_json, write_json
from voiceflow.model_folder import ModelFolder
from voiceflow.training import checkpoint, loop, trainer, validation
from voiceflow.training.gradients import accumulate_gradients, clip_gradients
from voiceflow.training.sharding import whole
from voiceflow.training.tasks import make_task

TASKS = ("velocity", "duration", "duration_flow", "aligner")
TOLERANCE = 1e-4
FSDP = "train.fsdp=true"
SHARES = "train.sharded_checkpoints=true"
# Two batches a process and update, and a validation that no checkpoint follows.
SETTINGS = ("train.accumulate=2", "train.validate_every=3", "train.checkpoint_every=4")
BF16 = "train.mixed_precision=bf16"
LEAN = ("train.memory_probe=true", "model.checkpoint_activations=true")
HALF, WHOLE = "train.updates=4", "train.updates=8"
# Name, the run that it goes on with (of two processes, or of `one`), and its settings.
JOBS = (
    ("ddp", "", (WHOLE,)),
    ("fsdp", "", (WHOLE, FSDP)),
    ("half-ddp", "", (HALF,)),
    ("half-fsdp", "", (HALF, FSDP)),
    ("fsdp-then-fsdp", "half-fsdp", (WHOLE, FSDP)),
    ("fsdp-then-ddp", "half-fsdp", (WHOLE,)),
    ("ddp-then-fsdp", "half-ddp", (WHOLE, FSDP)),
    ("one-then-ddp", "half-one", (WHOLE,)),
    ("one-then-fsdp", "half-one", (WHOLE, FSDP)),
    ("shares", "", (HALF, FSDP, SHARES)),
    ("shares-then-fsdp", "shares", (WHOLE, FSDP)),
    ("shares-then-ddp", "shares", (WHOLE,)),
    ("fsdp-then-shares", "half-fsdp", (WHOLE, FSDP, SHARES)),
    ("ddp-bf16", "", (HALF, BF16)),
    ("fsdp-bf16", "", (HALF, BF16, FSDP)),
    ("fsdp-lean", "", (HALF, FSDP, *LEAN)),
)  # fmt: skip


@pytest.fixture(scope="module")
def made(
    command: Callable[..., list[str]],
    run: Any,
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with all runs of JOBS, and the gradients of an update under DDP and FSDP."""
    folder = tmp_path_factory.mktemp("fsdp")
    run("velocity", folder / "half-one", *SETTINGS, HALF)
    jobs = [(name, start, command("velocity", folder / name, *SETTINGS, *more))
            for name, start, more in JOBS]  # fmt: skip
    write_json(folder / "jobs.json", jobs)
    write_json(folder / "tasks.json", {
        task: command(task, folder / task, "aligner=tiny", *SETTINGS) for task in TASKS
    })  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         __file__, str(folder)],
        cwd=repository,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "home"),
             "COLUMNS": "200"},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:5000]
    (folder / "said.txt").write_text(done.stdout)
    return folder


@pytest.fixture()
def read(made: Path, finished: Any) -> Callable[[str], Any]:
    """(name) to the run."""
    return lambda name: type(finished)(made / name, "velocity")


def close(
    found: Sequence[Sequence[float]], wanted: Sequence[Sequence[float]], within: float = TOLERANCE
) -> bool:
    """Whether all figures are equal, relative to their size."""
    return len(found) == len(wanted) > 0 and all(
        tuple(a) == pytest.approx(tuple(b), rel=within)
        for a, b in zip(found, wanted, strict=True)
    )


def last_checkpoint(run: Any) -> Path:
    return checkpoint.found(run.folder / "checkpoints")[-1]


def last_state(run: Any) -> dict[str, Tensor]:
    return load_file(last_checkpoint(run) / "state.safetensors")


@pytest.mark.parametrize("task", TASKS)
def test_each_process_holds_a_part_of_each_parameter(made: Path, task: str) -> None:
    told = read_json(made / "held.json")
    ddp, fsdp = told[f"{task}-ddp"], told[f"{task}-fsdp"]
    assert fsdp["all_are_dealt_out"]
    assert not ddp["any_is_dealt_out"]
    assert ddp["held"] == [ddp["all"]] * 2
    assert sum(fsdp["held"]) == ddp["all"] == fsdp["all"]
    assert max(fsdp["held"]) < 0.6 * ddp["all"]


@pytest.mark.parametrize("task", TASKS)
def test_gradients_are_those_of_copies(made: Path, task: str) -> None:
    """Of an update of two batches a process; relative to the norm, which is told alike."""
    fsdp, ddp = (load_file(made / f"{task}-{name}.safetensors") for name in ("fsdp", "ddp"))
    assert fsdp.keys() == ddp.keys()
    assert all(fsdp[name].shape == ddp[name].shape for name in ddp)
    size = float(torch.stack([g.square().sum() for g in ddp.values()]).sum().sqrt())
    off = float(torch.stack([(fsdp[n] - ddp[n]).square().sum() for n in ddp]).sum().sqrt())
    assert size > 1e-2
    assert off < TOLERANCE * size
    told = read_json(made / "held.json")
    assert told[f"{task}-ddp"]["norm"] == pytest.approx(size, rel=1e-5)
    assert told[f"{task}-fsdp"]["norm"] == pytest.approx(size, rel=TOLERANCE)


def test_a_run_is_that_of_copies(read: Any) -> None:
    """Losses and norms of all updates, those after a validation too, and the validations."""
    fsdp, ddp = read("fsdp"), read("ddp")
    assert [update for update, *_ in ddp.losses] == list(range(1, 9))
    assert [update for update, _ in ddp.validation] == [3, 6, 8]
    assert close(fsdp.losses, ddp.losses)
    assert close(fsdp.validation, ddp.validation)


def test_settings_that_save_memory_change_nothing(read: Any) -> None:
    """The probe of the largest batch leaves nothing behind; activations are computed again."""
    assert close(read("fsdp-lean").losses, read("half-fsdp").losses)


def test_half_precision_is_that_of_copies(read: Any) -> None:
    """As near as bf16's eight bits go."""
    assert close(read("fsdp-bf16").losses, read("ddp-bf16").losses, 0.01)
    assert read("fsdp-bf16").losses != read("half-fsdp").losses


def test_the_voice_is_an_ordinary_one(read: Any, prepared: Path) -> None:
    """Read by one process, it gives the validation loss that the run ended with."""
    fsdp = read("fsdp")
    config = compose([f"data={prepared}", f"out={fsdp.out}", "model=tiny", "train=tiny"])
    data = open_prepared(prepared)
    network = ModelFolder.open(fsdp.out / "model").load("velocity")
    batches = list(validation.validation_batches(config, data, split(data, 2)[1]))
    found = validation.validate(Accelerator(cpu=True), make_task(config), network, batches)
    assert fsdp.validation[-1] == (8, pytest.approx(found["validation_loss"], rel=1e-5))
    assert not any(isinstance(p, DTensor) for p in network.parameters())


def test_a_checkpoint_holds_all_whole(read: Any) -> None:
    fsdp, ddp = (last_state(read(name)) for name in ("fsdp", "ddp"))
    assert {name: t.shape for name, t in fsdp.items()} == {name: t.shape for name, t in ddp.items()}
    assert {name.split(".")[0] for name in fsdp} == {"network", "ema", "optimizer"}
    a, b = (read_json(last_checkpoint(read(name)) / "state.json") for name in ("fsdp", "ddp"))
    assert (a["update"], a["frames"], a["feed"]) == (b["update"], b["frames"], b["feed"])


def test_a_run_taken_up_again_is_the_unbroken_one(read: Any) -> None:
    """Bit for bit, with as many processes as there were."""
    again, unbroken = read("fsdp-then-fsdp"), read("fsdp")
    assert again.losses == unbroken.losses
    assert again.validation[-1] == unbroken.validation[-1]
    a, b = last_state(again), last_state(unbroken)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize("name", ["fsdp-then-ddp", "ddp-then-fsdp"])
def test_copies_go_on_with_what_was_dealt_out_and_the_other_way_round(read: Any, name: str) -> None:
    assert close(read(name).losses, read("ddp").losses)
    assert close(read(name).validation[-1:], read("ddp").validation[-1:])


def test_two_processes_go_on_with_a_run_of_one(made: Path, read: Any) -> None:
    assert close(read("one-then-fsdp").losses, read("one-then-ddp").losses)
    assert len(read("one-then-fsdp").losses) == 8
    said = (made / "said.txt").read_text()
    assert said.count("4 batches an update where there were 2") == 2


def test_one_process_goes_on_with_what_was_dealt_out(
    made: Path, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = {}
    for name in ("half-fsdp", "half-ddp"):
        shutil.copytree(made / name, tmp_path / name)
        again[name] = run("velocity", tmp_path / name, *SETTINGS, WHOLE)
        assert "2 batches an update where there were 4" in capsys.readouterr().out
    assert len(again["half-fsdp"].losses) == 8
    assert close(again["half-fsdp"].losses, again["half-ddp"].losses)


def test_each_process_writes_its_share(read: Any) -> None:
    """About a half of the whole state each, and the voice is the same as without."""
    shares, plain = read("shares"), read("half-fsdp")
    files = sorted(p.name for p in last_checkpoint(shares).iterdir())
    assert files == ["shard-00001-model-00001-of-00001.safetensors",
                     "shard-00002-model-00001-of-00001.safetensors", "state.json"]  # fmt: skip
    sizes = [(last_checkpoint(shares) / name).stat().st_size for name in files[:2]]
    whole_size = (last_checkpoint(plain) / "state.safetensors").stat().st_size
    assert max(sizes) < 0.7 * whole_size
    assert sum(sizes) < 1.2 * whole_size
    voices = [load_file(run.out / "model" / "velocity.safetensors") for run in (shares, plain)]
    assert all(torch.equal(voices[0][name], value) for name, value in voices[1].items())


def test_a_run_goes_on_with_shares(read: Any) -> None:
    """Bit for bit where they are dealt out as they were, and as copies; and shares of the whole."""
    assert read("shares-then-fsdp").losses == read("fsdp").losses
    a, b = last_state(read("shares-then-fsdp")), last_state(read("fsdp"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert close(read("shares-then-ddp").losses, read("ddp").losses)
    assert read("fsdp-then-shares").losses == read("fsdp").losses


def test_one_process_goes_on_with_shares(made: Path, run: Any, tmp_path: Path) -> None:
    shutil.copytree(made / "shares", tmp_path / "one")
    shutil.copytree(made / "half-fsdp", tmp_path / "plain")
    again = run("velocity", tmp_path / "one", *SETTINGS, WHOLE)
    assert len(again.losses) == 8
    assert again.losses == run("velocity", tmp_path / "plain", *SETTINGS, WHOLE).losses


@pytest.mark.parametrize("left", [0, 1])
def test_a_lost_share_is_told(made: Path, run: Any, tmp_path: Path, left: int) -> None:
    shutil.copytree(made / "shares", tmp_path / "lost")
    shares = sorted((tmp_path / "lost").rglob("shard-*.safetensors"))
    shares[left].unlink()
    with pytest.raises(UserError, match=r"the checkpoint is damaged .*1 of 2 shares are missing"):
        run("velocity", tmp_path / "lost", *SETTINGS, WHOLE)


def test_one_process_has_no_shares(command: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"writes what train\.fsdp deals out: set both"):
        loop.train(compose(command("velocity", tmp_path / "out", SHARES)))


def test_one_process_deals_nothing_out(command: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.fsdp .* to several processes, this is one"):
        loop.train(compose(command("velocity", tmp_path / "out", FSDP)))


def gradients(words: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Of the first update of a run, whole, and how the network is held."""
    config = compose(words)
    accelerator = trainer.make_accelerator(config)
    data = open_prepared(config.data)
    task = make_task(config)
    torch.manual_seed(0)
    network = task.build(data.phones, data.features)
    nn.init.normal_(network.output.weight, std=0.1)  # at zero nothing below it would learn
    model = trainer.distribute(network, accelerator, config.train)
    rows, _ = split(data, 2)
    feed = make_feed(config, data, rows, accelerator.process_index, accelerator.num_processes)
    accumulate_gradients(accelerator, task, model, next(iter(feed)))
    dealt = [isinstance(p, DTensor) for p in network.parameters()]
    parts = [p.to_local() if isinstance(p, DTensor) else p for p in network.parameters()]
    held = torch.tensor([sum(p.numel() for p in parts)])
    found = {name: whole(p.grad) for name, p in network.named_parameters()}
    return found, {
        "all_are_dealt_out": all(dealt),
        "any_is_dealt_out": any(dealt),
        "all": sum(p.numel() for p in network.parameters()),
        "held": accelerator.gather(held).tolist(),
        "norm": clip_gradients(network, 1e9),
    }


def main(folder: Path) -> None:
    """One of two processes."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    signal.alarm(400)  # whatever hangs ends
    # A run destroys its process group, and a process cannot make it anew.
    PartialState.destroy_process_group = lambda self, group=None: None  # type: ignore[method-assign]
    first = os.environ["RANK"] == "0"
    for name, start, words in read_json(folder / "jobs.json"):
        if start and first:  # the other waits where the run claims its folder
            shutil.copytree(folder / start, folder / name)
        loop.train(compose(words))
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    told = {}
    for task, words in read_json(folder / "tasks.json").items():
        for name, more in ((f"{task}-ddp", []), (f"{task}-fsdp", [FSDP])):
            tensors, told[name] = gradients([*words, *more])
            if first:
                save_file(tensors, folder / f"{name}.safetensors")
    if first:
        write_json(folder / "held.json", told)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
