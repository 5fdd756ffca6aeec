"""The arithmetic of scaling against closed forms, and docs/scaling.md against the command."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from voiceflow.benchmark.scaling import Data, Machine, Model, Need, papers_models
from voiceflow.cli.app import app
from voiceflow.config import UserError

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text("utf-8")
SECTION = re.compile(
    r"^```bash\nvoiceflow benchmark scaling(.*)\n```\n\n"
    r"```text\n((?:[^`].*\n)+)```\n\n((?:\|.*\n)+)",
    re.MULTILINE,
)
SECTIONS = SECTION.findall(DOCUMENT)
MODEL = Model("audio", parameters=1000, flops_per_frame=200.0, updates=36, batch_frames=400)
MACHINE = Machine(gpus=4, peak=1000.0, utilisation=0.5, bandwidth=600.0, read_bandwidth=500.0,
                  workers=2, cores=5, memory=0.0)  # fmt: skip
DATA = Data(shard_bytes=2.0, mapped_bytes=3.0, recording_bytes=1.0, examples_per_second=10.0)


def run(arguments: list[str]) -> str:
    shown = CliRunner().invoke(app, ["benchmark", "scaling", *arguments])
    assert shown.exit_code == 0, (shown.output, shown.exception)
    return shown.output


@pytest.mark.parametrize(("arguments", "text", "table"), SECTIONS, ids=lambda text: text[:30])
def test_the_document_says_what_the_command_says(arguments: str, text: str, table: str) -> None:
    assert run(shlex.split(arguments)) == f"{text}\n{table}"


def test_the_document_has_all_its_sections() -> None:
    # The one that measures prints other figures on every machine.
    commands = re.findall(r"voiceflow benchmark scaling (?!--data)--", DOCUMENT)
    assert len(SECTIONS) == len(commands) == 4


def test_the_document_names_the_constants() -> None:
    words = DOCUMENT.replace("450 000", "450000").replace("18 931", "18931")
    data, machine = Data(), Machine()
    for value in (
        data.shard_bytes, data.mapped_bytes, data.phones_per_frame, data.recording_bytes,
        data.examples_per_second, data.features_speed, data.alignment_speed, machine.cores,
        machine.peak / 1e12, machine.utilisation * 100, machine.bandwidth / 1e9,
        machine.read_bandwidth / 1e6, machine.disk / 1e12,
    ):  # fmt: skip
        assert re.search(rf"(?<![\d.]){value:.10g}(?![\d.]\d)", words), value


def test_the_defaults_of_the_command_are_those_of_the_machine(tmp_path: Path) -> None:
    run(["--json", str(tmp_path / "given.json")])
    given = json.loads((tmp_path / "given.json").read_text("utf-8"))
    assert given["machine"] == pytest.approx(vars(Machine()))
    assert given["data"] == vars(Data())
    assert [row["hours"] for row in given["rows"]] == 2 * [100, 960, 60_000]
    assert given["rows"][0]["training_hours"] > 0


def test_one_by_hand() -> None:
    need = Need(MODEL, MACHINE, DATA, hours=0.01)
    assert need.frames == 3600
    assert need.passes == 36 * 400 / 3600
    assert need.share == 100
    assert need.compute_seconds == 100 * 200 / 500
    assert need.reading_seconds == 100 * 3 / 500
    assert need.examples_seconds == 100 / 20
    assert need.reduced_bytes == 2 * 3 / 4 * 4000
    assert need.reduce_seconds == 10
    assert need.update_seconds == 50
    assert need.training_hours == 36 * 50 / 3600
    assert need.preparation_core_hours == pytest.approx(0.01 / 300 + 0.01 / 100)
    assert need.disk_bytes == pytest.approx(3 * 16 * 1000 + 3600 * 5 + 36)
    assert need.narrowest == "compute"


def test_a_stream_keeps_no_data_and_moves_them() -> None:
    need = Need(MODEL, replace(MACHINE, stream=True, memory=1e9), DATA, hours=0.01)
    assert need.disk_bytes == 48_000
    assert need.reading_seconds == 100 * 2 / 500
    assert need.streamed_bytes_per_second == 400 * 2 / 50


def test_data_that_fit_into_memory_are_not_read_again() -> None:
    assert Need(MODEL, replace(MACHINE, memory=10_800.0), DATA, hours=0.01).reading_seconds == 0
    assert Need(MODEL, replace(MACHINE, memory=10_799.0), DATA, hours=0.01).reading_seconds > 0


def test_a_gpu_alone_sends_nothing() -> None:
    assert Need(MODEL, replace(MACHINE, gpus=1), DATA, hours=1.0).reduced_bytes == 0


@pytest.mark.parametrize(
    ("machine", "data", "hours", "narrowest"),
    [
        (replace(MACHINE, read_bandwidth=1.0), DATA, 1.0, "reading"),
        (MACHINE, replace(DATA, examples_per_second=0.1), 1.0, "examples"),
        (replace(MACHINE, bandwidth=1.0), DATA, 1.0, "all-reduce"),
        (MACHINE, DATA, 1000.0, "preparation"),
        (replace(MACHINE, disk=1e6), DATA, 1000.0, "disk (1e-06 TB)"),
    ],
)
def test_what_is_narrowest(machine: Machine, data: Data, hours: float, narrowest: str) -> None:
    assert Need(MODEL, machine, data, hours).narrowest == narrowest


def test_the_papers_models() -> None:
    audio, duration = papers_models(Data())
    assert audio.parameters == pytest.approx(330e6, rel=0.02)
    assert duration.parameters == pytest.approx(28e6, rel=0.02)
    # 6 operations a weight and token, without the convolutions, and 12 L T D of attention.
    assert audio.flops_per_frame == pytest.approx(
        6 * (audio.parameters - 2 * 31 * 1024 * 64) + 12 * 24 * 1600 * 1024, rel=0.01
    )
    assert duration.flops_per_frame < audio.flops_per_frame / 50
    more = papers_models(replace(Data(), phones_per_frame=0.25))[1]
    assert 2 < more.flops_per_frame / duration.flops_per_frame < 2.2  # attention grows faster


def test_a_measured_speed_gives_the_utilisation(tmp_path: Path) -> None:
    out = tmp_path / "given.json"
    run(["--gpus", "2", "--frames-per-second", "50000", "--json", str(out)])
    given = json.loads(out.read_text("utf-8"))
    audio = given["rows"][0]
    assert audio["compute_seconds"] == pytest.approx(240_000 / 2 / 50_000)
    flops = given["models"]["audio"]["flops_per_frame"]
    assert given["machine"]["utilisation"] == pytest.approx(50_000 * flops / 989e12)


@pytest.mark.parametrize("wrong", [0.0, 1.01, -1.0, float("nan")])
def test_no_gpu_does_more_than_its_peak(wrong: float) -> None:
    with pytest.raises(UserError, match="utilisation must lie above 0"):
        Machine(utilisation=wrong)


def test_data_are_measured(prepared: Path) -> None:
    data = Data.of(prepared)
    frames = json.loads((prepared / "info.json").read_text("utf-8"))["frames"]
    shards = sum(p.stat().st_size for p in (prepared / "shards").glob("*.parquet"))
    assert data.shard_bytes == shards / frames
    assert data.mapped_bytes > 2 * 8  # float16 of 8 bands, and the rest
    assert 0.1 < data.phones_per_frame < 1  # 5 frames a phone, silences between
    assert data.examples_per_second > 0
    assert data.features_speed == Data().features_speed
