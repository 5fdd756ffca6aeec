"""The vocoder of phase differences as a voice uses it: lengths, chunks, bad input."""

import math

import pytest
import torch
from torch import Tensor

from tests.models.test_phases import SPEC, TINY
from tests.vocoders.test_summation import sound
from voiceflow.audio.features import LogMel
from voiceflow.models.phases import PhaseDifferences
from voiceflow.vocoders.differences import DifferenceVocoder


@pytest.fixture(scope="module")
def network() -> PhaseDifferences:
    torch.manual_seed(0)
    return PhaseDifferences(TINY, SPEC).eval()


def log_mel(seconds: float = 1.0) -> Tensor:
    return LogMel(SPEC)(sound(seconds))


@pytest.mark.parametrize("n_frames", [2, 3, 5, 50])
def test_a_hop_between_frames(network: PhaseDifferences, n_frames: int) -> None:
    wave = DifferenceVocoder(network, SPEC)(log_mel()[:n_frames])
    assert wave.shape == ((n_frames - 1) * SPEC.hop,)
    assert wave.dtype == torch.float32
    assert bool(wave.isfinite().all())


def test_a_single_frame_is_no_sound(network: PhaseDifferences) -> None:
    assert DifferenceVocoder(network, SPEC)(log_mel()[:1]).shape == (0,)


@pytest.mark.parametrize("iterations", [0, 2])
@pytest.mark.parametrize("chunk", [1, 7, 50, 100, 101])
def test_chunks_change_no_sample(network: PhaseDifferences, iterations: int, chunk: int) -> None:
    mel = log_mel()
    whole = DifferenceVocoder(network, SPEC, iterations=iterations, chunk=10_000)(mel)
    parts = DifferenceVocoder(network, SPEC, iterations=iterations, chunk=chunk)(mel)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4)


def test_the_same_mel_is_the_same_sound(network: PhaseDifferences) -> None:
    vocoder = DifferenceVocoder(network, SPEC)
    assert torch.equal(vocoder(log_mel()), vocoder(log_mel()))


def test_iterations_come_nearer_to_the_mel(network: PhaseDifferences) -> None:
    mel = log_mel()
    apart = []
    for iterations in (0, 4, 16):
        made = LogMel(SPEC)(DifferenceVocoder(network, SPEC, iterations=iterations)(mel))
        apart.append(float((made[4:-4] - mel[4 : len(made) - 4]).abs().mean()))
    assert apart == sorted(apart, reverse=True)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (torch.zeros(10, 40), "a log-mel of one or more frames"),
        (torch.zeros(0, 80), "a log-mel of one or more frames"),
        (torch.zeros(2, 10, 80), "a log-mel of one or more frames"),
        (torch.full((10, 80), math.nan), "NaN, infinite or too large"),
        (torch.full((10, 80), math.inf), "NaN, infinite or too large"),
        (torch.full((10, 80), 100.0), "NaN, infinite or too large"),
    ],
)
def test_bad_input(network: PhaseDifferences, bad: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DifferenceVocoder(network, SPEC)(bad)


def test_silence_is_silent(network: PhaseDifferences) -> None:
    silent = torch.full((30, 80), math.log(SPEC.floor))
    assert float(DifferenceVocoder(network, SPEC)(silent).abs().max()) < 1e-3
