"""What whole tasks are done with: recordings of two readers, and an untrained voice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.said import flac
from voiceflow.audio.io import Recording, read
from voiceflow.voice import Voice


@pytest.fixture(scope="module")
def recording(speech_dir: Path) -> Recording:
    """It says SAID."""
    return read(flac(speech_dir, "1089-134686-0032"))


@pytest.fixture(scope="module")
def prompt(speech_dir: Path) -> tuple[Recording, str]:
    """Another speaker's words."""
    path = flac(speech_dir, "237-126133-0012")
    lines = (path.parent / "237-126133.trans.txt").read_text().splitlines()
    text = next(line.split(maxsplit=1)[1] for line in lines if line.startswith(path.stem))
    return read(path), text


@pytest.fixture(scope="module")
def voice(tiny_voice: Path) -> Voice:
    return Voice.load(tiny_voice)
