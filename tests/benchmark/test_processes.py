"""A benchmark that is killed and given again, and one that several processes share."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from voiceflow.benchmark.result import without_times
from voiceflow.files import read_json


def command(speech_dir: Path, tiny_voice: Path, out: Path) -> list[str]:
    return [
        "benchmark", "--data", str(speech_dir / "LibriSpeech"), "--voice", str(tiny_voice),
        "--out", str(out), "--limit", "6", "--scorers", "fsd-log-mel,pocketsphinx",
    ]  # fmt: skip


@pytest.mark.long
def test_three_kills_change_nothing(
    speech_dir: Path, tiny_voice: Path, repository: Path, tmp_path: Path
) -> None:
    words = command(speech_dir, tiny_voice, tmp_path / "killed")
    wanted = (
        lambda: len(list((tmp_path / "killed" / "audio").rglob("*.wav"))) > 5,
        lambda: len(list((tmp_path / "killed" / "audio").rglob("*.wav"))) > 20,
        lambda: len(list((tmp_path / "killed" / "scores").rglob("0*.json"))) > 2,
    )
    for reached in wanted:
        process = subprocess.Popen([sys.executable, "-m", "voiceflow", *words], cwd=repository)
        while not reached():
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "results.json").exists()
    for name in ("killed", "whole"):
        subprocess.run(
            [sys.executable, "-m", "voiceflow", *command(speech_dir, tiny_voice, tmp_path / name)],
            cwd=repository, check=True,
        )  # fmt: skip
    killed, whole = (
        without_times(read_json(tmp_path / name / "results.json")) for name in ("killed", "whole")
    )
    assert killed == whole


@pytest.mark.long
def test_two_processes_of_torchrun_do_what_one_does(
    speech_dir: Path, tiny_voice: Path, repository: Path, tmp_path: Path
) -> None:
    two, one = (command(speech_dir, tiny_voice, tmp_path / name) for name in ("two", "one"))
    starts = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "voiceflow"],
        ["-m", "voiceflow"],
    )
    for start, words in zip(starts, (two, [*one, "--workers", "2"]), strict=True):
        subprocess.run(
            [sys.executable, *start, *words], cwd=repository, check=True, timeout=600,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    a, b = (without_times(read_json(tmp_path / n / "results.json")) for n in ("two", "one"))
    assert a == b
