"""Phases summed up from their differences, against dense algebra and real transforms."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from voiceflow.audio.features import FeatureSpec
from voiceflow.models.phases import own_turn, spectrum
from voiceflow.vocoders.summation import FREQUENCY_WEIGHT, concentration, sum_up

SPEC = FeatureSpec.named("voicebox16k")


def turns(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    length = random.uniform(0.1, 0.95, shape)
    return (length * np.exp(2j * np.pi * random.uniform(size=shape))).astype(np.complex64)


def sound(seconds: float = 0.4) -> torch.Tensor:
    """A glide of three harmonics with a little noise."""
    time = torch.arange(int(seconds * SPEC.sample_rate)) / SPEC.sample_rate
    phase = 2 * math.pi * (150 * time + 60 * time.square())
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return sum(0.2 / n * torch.sin(n * phase) for n in (1, 2, 3)) + 1e-3 * noise


def test_concentration() -> None:
    """Twice the length when short, growing, and bounded where a mean of one turn has length 1."""
    lengths = np.array([0.0, 0.01, 0.3, 0.6, 0.9, 1.0, 1.3], np.float32)
    found = concentration(lengths)
    assert_allclose(found[:2], [0, 0.02], rtol=1e-3)
    assert (np.diff(found[:6]) > 0).all()
    assert np.isfinite(found).all()


def test_each_frame_is_the_least_squares_solution() -> None:
    n_bins, n_frames = 7, 3
    magnitude = np.random.default_rng(1).uniform(0.5, 2, (n_frames, n_bins)).astype(np.float32)
    over_time, over_frequency = turns(n_frames, n_bins), turns(n_frames, n_bins - 1, seed=2)
    turn = np.exp(1j * np.arange(n_bins)).astype(np.complex64)
    before = magnitude[0], np.exp(1j * np.arange(n_bins) ** 2).astype(np.complex64)
    found = sum_up(magnitude, over_time, over_frequency, turn, before)
    last, z = before
    for t in range(n_frames):
        a = concentration(abs(over_time[t])) * np.sqrt(magnitude[t] * last)
        b = concentration(abs(over_frequency[t])) * np.sqrt(magnitude[t, 1:] * magnitude[t, :-1])
        largest = max(a[1:].max(), b.max())
        a, b = a / largest + 1e-4, FREQUENCY_WEIGHT * b / largest
        ahead = z * over_time[t] / abs(over_time[t]) * turn
        rows = np.zeros((2 * n_bins - 1, n_bins), complex)
        rows[np.arange(n_bins), np.arange(n_bins)] = np.sqrt(a)
        for k in range(n_bins - 1):
            rows[n_bins + k, k + 1] = np.sqrt(b[k])
            rows[n_bins + k, k] = -np.sqrt(b[k]) * over_frequency[t, k] / abs(over_frequency[t, k])
        wanted = np.concatenate([np.sqrt(a) * ahead, np.zeros(n_bins - 1)])
        solution = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        z, last = solution / abs(solution), magnitude[t]
        assert_allclose(found[t], z, atol=2e-3)


def true_differences(wave: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Magnitudes, phases as unit numbers, and their turns, of one wave."""
    found = spectrum(wave[None], SPEC)[0].numpy()
    unit = found / np.abs(found)
    over_time = np.ones_like(unit)
    over_time[1:] = unit[1:] * unit[:-1].conj() * own_turn(SPEC).numpy().conj()
    return np.abs(found), unit, over_time, unit[:, 1:] * unit[:, :-1].conj()


def test_true_differences_give_the_true_phases() -> None:
    """Going on from a true frame, for 300 ms."""
    magnitude, unit, over_time, over_frequency = true_differences(sound())
    found = sum_up(
        magnitude[4:], over_time[4:], over_frequency[4:], own_turn(SPEC).numpy(),
        (magnitude[3], unit[3]),
    )  # fmt: skip
    loud = magnitude[4:] > 1e-2 * magnitude.max()
    assert np.abs(found - unit[4:])[loud].max() < 0.05


def test_going_on_from_a_frame_is_going_on() -> None:
    magnitude, _, over_time, over_frequency = true_differences(sound())
    turn = own_turn(SPEC).numpy()
    whole = sum_up(magnitude, 0.9 * over_time, 0.9 * over_frequency, turn)
    for cut in (1, 17, len(magnitude) - 1):
        first = sum_up(magnitude[:cut], 0.9 * over_time[:cut], 0.9 * over_frequency[:cut], turn)
        second = sum_up(
            magnitude[cut:], 0.9 * over_time[cut:], 0.9 * over_frequency[cut:], turn,
            (magnitude[cut - 1], first[-1]),
        )  # fmt: skip
        assert_allclose(np.concatenate([first, second]), whole, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e4])
def test_silence_and_noise_have_phases_too(level: float) -> None:
    shape = (20, 513)
    found = sum_up(
        np.full(shape, level, np.float32), turns(*shape), turns(20, 512), own_turn(SPEC).numpy()
    )
    assert_allclose(np.abs(found), 1, atol=1e-4)


def test_nothing_told_turns_as_the_bins_do() -> None:
    """Without a word of the network each bin keeps its own frequency."""
    shape = (4, 513)
    nothing = np.zeros(shape, np.complex64)
    found = sum_up(np.ones(shape, np.float32), nothing, nothing[:, 1:], own_turn(SPEC).numpy())
    assert np.isfinite(found).all()
