"""The phone recogniser: shapes, padding, and label priors that follow the posteriors."""

import pytest
import torch

from voiceflow.config import AlignerConfig
from voiceflow.models.aligner import PhoneRecogniser

CONFIG = AlignerConfig(width=16, hidden=32, layers=2, kernel=3, stride=2, dropout=0.0)


def recogniser() -> PhoneRecogniser:
    torch.manual_seed(0)
    return PhoneRecogniser(CONFIG, n_classes=5, n_mels=4).eval()


@pytest.mark.parametrize("frames", [1, 2, 9, 10])
def test_there_is_an_output_for_each_begun_stride(frames: int) -> None:
    network, lengths = recogniser(), torch.tensor([frames])
    log_probs = network(torch.randn(1, frames, 4), lengths)
    assert log_probs.shape == (1, int(network.frames(lengths)), 5)
    assert int(network.frames(lengths)) == (frames + 1) // 2
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(1, log_probs.shape[1]))


@pytest.mark.parametrize("shorter", [7, 8])
def test_an_item_in_a_batch_is_as_it_is_alone(shorter: int) -> None:
    network = recogniser()
    mel = torch.randn(2, 13, 4, generator=torch.Generator().manual_seed(0))
    together = network(mel, torch.tensor([13, shorter]))
    alone = network(mel[1:, :shorter], torch.tensor([shorter]))
    torch.testing.assert_close(together[1, : alone.shape[1]], alone[0], rtol=0, atol=1e-5)


def test_an_output_hears_the_frames_around_its_own() -> None:
    network = recogniser()
    mel = torch.randn(1, 40, 4, generator=torch.Generator().manual_seed(1))
    other = mel.clone()
    other[0, 20] += 1
    lengths = torch.tensor([40])
    changed = (network(mel, lengths) - network(other, lengths)).abs().sum(2)[0] > 0
    # The stem reaches 2 frames, that is one output; each of two blocks one more.
    assert changed.nonzero().flatten().tolist() == list(range(7, 14))


def test_priors_follow_the_posteriors_in_training_alone() -> None:
    network = recogniser()
    mel, lengths = torch.randn(2, 12, 4), torch.tensor([12, 6])
    network(mel, lengths)
    torch.testing.assert_close(network.log_prior.exp(), torch.full((5,), 0.2))
    network.train()
    for _ in range(1500):
        log_probs = network(mel, lengths)
    valid = torch.cat([log_probs[0], log_probs[1, :3]])
    torch.testing.assert_close(
        network.log_prior.exp(), valid.exp().mean(0).detach(), rtol=1e-3, atol=1e-4
    )


def test_what_is_not_finite_leaves_the_priors() -> None:
    """An update that training leaves out must not spoil those that follow."""
    network = recogniser().train()
    before = network.log_prior.clone()
    network(torch.full((1, 8, 4), float("nan")), torch.tensor([8]))
    torch.testing.assert_close(network.log_prior, before)
    network(torch.randn(1, 8, 4), torch.tensor([8]))
    assert network.log_prior.isfinite().all()
    assert not torch.equal(network.log_prior, before)
