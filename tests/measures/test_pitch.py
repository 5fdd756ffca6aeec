"""Pitch, voicing and cepstra of sounds that are known, and spans without any."""

import json
from typing import Any

import numpy as np
import pytest

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.io import load_mono
from voiceflow.data.manifest import Utterance
from voiceflow.measures.pitch import Pitch, mel_cepstral_distortion, pitch, pitch_errors
from voiceflow.measures.scorer import Metric, Scorer, Sound

NONE = {"f0_error_cents": None, "voicing_error": None, "mcd_db": None, "log_mel_error": None}


@pytest.fixture(scope="module")
def scorer() -> Pitch:
    return Pitch()


def tone(frequency: float, n: int = 16000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(n) / SAMPLE_RATE)).astype(np.float32)


def noise(n: int = 16000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, n).astype(np.float32)


def sound(
    wave: np.ndarray, reference: np.ndarray | None, generated: tuple[int, int] | None = None
) -> Sound:
    return Sound("trial", wave, "", generated or (0, len(wave)), reference=reference)


def heard(scorer: Scorer, *sounds: Sound) -> list[Any]:
    """What it tells of each."""
    return list(scorer.score(sounds))


def columns(scorer: Scorer) -> list[str]:
    """The numbers that its figures are made of."""
    return [m.columns[0] for m in scorer.metrics.values() if isinstance(m, Metric)]


def test_pitch_of_a_tone_and_of_noise() -> None:
    found = pitch(tone(200.0))
    assert found.shape == (101,)
    assert found[5:-5] == pytest.approx(200, rel=0.006)  # steps of 10 cents
    assert np.isnan(pitch(noise())).all() and np.isnan(pitch(np.zeros(800))).all()


def test_errors_by_hand() -> None:
    nan = np.nan
    made, original = np.array([200.0, nan, 100, nan, 75]), np.array([100.0, nan, 200, 90, nan])
    assert pitch_errors(made, original) == (pytest.approx(1200), pytest.approx(0.4))
    assert pitch_errors(made, np.full(5, nan)) == (None, pytest.approx(0.6))
    assert pitch_errors(1.02 * original, original) == (
        pytest.approx(1200 * np.log2(1.02)), 0
    )  # fmt: skip


def test_a_tone_two_percent_higher(scorer: Pitch) -> None:
    # 34.3 cents, by a tracker in steps of 10: tones of several pitches are off by as much in mean.
    base = [147.0, 163.3, 181.1, 201.7, 220.9, 239.5]
    scores = heard(scorer, *[sound(tone(1.02 * f), tone(f), (4800, 9600)) for f in base])
    assert np.mean([s["f0_error_cents"] for s in scores]) == pytest.approx(34.3, abs=3.5)
    assert {s["voicing_error"] for s in scores} == {0.0}


def test_the_same_sound_has_no_error(scorer: Pitch) -> None:
    (found,) = heard(scorer, sound(tone(120.0), tone(120.0), (3000, 9000)))
    assert found == dict.fromkeys(NONE, 0.0)
    assert columns(scorer) == list(found)


def test_noise_in_place_of_a_tone_is_unvoiced(scorer: Pitch) -> None:
    (found,) = heard(scorer, sound(noise(), tone(150.0)))
    assert found["f0_error_cents"] is None and found["voicing_error"] > 0.95
    made, span = tone(150.0), slice(3200, 12800)
    made[span] = noise()[span]
    (found,) = heard(scorer, sound(made, tone(150.0), (3200, 12800)))
    assert found["voicing_error"] > 0.7 and found["mcd_db"] > 5


def test_only_the_span_counts(scorer: Pitch) -> None:
    original = tone(150.0, 48000)
    made = original.copy()
    made[:8000], made[-8000:] = noise(8000), 0
    first, second = heard(
        scorer,
        sound(made, original, (22000, 26000)),
        sound(original, original, (22000, 26000)),
    )
    assert first == second == dict.fromkeys(NONE, 0.0)


def test_silence(scorer: Pitch) -> None:
    silence = np.zeros(8000, np.float32)
    lost, kept = heard(scorer, sound(silence, tone(150.0, 8000)), sound(silence, silence))
    assert lost["f0_error_cents"] is None and lost["voicing_error"] == 1
    assert lost["mcd_db"] > 1 and lost["log_mel_error"] > 1
    assert kept == {**dict.fromkeys(NONE, 0.0), "f0_error_cents": None}


def test_without_a_reference_beside_it_or_a_frame_in_it_there_is_nothing(scorer: Pitch) -> None:
    wave = tone(150.0)
    sounds = [
        sound(wave, None),
        sound(wave, wave[:-1]),
        sound(wave, wave, (161, 320)),
        sound(wave, wave, (4800, 4800)),
    ]
    assert heard(scorer, *sounds) == [NONE] * len(sounds)
    # Too short for a spectrogram, not for a pitch.
    (short,) = heard(scorer, sound(wave[:512], wave[:512]))
    assert short == {**dict.fromkeys(NONE, 0.0), "mcd_db": None, "log_mel_error": None}


@pytest.mark.parametrize("generated", [(160, 161), (4641, 4801), (0, 1), (15999, 16000)])
def test_spans_of_at_most_one_frame(scorer: Pitch, generated: tuple[int, int]) -> None:
    (found,) = heard(scorer, sound(noise(), tone(150.0), generated))
    if generated == (15999, 16000):
        assert found == NONE  # frame 100 is centred on sample 16000, which is not of the span
    else:
        assert found["voicing_error"] in (0.0, 1.0) and found["mcd_db"] > 0


def test_distortion_of_one_coefficient_is_the_spectrums_difference_in_decibels() -> None:
    bands = np.arange(80)
    original = np.random.default_rng(1).normal(size=(3, 80))
    for k, height in ((1, 0.7), (13, -0.2)):
        apart = height * np.cos(np.pi * k * (bands + 0.5) / 80)
        found = mel_cepstral_distortion(original + apart, original)
        assert found == pytest.approx(10 / np.log(10) * np.sqrt(2) * abs(height))
        assert found == pytest.approx(20 / np.log(10) * np.sqrt(np.mean(apart**2)))
        half = original + apart * np.array([[1], [0], [0]])
        assert mel_cepstral_distortion(half, original) == pytest.approx(found / 3)
    for unheard in (np.full(80, 2.0), np.cos(np.pi * 14 * (bands + 0.5) / 80)):
        assert mel_cepstral_distortion(original + unheard, original) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="one shape"):
        mel_cepstral_distortion(original, original[:2])


def test_the_level_is_an_error_of_the_log_mel_alone(scorer: Pitch) -> None:
    (found,) = heard(scorer, sound(0.5 * noise(), noise()))
    assert found["mcd_db"] == pytest.approx(0, abs=1e-3)
    assert found["log_mel_error"] == pytest.approx(np.log(2), abs=1e-5)


def test_real_speech(scorer: Pitch, short_ones: list[Utterance]) -> None:
    wave = load_mono(short_ones[0].audio, SAMPLE_RATE)[:32000]
    made, span = wave.copy(), (12000, 20000)
    made[slice(*span)] += 0.02 * noise(8000)
    same, close, other = heard(
        scorer,
        sound(wave, wave, span),
        sound(made, wave, span),
        sound(wave[::-1].copy(), wave, span),
    )
    assert same == dict.fromkeys(NONE, 0.0)
    assert close["f0_error_cents"] < 20 and close["voicing_error"] < 0.3
    assert 0 < close["mcd_db"] < other["mcd_db"] and close["log_mel_error"] > 0
    assert close["f0_error_cents"] < other["f0_error_cents"]


def test_settings_are_json_and_say_what_the_cepstra_are(scorer: Pitch) -> None:
    settings = scorer.settings()
    assert json.loads(json.dumps(settings)) == settings
    assert "without warping" in settings["mcd"]
