"""Errors, variances and simple fills in closed form; training means against a plain count."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.data.shards import open_prepared
from voiceflow.measures.spectral import (
    TrainingMeans,
    interpolate,
    log_mel_error,
    log_mel_variance,
)


def test_error_is_the_mean_of_the_sizes() -> None:
    a, b = torch.tensor([[0.0, 1.0], [2.0, -3.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    assert log_mel_error(a, b) == log_mel_error(b, a) == 2.0
    assert log_mel_error(a, a) == 0.0


def test_error_of_two_lengths() -> None:
    with pytest.raises(ValueError, match="one shape"):
        log_mel_error(torch.zeros(3, 2), torch.zeros(1, 2))


def test_variance_is_over_frames_and_bands() -> None:
    assert log_mel_variance(torch.tensor([[1.0, -1.0], [3.0, -3.0]])) == 5.0
    assert log_mel_variance(torch.full((4, 3), 7.0)) == 0.0
    mel = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    assert log_mel_variance(2 * mel + 5) == pytest.approx(4 * log_mel_variance(mel), rel=1e-5)


def test_interpolation_by_hand() -> None:
    found = interpolate(torch.tensor([0.0, 8.0]), torch.tensor([4.0, 0.0]), 3)
    torch.testing.assert_close(found, torch.tensor([[1.0, 6.0], [2.0, 4.0], [3.0, 2.0]]))


@given(st.integers(0, 200))
def test_interpolation_goes_on_from_before_and_into_after_in_equal_steps(n_frames: int) -> None:
    before, after = torch.tensor([1.0, -6.0, 2.0]), torch.tensor([3.0, -2.0, 2.0])
    line = torch.cat([before[None], interpolate(before, after, n_frames), after[None]])
    assert len(line) == n_frames + 2
    steps = ((after - before) / (n_frames + 1)).expand(n_frames + 1, -1)
    torch.testing.assert_close(line.diff(dim=0), steps, rtol=0, atol=1e-5)


def test_training_means_are_those_of_all_frames_with_the_phone(prepared: Path) -> None:
    data = open_prepared(prepared)
    means = TrainingMeans.of(data)
    frames: dict[str, list[np.ndarray]] = {}
    for index in range(len(data.dataset)):
        _, ids, durations, mel = data.framed(index)
        owner = np.repeat(ids, durations)
        for i in set(owner.tolist()):
            frames.setdefault(data.phones.symbols[i], []).append(mel[owner == i])
    assert means.phones.keys() == frames.keys() > {"SIL", "AA_S"}
    for symbol, pieces in frames.items():
        wanted = np.concatenate(pieces).astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(means.phones[symbol], wanted, rtol=1e-5)
    every = np.concatenate([piece for pieces in frames.values() for piece in pieces])
    np.testing.assert_allclose(means.frame, every.astype(np.float64).mean(axis=0), rtol=1e-5)
    assert means.data == "synthetic"


def test_means_are_spread_over_durations_and_unseen_phones_get_the_mean_frame() -> None:
    a, b, frame = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor([9.0, 9.0])
    means = TrainingMeans({"A": a, "B": b}, frame, "by hand")
    found = means.spread(["A", "Z", "B", "A"], [2, 1, 0, 1])
    assert torch.equal(found, torch.stack([a, a, frame, a]))
