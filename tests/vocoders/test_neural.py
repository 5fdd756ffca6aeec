"""The network that makes waveforms: shapes, chunks, what it can learn, and bad input."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import UserError, VocoderConfig, load_group
from voiceflow.models.adversary import VocoderGame
from voiceflow.models.vocoder import Vocoder
from voiceflow.nn.spectral import SpectralDistance
from voiceflow.vocoders.neural import NeuralVocoder

SPEC = FeatureSpec.named("voicebox16k")
TINY = load_group(VocoderConfig, "vocoder", "tiny")


@pytest.fixture()
def network() -> Vocoder:
    torch.manual_seed(0)
    return Vocoder(TINY, SPEC)


def mel(n_frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return SPEC.denormalise(torch.randn(n_frames, SPEC.n_mels, generator=generator))


@pytest.mark.parametrize("n_frames", [2, 3, 50])
def test_a_hop_between_frames(network: Vocoder, n_frames: int) -> None:
    wave = NeuralVocoder(network, SPEC)(mel(n_frames))
    assert wave.shape == ((n_frames - 1) * SPEC.hop,)
    assert wave.dtype == torch.float32
    assert bool(wave.isfinite().all())


def test_a_single_frame_is_no_sound(network: Vocoder) -> None:
    assert NeuralVocoder(network, SPEC)(mel(1)).shape == (0,)


def test_chunks_change_no_sample(network: Vocoder) -> None:
    whole = NeuralVocoder(network, SPEC, chunk=10_000)(mel(301))
    for chunk in (1, 7, 100, 299, 300):
        parts = NeuralVocoder(network, SPEC, chunk=chunk)(mel(301))
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


def test_the_reach_is_what_a_sample_depends_on(network: Vocoder) -> None:
    """What changes a frame's distance beyond it changes nothing, what is within does."""
    base = mel(200)
    changed = base.clone()
    changed[100] += 1.0
    a, b = (NeuralVocoder(network, SPEC)(x) for x in (base, changed))
    moved = (a != b).nonzero().flatten()
    first, last = int(moved.min()) / SPEC.hop, int(moved.max()) / SPEC.hop
    assert 100 - network.reach <= first <= 99
    assert 100 <= last <= 100 + network.reach


def test_items_of_a_batch_are_apart(network: Vocoder) -> None:
    x = torch.stack([mel(40, seed) for seed in range(3)])
    together = network(x)
    for item, alone in zip(together, x, strict=True):
        torch.testing.assert_close(item, network(alone[None])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (torch.zeros(10, 40), "a log-mel of one or more frames"),
        (torch.zeros(0, 80), "a log-mel of one or more frames"),
        (torch.zeros(2, 10, 80), "a log-mel of one or more frames"),
        (torch.full((10, 80), math.nan), "NaN or infinite"),
        (torch.full((10, 80), math.inf), "NaN or infinite"),
    ],
)
def test_bad_input(network: Vocoder, bad: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        NeuralVocoder(network, SPEC)(bad)


@pytest.mark.parametrize("n_fft", [320, 600, 650])
def test_a_transform_that_does_not_fit_the_hop(n_fft: int) -> None:
    with pytest.raises(UserError, match=r"vocoder\.n_fft must be a multiple of the hop \(160\)"):
        Vocoder(replace(TINY, n_fft=n_fft), SPEC)


def test_features_that_are_not_centred() -> None:
    with pytest.raises(UserError, match="centred features"):
        Vocoder(TINY, replace(SPEC, center=False))


def test_sizes() -> None:
    def millions(name: str) -> float:
        network = Vocoder(load_group(VocoderConfig, "vocoder", name), SPEC)
        return sum(p.numel() for p in network.parameters()) / 1e6

    assert millions("mini") < 3
    assert 13 < millions("base") < 14


def test_the_distance_of_spectra() -> None:
    distance = SpectralDistance()
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(2, 8000, generator=generator)
    assert distance(wave, wave).tolist() == [0, 0]
    half = distance(0.5 * wave, wave)
    # At every resolution: convergence 1/2, and log magnitudes log 2 apart.
    torch.testing.assert_close(half, torch.full((2,), 0.5 + math.log(2)), rtol=1e-3, atol=0)
    silent = torch.zeros(1, 8000, requires_grad=True)
    distance(silent, wave[:1]).sum().backward()
    assert silent.grad is not None and bool(silent.grad.isfinite().all())


def sines(count: int = 4, frames: int = 33) -> tuple[Tensor, Tensor]:
    time = torch.arange((frames - 1) * SPEC.hop) / SPEC.sample_rate
    pitch = torch.tensor([200.0, 300.0, 450.0, 700.0])[:count, None]
    wave = 0.3 * torch.sin(2 * math.pi * pitch * time)
    return SPEC.normalise(LogMel(SPEC)(wave)), wave


@pytest.mark.parametrize("discriminators", [0.0, 0.125])
def test_the_game_is_learnt(discriminators: float) -> None:
    """Thirty updates on four sines, and the spectra are nearer; both players have gradients."""
    torch.manual_seed(0)
    game = VocoderGame(replace(TINY, discriminators=discriminators), SPEC)
    optimizer = torch.optim.Adam(game.parameters(), 2e-3)
    mels, waves = sines()
    first = game(mels, waves)["spectral_distance"].mean()
    for _ in range(30):
        optimizer.zero_grad()
        game(mels, waves)["loss"].sum().backward()
        assert all(p.grad is not None for p in game.parameters())
        optimizer.step()
    assert game(mels, waves)["spectral_distance"].mean() < 0.8 * first


def test_each_player_has_its_own_gradients() -> None:
    """The vocoder's are those of its losses with fixed judges, the judges' those of theirs."""
    torch.manual_seed(0)
    game = VocoderGame(replace(TINY, discriminators=0.0625), SPEC)
    assert game.judges is not None
    mels, waves = sines()
    game(mels, waves)["loss"].sum().backward()
    judges = {n: p.grad.clone() for n, p in game.judges.named_parameters() if p.grad is not None}
    made = game.vocoder(mels).detach()
    game.judges.zero_grad()
    theirs = torch.zeros(())
    for (of_made, _), (of_wave, _) in zip(game.judges(made), game.judges(waves), strict=True):
        theirs = theirs + (1 + of_made).clamp(min=0).flatten(1).mean(1).sum()
        theirs = theirs + (1 - of_wave).clamp(min=0).flatten(1).mean(1).sum()
    (theirs / len(game.judges.each)).backward()
    for name, parameter in game.judges.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(judges[name], parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.fixture()
def golden() -> Path:
    return Path(__file__).parent.parent / "models" / "golden" / "vocoder.safetensors"


def test_golden(golden: Path, make_golden: Callable[[], dict[str, Tensor]]) -> None:
    """Weights and wave written once: what the network makes does not change by accident."""
    kept = load_file(golden)
    found = make_golden()
    assert kept.keys() == found.keys()
    for name, value in kept.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


@pytest.fixture()
def make_golden() -> Callable[[], dict[str, Tensor]]:
    def make() -> dict[str, Tensor]:
        torch.manual_seed(11)
        network = Vocoder(TINY, SPEC).eval()
        generator = torch.Generator().manual_seed(12)
        x = torch.randn(1, 12, SPEC.n_mels, generator=generator)
        with torch.no_grad():
            return {"mel": x, "wave": network(x)}

    return make
