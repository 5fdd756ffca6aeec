"""Durations from networks whose answers are known; a folder that holds networks of each kind."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import DurationConfig, SampleConfig, UserError, load_group
from voiceflow.generation.durations import regressed_durations, sampled_durations
from voiceflow.model_folder import (
    ModelFolder,
    build_duration,
    build_duration_flow,
    pack,
    save_network,
)
from voiceflow.models.duration import DurationFlowNetwork, DurationNetwork
from voiceflow.text.phones import PhoneTable

TINY = load_group(DurationConfig, "duration", "tiny")
N_PHONES = 11
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(t (B), xt, phones (B, N)) -> (B, N)"""

# What each phone's duration is, and how often.
KNOWN: dict[int, dict[int, float]] = {
    1: {0: 0.6, 5: 0.3, 20: 0.1},
    2: {3: 0.5, 4: 0.5},
    3: {2: 0.1, 7: 0.7, 11: 0.2},
}


class Field(DurationFlowNetwork):
    """A velocity in closed form; keeps what it was shown at every evaluation."""

    def __init__(self, velocity: Velocity) -> None:
        super().__init__(TINY, N_PHONES)
        self.velocity = velocity
        self.shown: list[tuple[Tensor, ...]] = []

    def forward(
        self,
        xt: Tensor,
        phones: Tensor,
        durations: Tensor,
        mask: Tensor,
        t: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        self.shown.append((xt, phones, durations, mask, t, lengths))
        return self.velocity(t, xt, phones)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def marginal_velocity(xt: Tensor, t: float, distribution: dict[int, float]) -> Tensor:
    """E[x1 - (1 - sigma_min) x0 | xt] where x1 is the dequantised duration's logarithm.

    By summing over a grid of each duration's uniform cell; xt: (K,).
    """
    u = (torch.arange(60, dtype=torch.float64) + 0.5) / 60
    frames = torch.cat([d - 0.5 + u for d in distribution])
    weight = torch.tensor(list(distribution.values())).double().repeat_interleave(len(u))
    x1 = (torch.log1p(frames) - TINY.log_mean) / TINY.log_std
    sigma = 1 - (1 - 1e-5) * t
    x0 = (xt.double()[:, None] - t * x1) / sigma
    posterior = torch.softmax(weight.log() - 0.5 * x0.square(), dim=1)
    return (posterior * (x1 - (1 - 1e-5) * x0)).sum(1).float()


def exact(t: Tensor, xt: Tensor, phones: Tensor) -> Tensor:
    velocity = torch.zeros_like(xt)
    for phone, distribution in KNOWN.items():
        here = phones == phone
        velocity[here] = marginal_velocity(xt[here], float(t[0]), distribution)
    return velocity


def test_the_exact_velocity_samples_each_phones_own_durations() -> None:
    """Whatever stands around: durations here do not depend on it."""
    phones = torch.tensor([[1, 2, 3] * 40] * 40)
    mask = torch.ones_like(phones, dtype=torch.bool)
    mask[:, ::7] = False
    nothing = torch.zeros_like(phones)
    found = sampled_durations(
        Field(exact), phones, nothing, mask, generators=generators(*range(40)), steps=24
    )
    for phone, distribution in KNOWN.items():
        drawn = found[mask & (phones == phone)]
        shares = {d: float((drawn == d).float().mean()) for d in range(40)}
        off = sum(abs(shares[d] - distribution.get(d, 0.0)) for d in shares) / 2
        assert off < 0.04, (phone, shares)  # total variation, of 1371 draws


def test_context_keeps_its_durations_and_is_shown_on_its_path() -> None:
    phones = torch.tensor([[1, 2, 3, 2]])
    durations = torch.tensor([[9, 3, 0, 70]])
    mask = torch.tensor([[False, True, True, False]])
    network = Field(lambda t, xt, _: torch.full_like(xt, 1e3 * (1 - 2 * float(t[0]))))
    found = sampled_durations(
        network, phones, durations, mask, generators=generators(3), steps=2, solver="euler"
    )
    assert found[~mask].tolist() == [9, 70]
    noise = torch.randn(4, generator=generators(3)[0])
    x1 = (torch.tensor([10.0, 71.0]).log() - TINY.log_mean) / TINY.log_std
    assert [float(t) for *_, t, _ in network.shown] == [0.0, 0.5]
    for xt, _, _, hidden, t, lengths in network.shown:
        expected = t * x1 + (1 - (1 - 1e-5) * t) * noise[[0, 3]]
        torch.testing.assert_close(xt[0, [0, 3]], expected)
        assert torch.equal(hidden, mask) and lengths.tolist() == [4]


@pytest.mark.parametrize("guidance", [0.0, 0.7])
def test_guidance_leads_away_from_the_velocity_without_conditions(guidance: float) -> None:
    """v = (1 + a) 1.5 - a 0.5, from the noise on."""
    phones, mask = torch.tensor([[1, 2, 3]]), torch.tensor([[True, False, True]])
    network = Field(lambda t, xt, told: torch.where(told > 0, 1.5, 0.5).expand_as(xt))
    found = sampled_durations(
        network, phones, torch.tensor([[5, 6, 7]]), mask, generators=generators(0),
        guidance=guidance, rounded=False,
    )  # fmt: skip
    ends = torch.randn(3, generator=generators(0)[0]) + (1 + guidance) * 1.5 - guidance * 0.5
    frames = torch.expm1(TINY.log_std * ends + TINY.log_mean).clamp_min(0)
    torch.testing.assert_close(found[mask], frames[mask[0]], rtol=1e-4, atol=1e-4)
    told, hidden = network.shown[0][1], network.shown[0][3]
    if guidance:
        assert not told[1].any() and hidden[1].all()
    assert torch.equal(told[0], phones[0]) and torch.equal(hidden[0], mask[0])


def trained_like() -> DurationFlowNetwork:
    torch.manual_seed(0)
    network = DurationFlowNetwork(TINY, N_PHONES).eval()
    nn.init.normal_(network.output.weight, std=0.2)
    return network


def regression() -> DurationNetwork:
    torch.manual_seed(0)
    return DurationNetwork(TINY, N_PHONES).eval()


Predict = Callable[[Tensor, Tensor, Tensor, Tensor, list[int]], Tensor]


def by_flow(guidance: float) -> Predict:
    network = trained_like()
    return lambda *told: sampled_durations(
        network, *told[:4], generators=generators(*told[4]), steps=4, guidance=guidance,
        rounded=False,
    )  # fmt: skip


def by_regression() -> Predict:
    network = regression()
    return lambda *told: regressed_durations(network, *told[:4], rounded=False)


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """phones, durations, mask and lengths of three items, padded to more than the longest."""
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([12, 5, 1])
    own = torch.arange(14) < lengths[:, None]
    phones = torch.randint(1, N_PHONES, (3, 14), generator=generator) * own
    durations = torch.randint(0, 30, (3, 14), generator=generator) * own
    mask = (torch.rand(3, 14, generator=generator) < 0.6) & own
    mask[2, 0] = True
    return phones, durations, mask, lengths


@pytest.mark.parametrize("make", [by_regression, lambda: by_flow(0.0), lambda: by_flow(0.7)])
def test_a_batch_gives_what_its_items_give_alone(make: Callable[[], Predict]) -> None:
    predict, (phones, durations, mask, lengths) = make(), inputs()
    together = predict(phones, durations, mask, lengths, [4, 5, 6])
    assert together.shape == phones.shape and together.dtype == torch.float32
    assert torch.equal(together[~mask], durations[~mask].float())
    for i, n in enumerate(lengths.tolist()):
        part = slice(i, i + 1)
        single = (x[part, :n] for x in (phones, durations, mask))
        alone = predict(*single, lengths[part], [4 + i])
        torch.testing.assert_close(together[part, :n], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [by_regression, lambda: by_flow(0.0), lambda: by_flow(0.7)])
def test_masked_durations_are_no_help(make: Callable[[], Predict]) -> None:
    predict, (phones, durations, mask, lengths) = make(), inputs()
    found = predict(phones, durations, mask, lengths, [4, 5, 6])
    other = predict(phones, durations.where(~mask, 99), mask, lengths, [4, 5, 6])
    assert torch.equal(found, other)


def test_the_same_seed_gives_the_same_durations_and_another_gives_others() -> None:
    predict, (phones, durations, mask, lengths) = by_flow(0.0), inputs()
    first = predict(phones, durations, mask, lengths, [4, 5, 6])
    assert torch.equal(predict(phones, durations, mask, lengths, [4, 5, 6]), first)
    other = predict(phones, durations, mask, lengths, [7, 5, 6])
    assert (other[0] != first[0])[mask[0]].all()
    assert torch.equal(other[1:], first[1:])


class Says(nn.Module):
    """A regression network that answers `value`."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, *_: Tensor) -> Tensor:
        return self.value


def test_regressed_durations_are_whole_and_not_negative() -> None:
    logs = torch.tensor([[-1.0, math.log(1.4), math.log(4.4), math.log(4.6), 0.3]])
    mask = torch.tensor([[True, True, True, True, False]])
    told = (Says(logs), torch.ones(1, 5, dtype=torch.long), torch.full((1, 5), 8), mask)
    assert regressed_durations(*told).tolist() == [[0, 0, 3, 4, 8]]
    real = regressed_durations(*told, rounded=False)
    torch.testing.assert_close(real, torch.tensor([[0.0, 0.4, 3.4, 3.6, 8.0]]))


def test_sampled_durations_are_whole_and_not_negative() -> None:
    phones = torch.ones(1, 200, dtype=torch.long)
    mask = torch.ones_like(phones, dtype=torch.bool)
    network = Field(lambda t, xt, _: torch.full_like(xt, -1.0))
    found = sampled_durations(network, phones, phones, mask, generators=generators(0))
    assert (found == 0).any() and (found > 0).any() and (found >= 0).all()
    assert torch.equal(found, found.round())


def test_what_cannot_be_sampled() -> None:
    phones = torch.ones(2, 3, dtype=torch.long)
    told = (trained_like(), phones, phones, phones > 0)
    with pytest.raises(UserError, match="solver 'magic' is not one of euler"):
        sampled_durations(*told, generators=generators(0, 1), solver="magic")
    with pytest.raises(UserError, match="steps must be at least 1, found 0"):
        sampled_durations(*told, generators=generators(0, 1), steps=0)
    with pytest.raises(ValueError, match="2 items need as many generators, found 1"):
        sampled_durations(*told, generators=generators(0))


def test_a_folder_holds_both_kinds_and_packing_keeps_them(tiny_voice: Path, tmp_path: Path) -> None:
    old = ModelFolder.open(tiny_voice)
    for name, source in (("velocity", old.load("velocity")), ("duration", old.load("duration"))):
        config = getattr(old.config, name)
        save_network(
            tmp_path / "both", name, source.state_dict(), config, old.phones, old.features,
            SampleConfig(), {},
        )  # fmt: skip
    without = ModelFolder.open(tmp_path / "both")
    assert without.config.duration_flow is None
    with pytest.raises(UserError, match=r"has no duration_flow network: .* task=duration_flow"):
        without.load("duration_flow")
    torch.manual_seed(1)
    network = build_duration_flow(TINY, old.phones)
    save_network(
        tmp_path / "both", "duration_flow", network.state_dict(), TINY, old.phones, old.features,
        SampleConfig(), {"updates": 3},
    )  # fmt: skip
    assert {p.name for p in pack(tmp_path / "both", tmp_path / "packed")} >= {
        "duration.safetensors", "duration_flow.safetensors",
    }  # fmt: skip
    for folder, tolerance in (("both", 0.0), ("packed", 1e-3)):
        opened = ModelFolder.open(tmp_path / folder)
        assert opened.config.training["duration_flow"] == {"updates": 3}
        flow, regressing = opened.load("duration_flow"), opened.load("duration")
        assert isinstance(flow, DurationFlowNetwork) and isinstance(regressing, DurationNetwork)
        assert flow.config == TINY and not flow.training
        for key, value in network.state_dict().items():
            torch.testing.assert_close(
                flow.state_dict()[key], value, rtol=tolerance, atol=tolerance
            )


def test_a_folder_written_before_there_was_a_flow_loads(tmp_path: Path) -> None:
    """Its configuration has neither the network nor the constants of the logarithms."""
    phones, features = PhoneTable.english(), FeatureSpec.named("voicebox16k")
    made = build_duration(TINY, phones)
    save_network(
        tmp_path, "duration", made.state_dict(), TINY, phones, features, SampleConfig(), {}
    )
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del values["duration_flow"], values["duration"]["log_mean"], values["duration"]["log_std"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    opened = ModelFolder.open(tmp_path)
    assert opened.config.duration == TINY
    assert isinstance(opened.load("duration"), DurationNetwork)
