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
