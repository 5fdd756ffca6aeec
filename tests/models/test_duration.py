"""The duration networks: shapes, padding, and that masked durations are not seen."""

import math

import pytest
import torch
from torch import Tensor, nn

from voiceflow.config import DurationConfig, load_group
from voiceflow.models.duration import (
    DurationFlowNetwork,
    DurationNetwork,
    frames_of,
    normalised_logs,
)

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


@pytest.fixture()
def flow() -> DurationFlowNetwork:
    torch.manual_seed(0)
    made = DurationFlowNetwork(load_group(DurationConfig, "duration", "tiny"), N_PHONES).eval()
    nn.init.normal_(made.output.weight)  # it starts at zero
    return made


def noise(items: int, phones: int, seed: int = 1) -> Tensor:
    return torch.randn(items, phones, generator=torch.Generator().manual_seed(seed))


def test_the_flow_starts_as_a_velocity_of_zero() -> None:
    made = DurationFlowNetwork(load_group(DurationConfig, "duration", "tiny"), N_PHONES)
    said = made(noise(2, 5), *inputs(2, 5), torch.tensor([0.1, 0.9]), torch.tensor([5, 3]))
    assert said.shape == (2, 5) and not said.any()


def test_a_batch_gives_the_flow_what_its_items_give_alone(flow: DurationFlowNetwork) -> None:
    lengths, t = torch.tensor([17, 6, 1]), torch.tensor([0.0, 0.4, 1.0])
    told = (noise(3, 17), *inputs(3, 17))
    together = flow(*told, t, lengths)
    assert together.shape == (3, 17)
    assert together.dtype == torch.float32
    for i, n in enumerate(lengths.tolist()):
        part = slice(i, i + 1)
        alone = flow(*(x[part, :n] for x in told), t[part], lengths[part])
        torch.testing.assert_close(together[part, :n], alone, rtol=1e-5, atol=1e-5)


def test_the_flow_does_not_see_masked_durations_and_sees_all_else(
    flow: DurationFlowNetwork,
) -> None:
    lengths, t, xt = torch.tensor([12]), torch.tensor([0.3]), noise(1, 12)
    phones, durations, mask = inputs(1, 12)
    before = flow(xt, phones, durations, mask, t, lengths)
    assert torch.equal(flow(xt, phones, durations.where(~mask, 99), mask, t, lengths), before)
    others = [
        flow(xt, phones, durations.where(mask, 99), mask, t, lengths),
        flow(xt, phones % (N_PHONES - 1) + 1, durations, mask, t, lengths),
        flow(noise(1, 12, seed=2), phones, durations, mask, t, lengths),
        flow(xt, phones, durations, mask, torch.tensor([0.9]), lengths),
    ]
    for after in others:
        assert ((after - before).abs() > 1e-6).all()


def test_the_flow_does_not_take_a_masked_duration_for_the_mean(flow: DurationFlowNetwork) -> None:
    """The normalised logarithm of the mean duration is zero, as is what stands for a masked one."""
    lengths, t, xt = torch.tensor([12]), torch.tensor([0.3]), noise(1, 12)
    phones, durations, mask = inputs(1, 12)
    usual = torch.full_like(durations, math.expm1(flow.config.log_mean), dtype=torch.float64)
    known = flow(xt, phones, usual, torch.zeros_like(mask), t, lengths)
    masked = flow(xt, phones, usual, torch.ones_like(mask), t, lengths)
    assert ((known - masked).abs() > 1e-5).all()


def test_logarithms_are_normalised_by_the_constants_of_the_configuration() -> None:
    config = DurationConfig(log_mean=math.log(8), log_std=math.log(2))
    frames = torch.tensor([0, 3, 7, 15, 127])
    logs = normalised_logs(frames, config)
    torch.testing.assert_close(logs, torch.tensor([-3.0, -1.0, 0.0, 1.0, 4.0]))
    torch.testing.assert_close(frames_of(logs, config), frames.float(), rtol=1e-5, atol=1e-5)
    least = normalised_logs(torch.tensor([-0.5]), config)
    torch.testing.assert_close(frames_of(least, config), torch.tensor([-0.5]))
