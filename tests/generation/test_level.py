"""Fills at the recording's level, over its background, and a word where band is lost."""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceflow.audio.effects import rms
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import Recording, from_float, read, resample, to_float
from voiceflow.config import UserNote
from voiceflow.generation.level import (
    context_length,
    matched,
    note_band,
    sounds_above,
)
from voiceflow.generation.splice import Fill, cut, fade_length, splice
from voiceflow.vocoders.griffin_lim import GriffinLim

RATE = 16000
FADE = fade_length(RATE)
WIDE = context_length(RATE)


def decibels(ratio: float) -> float:
    return float(20 * np.log10(ratio))


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """(n,) bursts of tone with pauses, 0.3 s each."""
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * 170 * k * t + k * seed) / k for k in range(1, 9))
    loud: np.ndarray = 0.1 * tone * (t % 0.6 < 0.3)
    return loud


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def double(wave: np.ndarray, rate: int = RATE) -> Recording:
    return Recording(wave if wave.ndim == 2 else wave[:, None], rate, "DOUBLE")


def wide_fill(wave: np.ndarray, start: int, end: int) -> Fill:
    return Fill(start, end, cut(wave, start, end, RATE, WIDE), WIDE)


def heard(fill: Fill) -> np.ndarray:
    """(n, C) the new sound alone."""
    return fill.samples[FADE:-FADE]


@pytest.mark.parametrize(("scale", "gain_db"), [(0.7, 3.1), (1.5, -3.5), (0.1, 6.0), (9, -6.0)])
def test_what_resynthesis_did_to_the_level_is_undone_within_6_db(
    scale: float, gain_db: float
) -> None:
    wave = speechlike(6)
    fill = wide_fill(scale * wave, 40000, 48000)
    made = heard(*matched(double(wave), [fill]))
    assert decibels(rms(made) / rms(scale * wave[40000:48000])) == pytest.approx(gain_db, abs=0.1)


def test_the_levels_of_the_span_itself_do_not_count() -> None:
    """What is generated may be louder or quieter than what is around it."""
    wave = speechlike(6)
    resynthesis = 0.8 * wave
    resynthesis[40000:48000] *= 0.2
    made = heard(*matched(double(wave), [wide_fill(resynthesis, 40000, 48000)]))
    assert decibels(rms(made) / rms(wave[40000:48000])) == pytest.approx(decibels(0.2), abs=0.2)


def test_a_fill_with_narrow_margins_or_no_surroundings_keeps_its_level() -> None:
    wave = speechlike(2)
    narrow = Fill(8000, 16000, cut(0.5 * wave, 8000, 16000, RATE))
    whole = wide_fill(0.5 * wave, 0, len(wave))
    for fill, wanted in ((narrow, wave[8000:16000]), (whole, wave)):
        made = heard(*matched(double(wave), [fill]))[:, 0]
        np.testing.assert_allclose(made, 0.5 * (wanted - wanted.mean()), atol=2e-3)


def test_a_pause_around_a_span_tells_nothing_of_the_level_of_speech() -> None:
    hiss = 0.0005 * noise((6 * RATE,))
    wave = hiss + speechlike(6)
    wave[30000:60000] = hiss[30000:60000]
    resynthesis = speechlike(6) + 0.3 * hiss
    resynthesis[30000:42000] = resynthesis[48000:60000] = 0.3 * hiss[:12000]
    made = heard(*matched(double(wave), [wide_fill(resynthesis, 42000, 48000)]))
    assert decibels(rms(made) / rms(resynthesis[42000:48000])) == pytest.approx(0, abs=0.1)


def test_other_spans_are_no_surroundings() -> None:
    wave = speechlike(8)
    resynthesis = 0.7 * wave
    spans = [(30000, 38000), (41000, 50000), (53000, 60000)]
    alone = matched(double(wave), [wide_fill(resynthesis, *spans[1])])
    beeped = wave.copy()
    for start, end in (spans[0], spans[2]):
        beeped[start:end] = np.sin(np.arange(end - start))
    made = matched(double(beeped), [wide_fill(resynthesis, *span) for span in spans])
    assert decibels(rms(heard(made[1])) / rms(heard(*alone))) == pytest.approx(0, abs=0.2)


def test_levels_above_the_top_of_a_voice_are_not_compared() -> None:
    wave = speechlike(6) + 0.3 * speechlike(6) * (-1.0) ** np.arange(6 * RATE)  # up to 8 kHz
    low = 0.8 * speechlike(6)
    fill = wide_fill(low, 40000, 48000)
    made = heard(*matched(double(wave), [fill], top_hz=4000))
    assert decibels(rms(made) / rms(low[40000:48000])) == pytest.approx(-decibels(0.8), abs=0.1)


def coloured(seconds: float, channels: int, seed: int) -> np.ndarray:
    """(n, channels) noise that falls with frequency, each channel at half the level before it."""
    white = noise((round(seconds * RATE), channels), seed)
    red = white[2:] + 1.6 * white[1:-1] + 0.64 * white[:-2]
    return 0.002 * red * 0.5 ** np.arange(channels)


def spectrum(wave: np.ndarray) -> np.ndarray:
    """(F,) mean power in 32 bands, dB."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::128] * np.hanning(512)
    power = (np.abs(np.fft.rfft(frames)) ** 2).mean(axis=0)[:256]
    bands: np.ndarray = 10 * np.log10(power.reshape(32, 8).mean(axis=1))
    return bands


def test_the_background_goes_on_under_a_fill_without_one() -> None:
    background = coloured(8, 2, 0)
    wave = speechlike(8)[: len(background), None] + background
    clean = speechlike(8)
    clean[50000:58000] = 0
    made = heard(*matched(double(wave), [wide_fill(clean, 50000, 58000)]))
    for channel in range(2):
        level = decibels(rms(made[:, channel]) / rms(background[:, channel]))
        assert level == pytest.approx(0, abs=1)
        difference = spectrum(made[:, channel]) - spectrum(background[:, channel])
        assert np.abs(difference).max() < 3
    assert abs(np.corrcoef(made.T)[0, 1]) < 0.1


def test_a_fill_that_has_the_background_gets_next_to_nothing_more() -> None:
    background = coloured(8, 1, 0)
    wave = speechlike(8)[: len(background), None] + background
    other = speechlike(8)[: len(background)] + coloured(8, 1, 1)[:, 0]
    quiet = slice(53000, 57000)  # a pause of the tones
    assert not speechlike(8)[quiet].any()
    made = heard(*matched(double(wave), [wide_fill(other, 50000, 58000)]))
    added = rms(made[3000:7000, 0]) / rms(other[quiet])
    assert 0 <= decibels(added) < 1


def test_a_noisier_fill_and_digital_silence_are_left_as_they_are() -> None:
    wave = speechlike(8)
    noisy = wave + 0.01 * noise(wave.shape)
    silent_around = matched(double(wave), [wide_fill(wave, 50000, 58000)])
    np.testing.assert_allclose(heard(*silent_around)[:, 0], wave[50000:58000], atol=2e-3)
    background = wave + 0.0001 * noise(wave.shape, 1)
    made = heard(*matched(double(background), [wide_fill(noisy, 50000, 58000)]))[:, 0]
    assert decibels(rms(made) / rms(noisy[50000:58000])) == pytest.approx(0, abs=0.2)
    correlation = np.corrcoef(made, noisy[50000:58000])[0, 1]
    assert correlation > 0.9999


def test_a_constant_offset_goes_on() -> None:
    wave = speechlike(6)[:, None] + np.array([0.05, -0.02])
    made = heard(*matched(double(wave), [wide_fill(speechlike(6), 40000, 48000)]))
    np.testing.assert_allclose(made.mean(axis=0), [0.05, -0.02], atol=3e-3)


def test_channels_have_the_fill_at_their_own_level() -> None:
    voice = speechlike(6)
    wave = np.stack([0.9 * voice, 0.3 * voice], axis=1)
    made = heard(*matched(double(wave), [wide_fill(0.6 * voice, 40000, 48000)]))
    wanted = [rms(wave[40000:48000, c]) for c in (0, 1)]
    assert [rms(made[:, c]) for c in (0, 1)] == pytest.approx(wanted, rel=0.03)


def test_the_same_seed_gives_the_same_sound_and_every_place_its_own() -> None:
    wave = speechlike(6) + 0.003 * noise((6 * RATE,))
    nothing = np.zeros(2 * FADE + 4000, np.float32)
    fills = [Fill(20000, 24000, nothing), Fill(60000, 64000, nothing)]
    one, same, other = (
        [fill.samples for fill in matched(double(wave), fills, seed=seed)] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert abs(np.corrcoef(one[0][:, 0], other[0][:, 0])[0, 1]) < 0.1
    assert abs(np.corrcoef(one[0][:, 0], one[1][:, 0])[0, 1]) < 0.1


@pytest.mark.parametrize("n", [1, 100, 700, 20000])
def test_any_length_and_place(n: int) -> None:
    recording = double(0.1 * noise((n, 2)))
    for start, end in ((0, 0), (0, n), (n // 3, n // 2), (n, n)):
        for margin, length in ((None, 0), (None, 500), (WIDE, 0), (WIDE, 3000)):
            sound = 0.1 * noise((length + 2 * (margin or FADE),))
            made, = matched(recording, [Fill(start, end, sound, margin)])
            assert made.samples.shape == (length + 2 * FADE, 2)
            assert np.isfinite(made.samples).all()
            assert len(splice(recording, [made]).samples) == n + length - (end - start)


@cache
def resynthesised(folder: Path) -> list[tuple[Recording, np.ndarray]]:
    """Real recordings of up to 5 s, and what Griffin-Lim makes of their features."""
    spec = FeatureSpec()
    vocoder, log_mel = GriffinLim(spec, 16), LogMel(spec)
    pairs = []
    for path in sorted(folder.glob("LibriSpeech/test-clean/*/*/*.flac"))[::40]:
        whole = read(path)
        recording = Recording(whole.samples[: 5 * RATE], RATE, whole.subtype)
        wave = torch.from_numpy(recording.mono())
        pairs.append((recording, vocoder(log_mel(wave)).numpy()))
    return pairs


def test_no_border_in_real_speech_has_a_click(speech_dir: Path) -> None:
    """At both ends of each cross-fade the jump lies within the 99.9th percentile of the second
    around. Between them, where a loud vowel may exceed that by itself, no jump is larger than that
    and than the two sounds' own.
    """
    rng = np.random.default_rng(0)
    clicks_of_cuts = 0
    for recording, sound in resynthesised(speech_dir):
        n = len(recording.samples)
        old, new = recording.mono(), cut(sound, 0, n, RATE, 0)
        own = np.maximum(np.abs(np.diff(old)), np.abs(np.diff(new)))
        for _ in range(4):
            start = int(rng.integers(RATE // 2, n - 2 * RATE))
            end = start + int(rng.integers(RATE // 10, RATE))
            fill, = matched(recording, [wide_fill(sound, start, end)])
            jumps = np.abs(np.diff(splice(recording, [fill]).mono()))
            for border, first in ((start, start - FADE - 1), (end, end - 1)):
                last = first + FADE
                before = jumps[border - RATE // 2 : first]
                usual = np.percentile([*before, *jumps[last + 1 : border + RATE // 2]], 99.9)
                assert max(jumps[first], jumps[last]) <= usual
                faded = slice(first, last + 1)
                assert jumps[faded].max() <= max(usual, own[faded].max())
                clicks_of_cuts += abs(old[border] - new[border]) > usual
    assert clicks_of_cuts > 3


def test_real_speech_and_its_resynthesis_have_almost_one_level(speech_dir: Path) -> None:
    for recording, sound in resynthesised(speech_dir):
        start, end = 2 * RATE, 3 * RATE
        old = recording.mono()[start:end]
        made = heard(*matched(recording, [wide_fill(sound, start, end)]))
        assert decibels(rms(made) / rms(old)) == pytest.approx(0, abs=1)


def test_a_note_where_the_recording_has_more_band_than_the_voice(speech_dir: Path) -> None:
    """What is above counts, not the rate."""
    recording, _ = resynthesised(speech_dir)[0]
    old = recording.mono()
    higher = resample(old, RATE, 44100)
    upsampled = Recording.from_mono(higher, 44100)
    hiss = 0.02 * rms(old) * np.diff(noise((len(higher) + 1,)))
    wide_band = Recording(from_float(higher + hiss, "PCM_24")[:, None], 44100, "PCM_24",
                          Path("/music/wide.flac"))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one in (recording, upsampled, double(0 * higher, 44100), double(old[:5])):
            note_band(one, 8000)
        note_band(wide_band, 22050)
    with pytest.warns(UserNote, match=r"wide\.flac is at 44100 Hz.*sound above 8 kHz: new"):
        note_band(wide_band, 8000)
    assert sounds_above(recording, 3000)


def test_the_background_goes_on_above_the_top_of_a_voice() -> None:
    rate = 48000
    hiss = 0.003 * noise((6 * rate,))
    speech = resample(speechlike(6), RATE, rate)
    sound = np.zeros(rate + 2 * fade_length(rate), np.float32)
    made, = matched(double(speech + hiss, rate), [Fill(100000, 148000, sound)], top_hz=8000)
    power = np.abs(np.fft.rfft(made.samples[:, 0])) ** 2
    wanted = np.abs(np.fft.rfft(hiss[: len(made.samples)])) ** 2
    high = len(power) // 3  # above 8 kHz
    assert decibels(np.sqrt(power[high:].sum() / wanted[high:].sum())) == pytest.approx(0, abs=0.7)


def test_integer_recordings_are_matched_as_floats_are() -> None:
    wave = np.stack([speechlike(6), 0.5 * speechlike(6)], axis=1) + 0.001 * noise((6 * RATE, 2))
    fill = wide_fill(0.8 * speechlike(6), 40000, 48000)
    wanted, = matched(double(wave), [fill])
    for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT"):
        recording = Recording(from_float(wave, subtype), RATE, subtype)
        made, = matched(recording, [fill])
        np.testing.assert_allclose(made.samples, wanted.samples, atol=2e-4)
        assert np.abs(to_float(recording.samples) - wave).max() < 1e-4
