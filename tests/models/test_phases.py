"""The network that tells magnitudes and phase differences, and what it learns from."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.vocoders.test_neural import sines
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import UserError, VocoderConfig, load_group
from voiceflow.models.phases import PhaseDifferences, PhaseLosses, Told, own_turn, spectrum

SPEC = FeatureSpec.named("voicebox16k")
TINY = replace(load_group(VocoderConfig, "vocoder", "tiny"), differences=True)
GOLDEN = Path(__file__).parent / "golden" / "phases.safetensors"


@pytest.fixture()
def network() -> PhaseDifferences:
    torch.manual_seed(0)
    return PhaseDifferences(TINY, SPEC).eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_shapes(network: PhaseDifferences) -> None:
    told = network(noise(2, 30, 80))
    assert [tuple(part.shape) for part in told] == [(2, 30, 513), (2, 30, 513), (2, 30, 512)]
    assert [part.dtype for part in told] == [torch.float32, torch.complex64, torch.complex64]


def test_untrained_it_spreads_the_bands(network: PhaseDifferences) -> None:
    """Of a flat spectrum exactly, and bins that no band hears are as loud as their neighbours."""
    bands = LogMel(SPEC)._mel.mel_scale(torch.full((1, 513, 5), 0.25).double())[0].T.float()
    told = network(SPEC.normalise(bands.log())[None])
    torch.testing.assert_close(told.magnitude, torch.full((1, 5, 513), 0.25), rtol=1e-3, atol=0)


def test_a_power_mel_is_spread_as_magnitudes() -> None:
    spec = replace(SPEC, power=2.0)
    told = PhaseDifferences(TINY, spec)(spec.normalise(torch.full((1, 5, 80), math.log(0.09))))
    plain = PhaseDifferences(TINY, SPEC)(SPEC.normalise(torch.full((1, 5, 80), math.log(0.3))))
    torch.testing.assert_close(told.magnitude, plain.magnitude, rtol=1e-4, atol=0)


def test_the_reach(network: PhaseDifferences) -> None:
    base = noise(1, 60, 80)
    changed = base.clone()
    changed[:, 30] += 1.0
    moved = (network(base).over_time != network(changed).over_time).any(-1)[0].nonzero().flatten()
    assert moved.tolist() == list(range(30 - network.reach, 30 + network.reach + 1))


def test_items_of_a_batch_are_apart(network: PhaseDifferences) -> None:
    x = noise(3, 40, 80)
    together = network(x)
    for i in range(3):
        for part, alone in zip(together, network(x[i : i + 1]), strict=True):
            torch.testing.assert_close(part[i], alone[0], rtol=1e-4, atol=1e-5)


def test_bad_configurations() -> None:
    with pytest.raises(UserError, match="centred features"):
        PhaseDifferences(TINY, replace(SPEC, center=False))
    with pytest.raises(UserError, match="windows of 4 hops or more: found 640 samples at a hop"):
        PhaseDifferences(TINY, replace(SPEC, hop=200))
    with pytest.raises(UserError, match=r"are for vocoder\.differences=false"):
        PhaseLosses(replace(TINY, discriminators=0.5), SPEC)


def test_size() -> None:
    config = load_group(VocoderConfig, "vocoder", "mini")
    assert sum(p.numel() for p in PhaseDifferences(config, SPEC).parameters()) < 3e6


class Knows(torch.nn.Module):
    """Tells the truth about a wave, or turns it by an angle."""

    def __init__(self, wave: Tensor, angle: float = 0.0) -> None:
        super().__init__()
        self.found, self.angle = spectrum(wave, SPEC), angle

    def forward(self, mel: Tensor) -> Told:
        unit = torch.sgn(self.found)
        over_time = torch.zeros_like(unit)
        over_time[:, 1:] = unit[:, 1:] * unit[:, :-1].conj() * own_turn(SPEC).conj()
        over_frequency = unit[..., 1:] * unit[..., :-1].conj()
        turn = complex(math.cos(self.angle), math.sin(self.angle))
        return Told(self.found.abs(), turn * over_time, turn * over_frequency)


def test_losses_of_the_truth_and_of_a_turn() -> None:
    """Zero for the truth; |1 - e^(i angle)|^2 for differences that are all turned by an angle."""
    mels, waves = sines()
    losses = PhaseLosses(TINY, SPEC)
    losses.vocoder = Knows(waves)  # type: ignore[assignment]
    for name, value in losses(mels, waves).items():
        assert float(value.max()) < 1e-4, name
    losses.vocoder = Knows(waves, 0.5)  # type: ignore[assignment]
    found = losses(mels, waves)
    expected = 2 - 2 * math.cos(0.5)
    for name in ("over_time", "over_frequency"):
        torch.testing.assert_close(found[name], torch.full((4,), expected), rtol=1e-2, atol=0)
    assert float(found["magnitude"].max()) < 1e-4


def test_a_sine_turns_as_its_frequency_says() -> None:
    """The difference over time of a bin k is 2 pi (f - f_k) hop / rate."""
    time = torch.arange(8000) / SPEC.sample_rate
    unit = torch.sgn(spectrum(torch.sin(2 * math.pi * 440.0 * time)[None], SPEC)[0])
    k = round(440.0 * SPEC.n_fft / SPEC.sample_rate)
    for b in (k - 1, k, k + 1):
        turned = unit[10:40, b] * unit[9:39, b].conj() * own_turn(SPEC)[b].conj()
        away = 440.0 - b * SPEC.sample_rate / SPEC.n_fft
        expected = torch.full((30,), 2 * math.pi * away * SPEC.hop_seconds)
        torch.testing.assert_close(turned.angle(), expected, rtol=0, atol=1e-2)


def test_it_is_learnt() -> None:
    torch.manual_seed(0)
    losses = PhaseLosses(TINY, SPEC)
    optimizer = torch.optim.Adam(losses.parameters(), 5e-3)
    mels, waves = sines()
    first = losses(mels, waves)
    for _ in range(60):
        optimizer.zero_grad()
        losses(mels, waves)["loss"].sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in losses.parameters())
        optimizer.step()
    last = losses(mels, waves)
    for name in ("loss", "over_time", "over_frequency", "magnitude"):
        assert last[name].mean() < 0.9 * first[name].mean(), name


def test_silence_has_gradients() -> None:
    losses = PhaseLosses(TINY, SPEC)
    mel = SPEC.normalise(torch.full((1, 33, 80), math.log(SPEC.floor)))
    losses(mel, torch.zeros(1, 32 * SPEC.hop))["loss"].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in losses.parameters())


@pytest.fixture()
def make_golden() -> Callable[[], dict[str, Tensor]]:
    def make() -> dict[str, Tensor]:
        from tests.models.test_golden import filled, waves
        from voiceflow.vocoders.differences import DifferenceVocoder

        network = PhaseDifferences(TINY, SPEC)
        filled(network)
        with torch.no_grad():
            network.head.weight *= 0.3
        mel = SPEC.denormalise(waves(12, 80, frequency=1.7))
        told = network(SPEC.normalise(mel)[None])
        return {
            "mel": mel,
            "magnitude": told.magnitude.detach()[..., ::16].contiguous(),
            "over_time": torch.view_as_real(told.over_time.detach())[..., ::16, :].contiguous(),
            "wave": DifferenceVocoder(network, SPEC, iterations=1)(mel),
        }

    return make


def test_golden(make_golden: Callable[[], dict[str, Tensor]]) -> None:
    """What was made once, by weights that are sines."""
    kept, found = load_file(GOLDEN), make_golden()
    assert kept.keys() == found.keys()
    for name, value in kept.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
