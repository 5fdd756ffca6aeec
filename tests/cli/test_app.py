import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from voiceflow import __version__
from voiceflow.cli import app as cli
from voiceflow.cli.train import check_overrides
from voiceflow.config import UserError

VERBS = [
    "infill",
    "edit",
    "speak",
    "continue",
    "denoise",
    "style",
    "score",
    "batch",
    "sample",
    "vocode",
    "demo",
    "train",
    "doctor",
    "toy",
    "pack",
    "prepare librispeech",
    "data show",
    "data stats",
    "data regenerate",
    "data validate",
    "measure alignment",
    "measure durations",
    "measure vocoder",
    "benchmark",
    "benchmark compare",
    "benchmark sweep",
    "benchmark speed",
    "benchmark sampling",
    "benchmark scaling",
    "benchmark ablation",
    "measure infill",
    "measure speech",
]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `voiceflow arguments`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["voiceflow", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_help_is_cheap() -> None:
    code = (
        "import sys, voiceflow.cli.app, voiceflow; voiceflow.__version__\n"
        "heavy = {'torch', 'torchaudio', 'librosa', 'numpy', 'hydra', 'matplotlib', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example(verb: str) -> None:
    shown = CliRunner().invoke(cli.app, [*verb.split(), "--help"], env={"COLUMNS": "100"})
    assert shown.exit_code == 0
    assert f"voiceflow {verb}" in shown.output.split("Example:")[1]


def test_version() -> None:
    assert CliRunner().invoke(cli.app, ["--version"]).output.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "task"], "key=value, found 'task'"),
        (["infill", "a.wav", "--text", "A", "--span", "1-2", "--out", "o.wav"], "START:END"),
        (["speak", "hi", "--out", "o.wav", "--prompt", "p.wav"], "found only --prompt"),
        (["demo", "--text", "hi"], "found only --text"),
    ],
)
def test_wrong_input_is_one_line_and_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("voiceflow: ")
    assert shown.err.count("\n") == 1
    assert message in shown.err


@pytest.mark.parametrize("arguments", [["fly"], ["infill"], ["speak", "hi", "--loud"]])
def test_wrong_usage_is_2(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    assert run(monkeypatch, *arguments) == 2


def test_our_own_faults_are_1_with_a_traceback() -> None:
    code = (
        "import voiceflow.cli.app as cli\n"
        "@cli.app.command()\n"
        "def fail(): raise ZeroDivisionError('planted')\n"
        "import sys; sys.argv = ['voiceflow', 'fail']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "planted" in done.stderr


def test_overrides() -> None:
    check_overrides(["task=velocity", "+train.x=1", "++a@b.c=", "~sample", "data=/a b", "a=[1,2]"])
    for wrong in ("task", "=velocity", "task =velocity", "task: velocity", "+"):
        with pytest.raises(UserError, match="key=value"):
            check_overrides(["data=x", wrong])


def test_doctor() -> None:
    shown = CliRunner().invoke(cli.app, ["doctor"])
    assert shown.exit_code == 0
    for part in (__version__, "torch ", "cpu:", "optional parts", "bundled voices"):
        assert part in shown.output


def test_an_aligner_is_asked_of_a_voice_that_carries_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = ["prepare", "table", "--root", str(tmp_path), "--out", str(tmp_path / "o")]
    assert run(monkeypatch, *where, "--aligner", "ctc") == 2
    assert "name the voice that carries it, as --voice mini" in capsys.readouterr().err
    assert run(monkeypatch, *where, "--aligner", "ctc", "--voice", str(tmp_path)) == 2
    assert "carries no aligner" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
