"""The duration network: shapes, padding, and that masked durations are not seen."""

import pytest
import torch
from torch import Tensor

from voiceflow.config import DurationConfig, load_group
from voiceflow.models.duration import DurationNetwork

N_PHONES = 11


@pytest.fixture()
def network() -> DurationNetwork:
    torch.manual_seed(0)
    return DurationNetwork(load_group(DurationConfig, "duration", "tiny"), N_PHONES).eval()


def inputs(items: int, phones: int) -> tuple[Tensor, Tensor, Tensor]:
    """phones, durations and mask."""
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randint(1, N_PHONES, (items, phones), generator=generator)
    durations = torch.randint(0, 30, (items, phones), generator=generator)
    return symbols, durations, torch.rand(items, phones, generator=generator) < 0.5


def test_a_batch_gives_what_its_items_give_alone(network: DurationNetwork) -> None:
    lengths = torch.tensor([17, 6, 1])
    phones, durations, mask = inputs(3, 17)
    together = network(phones, durations, mask, lengths)
    assert together.shape == (3, 17)
    assert together.dtype == torch.float32
    for i, n in enumerate(lengths.tolist()):
        part = slice(i, i + 1)
        alone = network(phones[part, :n], durations[part, :n], mask[part, :n], lengths[part])
        torch.testing.assert_close(together[part, :n], alone, rtol=1e-5, atol=1e-5)


def test_masked_durations_are_not_seen_and_known_ones_are(network: DurationNetwork) -> None:
    lengths = torch.tensor([12])
    phones, durations, mask = inputs(1, 12)
    before = network(phones, durations, mask, lengths)
    assert torch.equal(network(phones, durations.where(~mask, 99), mask, lengths), before)
    after = network(phones, durations.where(mask, 99), mask, lengths)
    assert ((after - before).abs() > 1e-5).all()


def test_a_masked_duration_is_not_taken_for_a_silence_of_no_frames(
    network: DurationNetwork,
) -> None:
    lengths = torch.tensor([12])
    phones, durations, mask = inputs(1, 12)
    durations = torch.zeros_like(durations)
    known = network(phones, durations, torch.zeros_like(mask), lengths)
    masked = network(phones, durations, torch.ones_like(mask), lengths)
    assert ((known - masked).abs() > 1e-4).all()


def test_every_phone_is_heard_everywhere(network: DurationNetwork) -> None:
    lengths = torch.tensor([12])
    phones, durations, mask = inputs(1, 12)
    before = network(phones, durations, mask, lengths)
    phones[0, 3] = phones[0, 3] % (N_PHONES - 1) + 1
    assert ((network(phones, durations, mask, lengths) - before).abs() > 1e-6).all()
