"""The average of the weights, in closed form."""

import pytest
import torch
from torch import nn

from voiceflow.training.ema import EMA


def layer(value: float) -> nn.Linear:
    made = nn.Linear(2, 2)
    for p in made.parameters():
        nn.init.constant_(p, value)
    return made


def values(ema: EMA) -> list[float]:
    return [float(v) for p in ema.state_dict().values() for v in p.flatten()]


def test_closed_form_with_the_growing_decay() -> None:
    network = layer(0.0)
    ema = EMA(network, decay=0.9)
    wanted = 0.0
    for n in range(1, 200):
        for p in network.parameters():
            nn.init.constant_(p, float(n % 7))
        ema.update(n)
        decay = min(0.9, (1 + n) / (10 + n))
        wanted = decay * wanted + (1 - decay) * (n % 7)
    assert values(ema) == pytest.approx([wanted] * 6, rel=1e-5)


def test_the_start_is_forgotten_soon() -> None:
    network = layer(100.0)
    ema = EMA(network, decay=0.9999)
    for p in network.parameters():
        nn.init.constant_(p, 1.0)
    for n in range(1, 101):
        ema.update(n)
    # prod (1 + n) / (10 + n) over n = 1..100 is 10! 101! / 110!, about 3e-8.
    assert values(ema) == pytest.approx([1.0] * 6, abs=1e-3)


def test_it_is_a_copy_that_can_stand_in() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)).train()
    ema = EMA(network, decay=0.5)
    before = network[0].weight.detach().clone()
    nn.init.constant_(network[0].weight, 5.0)
    assert torch.equal(ema.state_dict()["0.weight"], before)
    with ema.applied() as averaged:
        assert torch.equal(averaged[0].weight, before)
        assert not averaged.training
    assert network.training
    assert (network[0].weight == 5.0).all()
    network(torch.randn(8, 2))
    assert set(ema.state_dict()) == set(network.state_dict())
    assert torch.equal(ema.state_dict()["1.running_mean"], network[1].running_mean)


def test_what_fails_inside_leaves_the_weights() -> None:
    network = layer(1.0)
    ema = EMA(network, decay=0.5)
    nn.init.constant_(network.weight, 3.0)
    with pytest.raises(RuntimeError), ema.applied():
        raise RuntimeError
    assert (network.weight == 3.0).all()
