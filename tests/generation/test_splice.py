"""Spans replaced: the rest bit for bit, no clicks, every channel at its level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.audio.effects import rms
from voiceflow.audio.io import Recording, from_float
from voiceflow.generation.splice import Fill, cut, fade_length, kept_beside, splice

RATE = 16000
FADE = fade_length(RATE)
SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "VORBIS"]


def noise(n: int, channels: int = 1, subtype: str = "PCM_16", seed: int = 0) -> Recording:
    wave = 0.1 * np.random.default_rng(seed).normal(size=(n, channels))
    return Recording(from_float(wave, subtype), RATE, subtype)


def new_sound(length: int, seed: int = 1) -> np.ndarray:
    wave = 0.1 * np.random.default_rng(seed).normal(size=length + 2 * FADE)
    return wave.astype(np.float32)


@st.composite
def edits(draw: st.DrawFn) -> tuple[Recording, list[Fill]]:
    """A recording of any type with up to four fills, at its ends and side by side among them."""
    n = draw(st.integers(1, 6000))
    made = noise(n, draw(st.integers(1, 3)), draw(st.sampled_from(SUBTYPES)))
    at_ends = st.sampled_from([0, n]) | st.integers(0, n)
    borders = sorted(draw(st.lists(at_ends, min_size=2, max_size=8)))
    lengths = draw(st.lists(st.integers(0, 900), min_size=4, max_size=4))
    spans = list(zip(borders[::2], borders[1::2], strict=False))
    fills = [
        Fill(start, end, new_sound(length, seed))
        for seed, ((start, end), length) in enumerate(zip(spans, lengths, strict=False))
    ]
    return made, fills


@given(edits())
def test_samples_away_from_the_spans_are_the_originals(edit: tuple[Recording, list[Fill]]) -> None:
    original, fills = edit
    before = original.samples.copy()
    made = splice(original, fills[::-1])
    np.testing.assert_array_equal(original.samples, before)
    assert (made.sample_rate, made.subtype) == (original.sample_rate, original.subtype)
    assert made.samples.dtype == original.samples.dtype

    shift, done = 0, 0
    for fill in fills:
        kept = slice(done, max(fill.start_sample - FADE, done))
        moved = slice(kept.start + shift, kept.stop + shift)
        np.testing.assert_array_equal(made.samples[moved], original.samples[kept])
        grown = len(fill.samples) - 2 * FADE - (fill.end_sample - fill.start_sample)
        shift, done = shift + grown, min(fill.end_sample + FADE, len(before))
    assert len(made.samples) == len(before) + shift
    np.testing.assert_array_equal(made.samples[done + shift :], original.samples[done:])


def test_nothing_to_fill_changes_nothing() -> None:
    original = noise(1000, 2)
    np.testing.assert_array_equal(splice(original, []).samples, original.samples)


def test_the_whole_span_holds_the_new_sound() -> None:
    original, sound = noise(8000), new_sound(1600)
    made = splice(original, [Fill(3000, 4000, sound)])
    wanted = from_float(sound[FADE:-FADE], "PCM_16")
    np.testing.assert_array_equal(made.samples[3000:4600, 0], wanted)
    np.testing.assert_array_equal(made.samples[4600 + FADE :], original.samples[4000 + FADE :])
    assert np.any(made.samples[3000 - FADE : 3000] != original.samples[3000 - FADE : 3000])


@pytest.mark.parametrize(("start", "end"), [(0, 1000), (3000, 4000), (0, 4000), (50, 3990)])
def test_at_the_ends_the_new_sound_begins_and_ends_unfaded(start: int, end: int) -> None:
    original, sound = noise(4000), new_sound(700)
    made = splice(original, [Fill(start, end, sound)])
    wanted = from_float(sound[FADE:-FADE], "PCM_16")
    np.testing.assert_array_equal(made.samples[start : start + 700, 0], wanted)


def test_a_tone_goes_through_two_splices_without_a_click() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(16000) / RATE)
    original = Recording.from_mono(tone, RATE)
    fills = [Fill(a, b, cut(tone, a, b, RATE)) for a, b in ((0, 3000), (5000, 7000), (7000, 9010))]
    made = splice(original, fills)
    np.testing.assert_allclose(made.mono(), original.mono(), atol=2 / 32768)


def test_no_jump_is_larger_than_the_sounds_own() -> None:
    t = np.arange(16000) / RATE
    low, high = 0.3 * np.sin(2 * np.pi * 150 * t), 0.3 * np.sin(2 * np.pi * 190 * t + 1)
    original = Recording.from_mono(low, RATE)
    fills = [Fill(a, b, cut(high, a, b, RATE)) for a, b in ((4000, 6000), (6100, 8000))]
    hard = np.concatenate([low[:4000], high[4000:8000], low[8000:]])
    own = np.abs(np.diff(high)).max()
    assert np.abs(np.diff(hard)).max() > 5 * own
    assert np.abs(np.diff(splice(original, fills).mono())).max() < 1.6 * own


def test_the_power_holds_through_a_cross_fade_of_unrelated_sounds() -> None:
    levels = []
    for seed in range(60):
        made = splice(noise(2000, seed=seed), [Fill(800, 1200, new_sound(400, seed + 1000))])
        levels.append(rms(made.mono()[800 - FADE : 800]))
    assert np.mean(levels) == pytest.approx(0.1, rel=0.03)


def test_channels_get_the_fill_at_their_own_level() -> None:
    voice = np.random.default_rng(0).normal(size=8000)
    wave = np.stack([0.15 * voice, 0.05 * voice, 0 * voice], axis=1)
    original = Recording(from_float(wave, "PCM_24"), RATE, "PCM_24")
    level = float(rms(original.mono()))
    sound = new_sound(1600) * np.float32(level / 0.1)
    made = splice(original, [Fill(3000, 4600, sound)])
    left, right, silent = np.moveaxis(made.samples[3000:4600] / 2.0**31, 1, 0)
    assert rms(left) == pytest.approx(0.15, rel=0.05)
    np.testing.assert_allclose(right, left / 3, atol=1e-4)
    assert not silent.any()


def test_what_stood_in_spans_and_pauses_does_not_count_for_the_level_of_channels() -> None:
    voice = np.random.default_rng(0).normal(size=16000)
    wave = np.stack([0.1 * voice, 0.05 * voice], axis=1)
    wave[2000:8000] = 0
    wave[2000:8000, 1] = 0.003 * voice[:6000]  # one channel's noise in a pause
    wave[10000:11000] = [0.0, 0.9]
    original = Recording(wave, RATE, "DOUBLE")
    fills = [Fill(8000, 9600, new_sound(1600)), Fill(10000, 11000, new_sound(900))]
    made = splice(original, fills)
    left, right = np.moveaxis(made.samples[8000:9600], 1, 0)
    np.testing.assert_allclose(right, left / 2, rtol=1e-3, atol=1e-9)


def test_each_channel_may_have_a_sound_of_its_own() -> None:
    original = noise(4000, 2)
    sound = np.stack([new_sound(700, 5), new_sound(700, 6)], axis=1)
    made = splice(original, [Fill(1000, 2000, sound), Fill(2050, 2500, new_sound(300))])
    wanted = from_float(sound[FADE : FADE + 500], "PCM_16")
    np.testing.assert_array_equal(made.samples[1000:1500], wanted)


def test_of_a_wide_margin_only_the_innermost_is_heard() -> None:
    original, wave = noise(4000, 2), new_sound(5000)
    narrow = Fill(1000, 2000, cut(wave, 1000, 1700, RATE))
    wide = Fill(1000, 2000, cut(wave, 1000, 1700, RATE, 1500), 1500)
    assert len(wide.samples) == 700 + 3000
    made = splice(original, [narrow]).samples
    np.testing.assert_array_equal(splice(original, [wide]).samples, made)


def test_what_is_kept_beside_a_span() -> None:
    spans = [(0, 10), (20, 30), (40, 50), (50, 60)]
    assert kept_beside(spans, (20, 30), 5, 100) == [(15, 20), (30, 35)]
    assert kept_beside(spans, (20, 30), 15, 100) == [(10, 20), (30, 40)]
    assert kept_beside(spans, (40, 50), 100, 70) == [(10, 20), (30, 40), (60, 70)]
    assert kept_beside(spans, (0, 10), 5, 100) == [(10, 15)]
    assert kept_beside([(0, 9)], (0, 9), 5, 9) == []


def test_channels_that_cancel_do_not_blow_the_fill_up() -> None:
    voice = 0.1 * np.random.default_rng(0).normal(size=8000)
    original = Recording(np.stack([voice, -voice], axis=1), RATE, "DOUBLE")
    made = splice(original, [Fill(3000, 4600, new_sound(1600))])
    assert rms(made.samples[3000:4600]) < 0.5


def test_silence_around_the_span_leaves_the_fill_as_it_is() -> None:
    original = Recording(np.zeros((4000, 2), np.int16), RATE, "PCM_16")
    sound = new_sound(1000)
    made = splice(original, [Fill(1000, 2000, sound)])
    wanted = from_float(sound[FADE:-FADE], "PCM_16")
    np.testing.assert_array_equal(made.samples[1000:2000], np.stack([wanted, wanted], axis=1))


def test_loud_fills_are_clipped_and_not_wrapped() -> None:
    made = splice(noise(4000), [Fill(1000, 2000, new_sound(1000) * 100)])
    core = made.samples[1000:2000]
    assert {core.min(), core.max()} == {-32768, 32767}


def test_cut_takes_margins_and_zeros_beyond_the_wave() -> None:
    wave = np.arange(1, 1001, dtype=np.float32)
    np.testing.assert_array_equal(cut(wave, 300, 500, RATE), wave[300 - FADE : 500 + FADE])
    first = cut(wave, 0, 100, RATE)
    np.testing.assert_array_equal(first, np.concatenate([np.zeros(FADE), wave[: 100 + FADE]]))
    last = cut(wave, 900, 1010, RATE)
    assert len(last) == 110 + 2 * FADE
    np.testing.assert_array_equal(last[: FADE + 100], wave[900 - FADE :])
    assert not last[FADE + 100 :].any()


@pytest.mark.parametrize(
    ("fills", "why"),
    [
        ([Fill(500, 400, new_sound(10))], "in order"),
        ([Fill(-1, 400, new_sound(10))], "in order"),
        ([Fill(900, 1001, new_sound(10))], "inside the 1000 samples"),
        ([Fill(100, 400, new_sound(10)), Fill(399, 500, new_sound(10))], "ends at 400"),
        ([Fill(100, 200, np.zeros(2 * FADE - 1, np.float32))], "two margins of 160"),
        ([Fill(100, 200, np.zeros((400, 2), np.float32))], "two margins of 160"),
        ([Fill(100, 200, new_sound(700), 600)], "two margins of 600"),
        ([Fill(100, 200, new_sound(700), FADE - 1)], "margin must hold the cross-fade of 160: 159"),
        ([Fill(100, 200, np.full(400, np.nan, np.float32))], "100:200 holds NaN"),
    ],
)
def test_fills_that_do_not_fit(fills: list[Fill], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        splice(noise(1000), fills)
