"""Whole runs on synthetic data: taken up again bit for bit, whole on disk, and learning."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from voiceflow import __version__
from voiceflow.config import UserError, as_dict, compose
from voiceflow.data.batching import Batch
from voiceflow.data.dataset import split
from voiceflow.data.shards import open_prepared
from voiceflow.files import read_json, write_json
from voiceflow.model_folder import ModelFolder
from voiceflow.training import checkpoint
from voiceflow.training.loop import train
from voiceflow.training.tasks import VelocityTask, make_task
from voiceflow.training.validation import validate, validation_batches

Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def finished_duration(finished: Any) -> Any:
    """The duration run beside `finished`."""
    return type(finished)(finished.out, "duration")


def weights(run: Any, name: str) -> dict[str, Tensor]:
    """A run's voice."""
    return load_file(run.out / "model" / f"{name}.safetensors")


def state(run: Any) -> dict[str, Tensor]:
    """All tensors of a run's last checkpoint."""
    return load_file(checkpoint.found(run.folder / "checkpoints")[-1] / "state.safetensors")


def assert_same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def assert_same_run(a: Any, b: Any) -> None:
    """Bit for bit: losses, norms, validation, the voice, and all that a next update would need."""
    assert a.losses == b.losses
    assert a.validation == b.validation
    assert_same_tensors(weights(a, a.folder.name), weights(b, b.folder.name))
    assert_same_tensors(state(a), state(b))


def going_on_after(said: str) -> int:
    """The update after which a run says that it goes on; a run begun anew would give the same."""
    [update] = re.findall(r"going on after update (\d+) of", said)
    return int(update)


@pytest.mark.parametrize("task", ["velocity", "duration"])
def test_a_run_taken_up_again_is_the_unbroken_one(
    run: Any,
    task: str,
    finished: Any,
    finished_duration: Any,
    stopped_after: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped before the first checkpoint, then three updates after it."""
    whole = finished if task == "velocity" else finished_duration
    stopped_after(4, lambda: run(task, tmp_path))
    stopped_after(13, lambda: run(task, tmp_path))
    broken = type(whole)(tmp_path, task)
    assert broken.losses == whole.losses[:13]
    assert [p.name for p in checkpoint.found(broken.folder / "checkpoints")] == ["00000010"]
    assert_same_run(run(task, tmp_path), whole)
    assert going_on_after(capsys.readouterr().out) == 10
    assert [update for update, *_ in broken.losses] == list(range(1, 21))


def test_dropout_accumulation_and_workers_are_taken_up_too(
    run: Any, stopped_after: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("model.dropout=0.3", "train.accumulate=2", "train.updates=8", "train.workers=1",
            "train.checkpoint_every=3")  # fmt: skip
    whole = run("velocity", tmp_path / "whole", *more)
    stopped_after(5, lambda: run("velocity", tmp_path / "broken", *more))
    assert_same_run(run("velocity", tmp_path / "broken", *more), whole)
    assert going_on_after(capsys.readouterr().out) == 3


def test_a_finished_run_is_left_as_it_is(run: Any, finished: Any, tmp_path: Path) -> None:
    shutil.copytree(finished.out, tmp_path / "copy")
    again = run("velocity", tmp_path / "copy")
    assert again.log == finished.log
    assert_same_run(again, finished)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("train.learning_rate=0.002", "train.learning_rate: 0.001 then, 0.002 now"),
        ("train.betas=[0.9,0.98]", "train.betas: [0.9, 0.999] then, [0.9, 0.98] now"),
        ("model.width=64", "model.width: 32 then, 64 now"),
        ("task.p_mask_all=0.5", "task.p_mask_all: 0.3 then, 0.5 now"),
        ("train.seed=1", "train.seed: 0 then, 1 now"),
    ],
)
def test_a_folder_with_another_runs_settings_is_refused(
    command: Command, finished: Any, setting: str, shown: str
) -> None:
    before = finished.log
    with pytest.raises(UserError) as refused:
        train(compose(command("velocity", finished.out, setting)))
    said = f"{finished.folder} holds a run with other settings ({shown}): choose another out="
    assert str(refused.value) == said
    assert finished.log == before


def test_a_folder_with_a_run_on_other_data_is_refused(
    run: Any, prepared: Path, finished: Any, tmp_path: Path
) -> None:
    """Data are known by their fingerprint, and both folders may move."""
    out, data = tmp_path / "out", tmp_path / "data"
    shutil.copytree(finished.out, out)
    shutil.copytree(prepared, data, ignore=shutil.ignore_patterns(".cache"))
    assert run("velocity", out, f"data={data}").log == finished.log
    write_json(data / "info.json", {**read_json(data / "info.json"), "fingerprint": "changed"})
    with pytest.raises(UserError, match=r"\(data: synthetic then, changed now\): choose another"):
        run("velocity", out, f"data={data}")


def test_free_settings_may_change_and_change_no_figure(
    run: Any, finished: Any, stopped_after: Any, tmp_path: Path
) -> None:
    """Nor does it matter how often validation is computed."""
    free = ("train.checkpoint_every=4", "train.validate_every=5", "train.workers=1",
            "train.keep_checkpoints=3", "sample.steps=3")  # fmt: skip
    stopped_after(12, lambda: run("velocity", tmp_path))
    changed = run("velocity", tmp_path, *free)
    assert changed.losses == finished.losses
    assert [update for update, _ in changed.validation] == [10, 15, 20]
    assert set(finished.validation) < set(changed.validation)
    assert_same_tensors(weights(changed, "velocity"), weights(finished, "velocity"))
    kept = [p.name for p in checkpoint.found(changed.folder / "checkpoints")]
    assert kept == ["00000012", "00000016", "00000020"]
    record = yaml.safe_load((changed.folder / "run.yaml").read_text())
    assert record["config"]["train"]["checkpoint_every"] == 4
    assert ModelFolder.open(tmp_path / "model").config.sample.steps == 3


def test_the_voice_is_whole(finished: Any, finished_duration: Any, prepared: Path) -> None:
    data = open_prepared(prepared)
    voice = ModelFolder.open(finished.out / "model")
    assert (voice.features, voice.phones) == (data.features, data.phones)
    for run, name in ((finished, "velocity"), (finished_duration, "duration")):
        made = voice.config.training[name]
        assert (made["updates"], made["data_fingerprint"], made["aligner"]) == (
            20, "synthetic", "none"
        )  # fmt: skip
        saved = read_json(checkpoint.found(run.folder / "checkpoints")[-1] / "state.json")
        frames = int(data.info["frames"])
        assert made["passes_over_data"] == round(saved["frames"] / frames, 2) > 1
        averaged = {k.removeprefix("ema."): v for k, v in state(run).items() if k[:4] == "ema."}
        assert_same_tensors(dict(voice.load(name).state_dict()), averaged)


def test_the_last_validation_is_that_of_the_voice(
    command: Command, finished: Any, finished_duration: Any, prepared: Path
) -> None:
    data = open_prepared(prepared)
    _, held_out = split(data, 2)
    for run, name in ((finished, "velocity"), (finished_duration, "duration")):
        config = compose(command(name, run.out))
        batches = list(validation_batches(config, data, held_out))
        assert {id for batch in batches for id in batch.ids} == {
            str(data.dataset[row]["id"]) for row in held_out
        }
        network = ModelFolder.open(run.out / "model").load(name)
        figures = validate(Accelerator(cpu=True), make_task(config), network, batches)
        value = figures["validation_loss"]
        assert run.validation[-1] == (20, pytest.approx(value, rel=1e-6))


def test_nothing_held_out_is_no_validation(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run("velocity", tmp_path, "train.updates=2", "train.validate_every=1",
                "train.validation_utterances=0")  # fmt: skip
    told = capsys.readouterr().out
    assert "no utterance is held out" in told
    assert "nan" not in told
    log = [json.loads(line) for line in (whole.folder / "log.jsonl").read_text().splitlines()]
    assert log
    assert not any("validation_loss" in entry for entry in log)


def test_the_record_of_a_run(command: Command, finished: Any, prepared: Path) -> None:
    record = yaml.safe_load((finished.folder / "run.yaml").read_text())
    resolved = as_dict(compose(command("velocity", finished.out)))
    assert record["config"] == resolved
    assert record["config"]["train"]["crop_frames"] == 400  # of conf/train/tiny.yaml
    assert record["data_fingerprint"] == "synthetic"
    assert record["versions"]["voiceflow"] == __version__
    assert record["versions"]["torch"] == torch.__version__
    trained = {n: v for n, v in state(finished).items() if n.startswith("network.")}
    assert record["parameters"] == sum(v.numel() for v in trained.values())
    assert record["training_utterances"] == 22


def test_tensorboard_has_what_the_log_has(finished: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [events] = (finished.folder / "tensorboard").rglob("events*")
    read = EventAccumulator(str(events)).Reload()
    for name in ("loss", "gradient_norm", "learning_rate", "validation_loss"):
        logged = [(x["update"], x[name]) for x in finished.log if name in x]
        assert [(e.step, pytest.approx(e.value)) for e in read.Scalars(name)] == logged


def test_a_loss_that_is_not_finite_is_named(
    run: Any,
    finished: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before the weights are touched: without the fault the run goes on as if it had not been."""
    seen: list[tuple[str, ...]] = []
    right = VelocityTask.loss_sum

    def poisoned(self: VelocityTask, network: nn.Module, batch: Batch) -> Tensor:
        if network.training:
            seen.append(batch.ids)
        return right(self, network, batch) * (math.inf if len(seen) == 12 else 1)

    with monkeypatch.context() as patch, pytest.raises(FloatingPointError) as raised:
        patch.setattr(VelocityTask, "loss_sum", poisoned)
        run("velocity", tmp_path, "train.checkpoint_every=11", "train.skip_limit=0")
    assert str(raised.value).startswith("update 11: loss inf, gradient norm ")
    told = json.loads((tmp_path / "velocity" / "skipped.jsonl").read_text())
    assert (told["update"], told["utterances"]) == (11, list(seen[-1]))
    assert_same_run(run("velocity", tmp_path), finished)
    assert going_on_after(capsys.readouterr().out) == 11


class Constant(nn.Module):
    """Answers the same to everything."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, first: Tensor, *_: Tensor) -> Tensor:
        return torch.full(first.shape, self.value)


@pytest.mark.parametrize("task", ["velocity", "duration"])
def test_the_loss_falls(
    run: Any, command: Command, prepared: Path, task: str, tmp_path: Path
) -> None:
    """Well below that of the best constant answer; the velocity network starts as a zero."""
    config = compose(command(task, tmp_path))
    data = open_prepared(prepared)
    batches = list(validation_batches(config, data, split(data, 2)[1]))
    accelerator = Accelerator(cpu=True)
    best = min(
        validate(accelerator, make_task(config), Constant(0.1 * i), batches)["validation_loss"]
        for i in range(25)
    )
    learned = run(task, tmp_path, "train.updates=80", "train.validate_every=80",
                  "train.learning_rate=0.003")  # fmt: skip
    assert learned.validation[-1][1] < 0.75 * best


def test_a_voice_to_start_from(run: Any, finished: Any, tmp_path: Path) -> None:
    """With a learning rate of zero the weights stay what they were at the start."""
    start = f"train.init_from={finished.out / 'model'}"
    started = run("velocity", tmp_path, start, "train.learning_rate=0", "train.updates=2")
    assert_same_tensors(weights(started, "velocity"), weights(finished, "velocity"))
    assert started.validation == [(2, finished.validation[-1][1])]


def test_a_voice_keeps_the_statistics_that_it_was_trained_on(
    run: Any, finished: Any, prepared: Path, tmp_path: Path
) -> None:
    """Its weights stand on them; new data of another loudness are heard through them."""
    data = tmp_path / "data"
    shutil.copytree(prepared, data, ignore=shutil.ignore_patterns(".cache"))
    features = read_json(data / "features.json")
    write_json(data / "features.json", {**features, "mean": -4.0, "std": 3.0})
    start = f"train.init_from={finished.out / 'model'}"
    started = run("velocity", tmp_path / "run", f"data={data}", start, "train.learning_rate=0",
                  "train.updates=1")  # fmt: skip
    voice = ModelFolder.open(started.out / "model")
    assert voice.features == ModelFolder.open(finished.out / "model").features
    assert started.validation == [(1, finished.validation[-1][1])]


def test_a_voice_of_another_size_is_no_start(
    command: Command, finished: Any, tmp_path: Path
) -> None:
    start = (f"train.init_from={finished.out / 'model'}", "model.width=64")
    with pytest.raises(UserError, match="velocity network of another size: choose the same model="):
        train(compose(command("velocity", tmp_path / "out", *start)))


def test_a_voice_of_other_features_is_no_start(
    command: Command, tiny_voice: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"different feature specifications \(n_mels 80 / 8"):
        train(compose(command("velocity", tmp_path / "out", f"train.init_from={tiny_voice}")))
    assert not (tmp_path / "out").exists()


def test_a_voice_of_other_phones_is_no_start(
    command: Command, finished: Any, tmp_path: Path
) -> None:
    voice = tmp_path / "voice"
    shutil.copytree(finished.out / "model", voice)
    symbols = read_json(voice / "phones.json")
    write_json(voice / "phones.json", [symbols[0], *reversed(symbols[1:])])
    with pytest.raises(UserError, match=f"{voice} and .* have different phone tables"):
        train(compose(command("velocity", tmp_path / "out", f"train.init_from={voice}")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.mixed_precision=fp8", "train.mixed_precision must be no or bf16, found fp8"),
        ("task.name=painter", "task.name 'painter' is not one of"),
        ("data=/no/such/folder", "/no/such/folder: no prepared data here"),
        ("train.init_from=nobody", "voice 'nobody' is neither a folder nor"),
    ],
)
def test_wrong_settings(command: Command, tmp_path: Path, setting: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        train(compose(command("velocity", tmp_path / "out", setting)))
    assert not (tmp_path / "out").exists()
