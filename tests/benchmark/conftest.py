"""Benchmarks of an untrained voice on two speakers of test-clean."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.benchmark.asked import SCORERS, SPEAKERS, Ask
from voiceflow.benchmark.main import run
from voiceflow.cli.prepare import read_utterances
from voiceflow.data.manifest import Utterance
from voiceflow.model_folder import ModelFolder


@pytest.fixture(scope="module")
def utterances(speech_dir: Path) -> list[Utterance]:
    """The shortest six of each of two speakers, and texts of the others."""
    every = read_utterances(speech_dir / "LibriSpeech", "test-clean")
    chosen = []
    for speaker in SPEAKERS:
        theirs = [u for u in every if u.speaker == speaker]
        chosen += sorted(theirs, key=lambda u: (u.seconds, u.id))[:6]
    return chosen


@pytest.fixture(scope="module")
def ask(utterances: list[Utterance], tiny_voice: Path) -> Ask:
    """(out, protocol, ...) to what stands in its results.json."""

    def asked(out: Path, protocol: str = "voicebox", **more: Any) -> list[dict[str, Any]]:
        told: dict[str, Any] = {
            "protocols": [protocol], "corpus": {"corpus": "LibriSpeech", "subset": "test-clean"},
            "out": out, "voice": str(tiny_voice), "scorers": SCORERS, "limit": 2,
        }  # fmt: skip
        return run(utterances, **{**told, **more})

    return asked


@pytest.fixture(scope="module")
def done(ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmark") / "first"
    ask(out)
    return out


@pytest.fixture(scope="module")
def hearing(tiny_voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny voice with mini's aligner, which finds words around noise."""
    folder = tmp_path_factory.mktemp("hearing") / "tiny"
    shutil.copytree(tiny_voice, folder)
    mini = ModelFolder.open("mini").path
    for name in ("aligner.safetensors", "features.json", "phones.json"):
        shutil.copy(mini / name, folder / name)
    config, theirs = (yaml.safe_load((f / "config.yaml").read_text()) for f in (folder, mini))
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "aligner": theirs["aligner"]}))
    return folder
