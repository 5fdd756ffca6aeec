"""Griffin-Lim: the mel it is given is the mel of what it makes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import load_mono
from voiceflow.vocoders.griffin_lim import GriffinLim, invert_filterbank

SPEC = FeatureSpec()


def vowels(seconds: float = 1.0) -> Tensor:
    """(n,) harmonics of a gliding voice with a little noise."""
    n = int(seconds * SPEC.sample_rate)
    phase = torch.cumsum(2 * torch.pi * torch.linspace(120, 180, n) / SPEC.sample_rate, 0)
    voice = sum(torch.sin(k * phase) / k for k in range(1, 20))
    return 0.1 * voice + 0.003 * torch.randn(n, generator=torch.Generator().manual_seed(0))


def slaney_filters() -> Tensor:
    return melscale_fbanks(513, 0.0, 8000.0, 80, 16000, "slaney", "slaney")


def test_the_inverse_is_a_least_squares_solution_as_good_as_scipys() -> None:
    filters, mel = slaney_filters(), LogMel(SPEC)(vowels(0.2)).exp()
    x = invert_filterbank(mel, filters)
    assert bool((x >= 0).all())
    scale = filters.norm(dim=0)
    ours = ((x @ filters - mel) / scale).norm(dim=1) / (mel / scale).norm(dim=1)
    assert float(ours.max()) < 1e-3
    for frame in mel[::7]:
        _, residual = nnls((filters / scale).T.double().numpy(), (frame / scale).double().numpy())
        assert residual < 1e-6  # what ours comes within 1e-3 of


def test_a_mel_that_no_spectrum_has_is_met_nearly_as_well_as_scipy_does() -> None:
    filters = slaney_filters()
    rough = LogMel(SPEC)(vowels(0.2))
    rough = rough + torch.randn(rough.shape, generator=torch.Generator().manual_seed(0))
    mel, scale = rough.exp(), filters.norm(dim=0)
    ours = ((invert_filterbank(mel, filters, 300) @ filters - mel) / scale).norm(dim=1)
    for i in range(0, len(mel), 7):
        weighted = (mel[i] / scale).double().numpy()
        _, best = nnls((filters / scale).T.double().numpy(), weighted)
        assert float(ours[i]) - best < 0.05 * np.linalg.norm(weighted)


def test_the_mel_comes_back() -> None:
    mel = LogMel(SPEC)(vowels())
    errors = [
        float((LogMel(SPEC)(GriffinLim(SPEC, n)(mel)) - mel).abs().mean()) for n in (4, 16, 60)
    ]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.15


@pytest.mark.parametrize("n_frames", [1, 2, 3, 5, 40])
def test_length_for_few_frames_too(n_frames: int) -> None:
    wave = GriffinLim(SPEC, 4)(torch.full((n_frames, 80), -5.0))
    assert wave.shape == ((n_frames - 1) * SPEC.hop,)
    assert wave.dtype == torch.float32
    assert bool(wave.isfinite().all())


def test_the_same_mel_gives_the_same_samples_and_no_random_number_is_used() -> None:
    mel = LogMel(SPEC)(vowels(0.5))
    before = torch.get_rng_state()
    first = GriffinLim(SPEC, 8)(mel)
    torch.manual_seed(123)
    assert torch.equal(GriffinLim(SPEC, 8)(mel), first)
    torch.set_rng_state(before)
    GriffinLim(SPEC, 8)(mel)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_power_spectrogram_of_another_front_end() -> None:
    spec = FeatureSpec(
        sample_rate=22050, window=1024, hop=256, power=2.0, mel_scale="htk", mel_norm=None
    )
    mel = LogMel(spec)(vowels())
    error = (LogMel(spec)(GriffinLim(spec)(mel)) - mel[: 1 + 15872 // 256]).abs().mean()
    assert float(error) < 0.5  # power doubles a logarithm


@pytest.mark.parametrize(
    ("mel", "why"),
    [
        (torch.zeros(10, 79), r"\(T, 80\) is needed: \(10, 79\)"),
        (torch.zeros(0, 80), r"one or more frames.*\(0, 80\)"),
        (torch.zeros(80), r"\(80,\)"),
        (torch.full((10, 80), torch.nan), "NaN"),
        (torch.full((10, 80), 1000.0), "too large"),
    ],
)
def test_a_mel_that_is_none(mel: Tensor, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        GriffinLim(SPEC)(mel)


def test_uncentred_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="centred"):
        GriffinLim(FeatureSpec(center=False))


def test_copy_synthesis_of_real_speech(speech_dir: Path) -> None:
    files = sorted((speech_dir / "LibriSpeech" / "test-clean").rglob("*.flac"))[::140]
    for file in files:
        wave = load_mono(file, SPEC.sample_rate)[: 3 * SPEC.sample_rate]
        mel = LogMel(SPEC)(torch.from_numpy(wave))
        made = GriffinLim(SPEC)(mel)
        assert float((LogMel(SPEC)(made) - mel).abs().mean()) < 0.1
        assert float(made.square().mean().sqrt()) == pytest.approx(
            float(np.sqrt(np.mean(wave**2))), rel=0.06
        )
