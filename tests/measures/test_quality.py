"""Quality: plausible for speech, worse with noise, and told of nothing that has none."""

import json
import sys
from typing import Any

import numpy as np
import pytest

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.measures.quality import Dnsmos, Intrusive
from voiceflow.measures.scorer import Metric, Scorer, Sound


def sound(wave: np.ndarray, reference: np.ndarray | None = None) -> Sound:
    return Sound("trial", wave, "", (0, len(wave)), reference=reference)


def heard(scorer: Scorer, *sounds: Sound) -> list[Any]:
    """What it tells of each."""
    return list(scorer.score(sounds))


def columns(scorer: Scorer) -> list[str]:
    """The numbers that its figures are made of."""
    return [m.columns[0] for m in scorer.metrics.values() if isinstance(m, Metric)]


@pytest.fixture(scope="module")
def speech(short_ones: list[Utterance]) -> np.ndarray:
    return load_mono(short_ones[0].audio, SAMPLE_RATE)


@pytest.fixture(scope="module")
def noisy(speech: np.ndarray) -> np.ndarray:
    """With white noise 5 dB below it."""
    noise = np.random.default_rng(0).normal(size=len(speech))
    return (speech + 10**-0.25 * speech.std() * noise).astype(np.float32)


@pytest.fixture(scope="module")
def dnsmos() -> Dnsmos:
    pytest.importorskip("speechmos")
    return Dnsmos()


@pytest.fixture(scope="module")
def intrusive() -> Intrusive:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    return Intrusive()


def test_opinions_of_speech_and_of_noisy_speech(
    dnsmos: Dnsmos, speech: np.ndarray, noisy: np.ndarray
) -> None:
    clean, worse = heard(dnsmos, sound(speech), sound(noisy))
    assert 2.5 < clean["overall"] < 4.5 and 3 < clean["signal"] < 4.5
    assert 3 < clean["background"] < 5
    for name in ("overall", "signal", "background"):
        assert worse[name] < clean[name] - 0.3
    assert columns(dnsmos) == list(clean)


def test_of_silence_and_of_almost_nothing_there_is_no_opinion(
    dnsmos: Dnsmos, speech: np.ndarray
) -> None:
    nothing = {"overall": None, "signal": None, "background": None}
    silence = np.zeros(16000, np.float32)
    assert heard(dnsmos, sound(silence), sound(speech[:0]), sound(speech[:3999])) == [nothing] * 3
    (short,) = heard(dnsmos, sound(speech[16000:20000]))
    assert all(1 < value < 5 for value in short.values())


def test_what_is_over_full_scale_is_clipped(dnsmos: Dnsmos, speech: np.ndarray) -> None:
    loud = speech / np.abs(speech).max() * 1.5
    over, clipped = heard(dnsmos, sound(loud), sound(np.clip(loud, -1, 1)))
    assert over == pytest.approx(clipped, abs=1e-4)


def test_of_itself(intrusive: Intrusive, speech: np.ndarray, noisy: np.ndarray) -> None:
    same, worse = heard(intrusive, sound(speech, speech), sound(noisy, speech))
    assert same["stoi"] == pytest.approx(1, abs=1e-6)
    assert same["pesq"] == pytest.approx(4.64, abs=0.01)
    assert worse["pesq"] < 3 and 0.5 < worse["stoi"] < 0.99
    # What came before changes nothing.
    assert heard(intrusive, sound(noisy, speech)) == [worse]
    assert columns(intrusive) == list(same)


def test_without_a_reference_beside_it_there_is_neither(
    intrusive: Intrusive, speech: np.ndarray
) -> None:
    nothing = {"pesq": None, "stoi": None}
    silence = np.zeros_like(speech)
    sounds = [
        sound(speech),
        sound(speech, speech[:-1]),
        sound(speech, silence),
        sound(silence, silence),
        sound(speech[:1], speech[:1]),
        sound(speech[:0], speech[:0]),
        sound(speech[16000:18000], speech[16000:18000]),
    ]
    assert heard(intrusive, *sounds) == [nothing] * len(sounds)


def test_a_silent_wave_is_not_understood(intrusive: Intrusive, speech: np.ndarray) -> None:
    (found,) = heard(intrusive, sound(np.zeros_like(speech), speech))
    assert found == {"pesq": None, "stoi": pytest.approx(0)}


def test_settings_are_json(dnsmos: Dnsmos, intrusive: Intrusive) -> None:
    for scorer in (dnsmos, intrusive):
        settings = scorer.settings()
        assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize(
    "kind, library", [(Dnsmos, "speechmos"), (Intrusive, "pesq"), (Intrusive, "pystoi")]
)
def test_without_the_library_there_is_no_scorer(
    kind: type, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[eval\]'"):
        kind()
