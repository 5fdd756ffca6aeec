"""Preparation that is killed again and again ends with the bytes of one that was not.

    VOICEFLOW_KILLS=20 VOICEFLOW_UTTERANCES=1519 pytest -m long tests/e2e/test_prepare_kills.py

The kills follow what is written, and never a clock alone, so that they find work to break off on a
fast machine and a slow one.
"""

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

KILLS = int(os.environ.get("VOICEFLOW_KILLS", "4"))
UTTERANCES = os.environ.get("VOICEFLOW_UTTERANCES", "192")
WORKERS = 2

# What a kill waits for, in turn: that anything was written; the same, and a part of the time that
# the first alignments take; further alignments; a further file of a shard, whole or not.
MOMENTS = ("starting", "aligning", "aligned", "writing")
WATCHED = {"aligned": "alignments", "writing": "shards"}

Files = dict[Path, tuple[int, int]]


def start(root: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "voiceflow", "prepare", "librispeech", "--root", str(root),
        "--subset", "train-clean-5", "--limit", UTTERANCES, "--aligner", "ctc", "--voice", "mini",
        "--workers", str(WORKERS), "--out", str(out),
    ]  # fmt: skip
    return subprocess.Popen(command, start_new_session=True)


def files(folder: Path) -> Files:
    """When each file was last written, and its size; those under temporary names too."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # renamed since it was listed
            told = path.stat()
            if path.is_file():
                found[path] = (told.st_mtime_ns, told.st_size)
    return found


def until(
    process: subprocess.Popen[bytes], folder: Path, before: Files, seconds: float = math.inf
) -> bool:
    """Wait for a file in the folder that was not so before; False where none comes in time.

    In time is before the process ends, and within so many seconds.
    """
    ends = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < ends:
        if files(folder).items() - before.items():
            return True
        time.sleep(0.01)
    return False


def finished(out: Path) -> tuple[int, int]:
    """How many shards are aligned, and how many are done."""
    return len(list(out.glob("alignments/[0-9]*.jsonl"))), len(list(out.glob("shards/?????.json")))


def next_moment(number: int, out: Path, shards: int) -> str:
    """The moment whose turn it is; the start instead, where too little is left to come to it."""
    aligned, done = finished(out)
    enough: dict[str, Callable[[], bool]] = {
        "starting": lambda: True,
        "aligning": lambda: shards - aligned >= WORKERS,
        "aligned": lambda: shards - aligned >= 1,
        "writing": lambda: shards - done >= WORKERS,
    }
    moment = MOMENTS[number % len(MOMENTS)]
    return moment if enough[moment]() else "starting"


def digests(out: Path) -> dict[str, str]:
    found = [p for p in sorted(out.rglob("*")) if p.is_file()]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


@pytest.mark.long
def test_kills_change_nothing(speech_dir: Path, tmp_path: Path) -> None:
    root = speech_dir / "LibriSpeech"
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    began = time.monotonic()
    process = start(root, unbroken)
    assert until(process, unbroken, {})
    written = time.monotonic()
    assert until(process, unbroken / "alignments", {})
    aligning = time.monotonic() - written
    assert process.wait() == 0
    brief = min(0.3, (time.monotonic() - began) / 100)
    shards, _ = finished(unbroken)

    chance = random.Random(0)
    stood = []  # how far the work was at each kill
    for number in range(KILLS):
        moment = next_moment(number, broken, shards)
        watched = broken / WATCHED.get(moment, "")
        before = files(watched)
        process = start(root, broken)
        until(process, watched, before)
        if moment == "aligning":
            most = chance.uniform(aligning / 4, aligning / 2)
            until(process, broken / "alignments", before, most)
        else:
            time.sleep(chance.uniform(0, brief))
        was_at_work = process.poll() is None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert was_at_work, f"kill {number} ({moment}) came too late, with {finished(broken)} done"
        assert not (broken / "info.json").exists(), f"kill {number} ({moment}) left no work"
        stood.append((moment, *finished(broken)))
    print(stood, f"of {shards} shards")
    if len(MOMENTS) <= KILLS and shards > WORKERS:  # else there is too little to come between
        assert {moment for moment, _, _ in stood} == set(MOMENTS)
        assert any(aligned > done for _, aligned, done in stood)
    process = start(root, broken)
    assert process.wait() == 0
    assert digests(broken) == digests(unbroken)
