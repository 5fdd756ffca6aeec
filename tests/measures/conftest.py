"""Real speech for the measures."""

from pathlib import Path

import pytest

from data_prep import librispeech
from voiceflow.data.manifest import Utterance


@pytest.fixture(scope="session")
def test_clean(speech_dir: Path) -> list[Utterance]:
    """The utterances of LibriSpeech's test-clean."""
    return list(librispeech.read(speech_dir / "LibriSpeech", "test-clean"))


@pytest.fixture(scope="session")
def short_ones(test_clean: list[Utterance]) -> list[Utterance]:
    """Two of 4 s, by two speakers."""
    ids = ("1089-134686-0032", "4446-2273-0009")
    return [u for u in test_clean if u.id in ids]


@pytest.fixture()
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No network is tried, and the Hub's cache is an empty folder."""
    hub = pytest.importorskip("huggingface_hub")
    cache = tmp_path_factory.mktemp("hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The environment was read when the library was imported, maybe by another test.
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture(scope="module")
def unispeech_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of an untrained UniSpeech."""
    from tests.measures.untrained import unispeech

    return unispeech(tmp_path_factory.mktemp("models"))
