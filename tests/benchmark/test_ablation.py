"""The ablation: what is trained otherwise in each row, and a judge that knows right from wrong."""

import subprocess
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from voiceflow.benchmark.ablation import SMALL, VARIANTS, Judge, measure_original, train_variants
from voiceflow.cli.app import app
from voiceflow.config import UserError, compose
from voiceflow.data.batching import collate
from voiceflow.data.dataset import ExampleMaker
from voiceflow.data.shards import open_prepared
from voiceflow.files import read_json
from voiceflow.flow.paths import VariancePreserving
from voiceflow.training.samples import plans
from voiceflow.training.tasks import VelocityTask, make_task


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_another_training(name: str) -> None:
    paper = compose(["data=d", "out=o", "task=velocity", *SMALL])
    other = compose(["data=d", "out=o", "task=velocity", *SMALL, *VARIANTS[name]])
    assert (other == paper) == (name == "the paper's")


def test_an_unknown_variant_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no variant 'wider': there are the paper's, loss on"):
        next(train_variants("data", tmp_path / "runs", [], ["the paper's", "wider"]))
    assert not (tmp_path / "runs").exists()


def test_wider_networks_have_fewer_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def ran(words: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        given.append(words[4:])
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", ran)
    names = [name for name, _ in train_variants("d", tmp_path, ["train.updates=200"])]
    assert names == list(VARIANTS)
    updates = {n: compose(w).train.updates for n, w in zip(names, given, strict=True)}
    assert updates == {**dict.fromkeys(names, 200), "twice as wide, a quarter of the updates": 50}


def test_all_frames_count_where_asked(prepared: Path) -> None:
    data = open_prepared(prepared)
    config = compose(["data=d", "out=o", "task=velocity", "model=tiny"])
    make = ExampleMaker(data.features, config.task, 400, 0)
    batch = collate([make(0, row) for row in data.rows(range(4))])
    masked = make_task(config)
    config.task.loss_frames = "all"
    every = make_task(config)
    n_mels = data.features.n_mels
    assert masked.count(batch) == int(batch.frame_mask.sum()) * n_mels
    assert every.count(batch) == int(batch.frame_lengths.sum()) * n_mels
    network = masked.build(data.phones, data.features)
    assert float(every.loss_sum(network, batch)) > float(masked.loss_sum(network, batch)) > 0


def test_the_path_is_the_one_asked_for() -> None:
    config = compose(["data=d", "out=o", "task=velocity", "task.path=variance_preserving"])
    task = make_task(config)
    assert isinstance(task, VelocityTask)
    assert isinstance(task.objective.path, VariancePreserving)
    config.task.path = "straightest"
    with pytest.raises(UserError, match=r"task.path 'straightest' is not one of optimal_transport"):
        make_task(config)


@pytest.mark.long
def test_one_command_gives_the_table(speech_dir: Path, tmp_path: Path) -> None:
    """On real speech at thumbnail size: rows in order, and the judge hears the original best."""
    run = CliRunner()
    told = run.invoke(app, [
        "prepare", "librispeech", "--root", str(speech_dir / "LibriSpeech"), "--subset",
        "train-clean-5", "--limit", "40", "--aligner", "ctc", "--voice", "mini", "--out",
        str(tmp_path / "data"),
    ])  # fmt: skip
    assert told.exit_code == 0, told.output
    words = [
        "benchmark", "ablation", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "runs"),
        "--utterances", "2", "--steps", "2", "model=tiny", "train.updates=3",
        "train.batch_frames=800", "train.crop_frames=400",
    ]  # fmt: skip
    done = run.invoke(app, words)
    assert done.exit_code == 0, done.output
    rows = read_json(tmp_path / "runs" / "ablation.json")["rows"]
    assert [row["name"] for row in rows] == ["original", *VARIANTS]
    assert rows[0]["error"] == 0.0
    assert all(row["phones"] < rows[0]["phones"] for row in rows[1:])
    assert done.output.count("| ") >= len(rows)


def test_the_judge_hears_real_speech(speech_dir: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [
        "prepare", "librispeech", "--root", str(speech_dir / "LibriSpeech"), "--subset",
        "train-clean-5", "--limit", "4", "--aligner", "ctc", "--voice", "mini", "--out",
        str(tmp_path / "data"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    data = open_prepared(tmp_path / "data")
    judge = Judge("mini")
    rows = data.rows(range(4))
    row = measure_original(data, rows, judge)
    assert (row.error, row.variance) == (0.0, pytest.approx(1.0))
    assert row.phones > 0.7
    plan, mel = plans(rows[0], data.features, data.phones)["gap"]
    right, outputs = judge.right(torch.full_like(mel, float(mel.mean())), plan)
    assert outputs == pytest.approx(int(plan.mask.sum()) / 2, abs=1)
    assert right < outputs / 2
