"""Preparation that is killed again and again ends with the bytes of one that was not.

    VOICEFLOW_KILLS=20 VOICEFLOW_UTTERANCES=1519 pytest -m long tests/e2e/test_prepare_kills.py
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = int(os.environ.get("VOICEFLOW_KILLS", "4"))
STARTING = 6.0  # seconds in which nothing is written yet, so that the kills find work left
UTTERANCES = os.environ.get("VOICEFLOW_UTTERANCES", "192")


def command(root: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "voiceflow", "prepare", "librispeech", "--root", str(root),
        "--subset", "train-clean-5", "--limit", UTTERANCES, "--aligner", "ctc", "--voice", "mini",
        "--workers", "2", "--out", str(out),
    ]  # fmt: skip


def digests(out: Path) -> dict[str, str]:
    files = [p for p in sorted(out.rglob("*")) if p.is_file()]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.long
def test_kills_change_nothing(speech_dir: Path, tmp_path: Path) -> None:
    root = speech_dir / "LibriSpeech"
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    began = time.monotonic()
    subprocess.run(command(root, unbroken), check=True, capture_output=True)
    whole = time.monotonic() - began
    chance = random.Random(0)
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(root, broken), start_new_session=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(timeout=chance.uniform(0.1, STARTING + 2 * whole / KILLS))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed >= KILLS / 2  # else the machine was too fast for the test to mean much
    subprocess.run(command(root, broken), check=True, capture_output=True)
    assert digests(broken) == digests(unbroken)
