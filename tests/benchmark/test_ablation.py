"""The ablation: what is trained otherwise in each row, and a judge that knows right from wrong."""

import subprocess
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from voiceflow.benchmark.ablation import (
    SMALL,
    VARIANTS,
    Judge,
    measure_original,
    run,
    train_variants,
    variants_of,
)
from voiceflow.cli.app import app
from voiceflow.config import UserError, compose
from voiceflow.data.batching import collate
from voiceflow.data.dataset import ExampleMaker
from voiceflow.data.relabel import relabel
from voiceflow.data.shards import open_prepared
from voiceflow.files import read_json
from voiceflow.flow.paths import VariancePreserving
from voiceflow.generation.plan import Plan
from voiceflow.text.phones import PhoneTable, unmarked, unplaced
from voiceflow.training.samples import plans
from voiceflow.training.tasks import VelocityTask, make_task


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_another_training(name: str) -> None:
    paper = compose(["data=d", "out=o", "task=velocity", *SMALL])
    other = compose(["data=d", "out=o", "task=velocity", *SMALL, *VARIANTS[name]])
    assert (other == paper) == (name == "the paper's")


@pytest.mark.parametrize("name", ["wider", "phones without stress"])
def test_a_variant_that_these_data_cannot_have_is_refused_before_anything_is_trained(
    name: str, prepared: Path, tmp_path: Path
) -> None:
    rows = run(str(prepared), tmp_path / "runs", [], 2, 1, "mini", ["the paper's", name])
    with pytest.raises(UserError, match=f"no variant '{name}' of these data: there are the paper"):
        next(rows)
    assert not (tmp_path / "runs").exists()


def test_stress_is_a_choice_where_the_phones_tell_it() -> None:
    plain, stressed = (variants_of(PhoneTable.english(stress)) for stress in (False, True))
    assert plain == [*VARIANTS, "phones without place in the word"]
    assert set(stressed) - set(plain) == {"phones without stress"}


def test_other_labels_are_trained_on_data_of_their_own(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound, borders and table stay; done again, nothing changes; the network sees the labels."""
    given: list[list[str]] = []

    def ran(words: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        given.append(words[4:])
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", ran)
    for _ in range(2):
        list(train_variants(str(prepared), tmp_path, [], ["phones without place in the word"]))
    assert given[0] == given[1]
    before, after = open_prepared(prepared), open_prepared(compose(given[0]).data)
    assert after.phones == before.phones
    assert after.info["fingerprint"] != before.info["fingerprint"]
    assert after.index.ids == before.index.ids
    rows = range(len(before.index.ids))
    for old, new in zip(before.rows(rows), after.rows(rows), strict=True):
        symbols = [before.phones.symbols[i] for i in old.phones]
        assert [after.phones.symbols[i] for i in new.phones] == [unplaced(s) for s in symbols]
        assert {s[-2:] for s in symbols} > {"_B", "_E"}
        assert (old.durations == new.durations).all()
        assert (old.mel == new.mel).all()
    with pytest.raises(UserError, match="holds other data than"):
        relabel(prepared, Path(compose(given[0]).data), unmarked, "stress")


def test_the_judge_does_not_ask_for_stress() -> None:
    judge, mel = Judge("mini"), torch.randn(40, 80)
    found = []
    for phones in (("AH_B", "T_E", "SIL"), ("AH1_B", "T_E", "SIL"), ("AH0_I", "T_I", "SIL")):
        mask = torch.ones(40, dtype=torch.bool)
        found.append(judge.right(mel, Plan(phones, (10, 10, 20), mel, mask, ((0, 40),))))
    assert found[0] == found[1] == found[2]


def test_wider_networks_have_fewer_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def ran(words: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        given.append(words[4:])
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", ran)
    told = train_variants("d", tmp_path, ["train.updates=200"], list(VARIANTS))
    names = [name for name, _ in told]
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
    runner = CliRunner()
    told = runner.invoke(app, [
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
    done = runner.invoke(app, words)
    assert done.exit_code == 0, done.output
    rows = read_json(tmp_path / "runs" / "ablation.json")["rows"]
    told = [row["name"] for row in rows]
    assert told == ["original", *VARIANTS, "phones without place in the word"]
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
