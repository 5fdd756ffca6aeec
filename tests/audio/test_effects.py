"""Cross-fades of constant power, levels, and silence trimmed at the ends."""

import numpy as np
import pytest

from voiceflow.audio.effects import active_rms, cross_fade, rms, trim_silence


def test_rms() -> None:
    assert rms(np.array([3.0, -3.0])) == 3
    np.testing.assert_allclose(rms(np.array([[3.0, 1.0], [-3.0, 1.0]]), axis=0), [3, 1])
    assert rms(np.zeros(0)) == 0
    np.testing.assert_array_equal(rms(np.zeros((0, 2)), axis=0), [0, 0])


def test_speech_is_measured_without_its_pauses() -> None:
    rate = 16000
    speech = np.random.default_rng(0).normal(size=(4160, 1)) * [0.2, 0.05]
    pause = 0.001 * np.random.default_rng(1).normal(size=(12000, 2))
    assert active_rms([speech, pause, speech], rate) == pytest.approx([0.2, 0.05], rel=0.02)
    assert active_rms([0 * pause], rate) == [0, 0]
    one_short_frame = active_rms([np.ones((320, 1)), np.ones((10, 1))], rate)
    assert one_short_frame[0] == pytest.approx(np.sqrt(330 / 640))


def test_a_sound_fades_into_itself_unchanged() -> None:
    sound = np.random.default_rng(0).normal(size=(160, 2))
    np.testing.assert_allclose(cross_fade(sound, sound), sound)


def test_unrelated_sounds_keep_their_power() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 16000))
    faded = cross_fade(a, b)
    for part in np.split(faded, 4):
        assert rms(part) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(faded[:2], a[:2], atol=1e-3)
    np.testing.assert_allclose(faded[-2:], b[-2:], atol=1e-3)


def test_opposite_sounds_and_silence_have_no_surge() -> None:
    sound = np.random.default_rng(0).normal(size=160)
    assert np.abs(cross_fade(sound, -sound)).max() <= np.abs(sound).max()
    assert np.abs(cross_fade(sound, 0 * sound)).max() <= np.abs(sound).max()
    np.testing.assert_array_equal(cross_fade(0 * sound, 0 * sound), 0 * sound)
    assert len(cross_fade(sound[:0], sound[:0])) == 0


def test_silence_at_the_ends_is_cut_to_a_tenth_of_a_second() -> None:
    rate = 16000
    noise = 1e-5 * np.random.default_rng(0).normal(size=4 * rate)
    wave = noise.copy()
    wave[rate : 2 * rate] += np.sin(np.arange(rate) * 0.2)
    trimmed = trim_silence(wave, rate)
    assert len(trimmed) == pytest.approx(1.2 * rate, abs=0.04 * rate)
    start = int(np.argmax(np.abs(trimmed) > 0.1))
    assert start == pytest.approx(0.1 * rate, abs=0.02 * rate)
    middle = wave[rate - 160 : 2 * rate + 160]
    np.testing.assert_array_equal(trim_silence(middle, rate), middle)
    np.testing.assert_array_equal(trim_silence(0 * noise, rate), 0 * noise)
