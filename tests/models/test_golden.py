"""Outputs of tiny networks as they were: a change that moves them is meant, or a mistake.

Weights and inputs are sines, so that no generator of random numbers has a part. After a change
that is meant, write the files anew with

    python -m tests.models.test_golden
"""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voiceflow.config import DurationConfig, VelocityConfig, load_group
from voiceflow.models.duration import DurationNetwork
from voiceflow.models.velocity import VelocityNetwork

GOLDEN = Path(__file__).parent / "golden"
N_PHONES, N_MELS = 11, 6


def waves(*shape: int, frequency: float, scale: float = 1.0) -> Tensor:
    """Sines of the elements' numbers: looks random, and is the same everywhere."""
    number = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * torch.sin(frequency * number + 0.1 * number.sqrt())).float().reshape(shape)


@torch.no_grad()
def filled(network: nn.Module) -> nn.Module:
    """The network with sines for weights, as large as a layer's inputs allow."""
    for i, (name, p) in enumerate(sorted(network.named_parameters())):
        fan_in = math.prod(p.shape[1:]) if p.dim() > 1 and name != "phone.weight" else 1
        values = waves(*p.shape, frequency=2.3 + 0.07 * i, scale=(2 / fan_in) ** 0.5)
        p.copy_(1 + 0.1 * values if name.endswith("norm.weight") else values)
    return network.eval()


@torch.no_grad()
def velocity(**options: str | bool) -> Tensor:
    """(2, 14, 6) of the tiny velocity network, the second item 9 frames long."""
    config = replace(load_group(VelocityConfig, "model", "tiny"), **options)
    network = filled(VelocityNetwork(config, N_PHONES, N_MELS))
    xt, context = (waves(2, 14, N_MELS, frequency=f) for f in (1.7, 3.1))
    phones = (torch.arange(28).reshape(2, 14) * 7) % N_PHONES
    out = network(xt, context, phones, torch.tensor([0.2, 0.9]), torch.tensor([14, 9]))
    out[1, 9:] = 0
    return out


@torch.no_grad()
def duration() -> Tensor:
    """(2, 12) of the tiny duration network, the second item 8 phones long."""
    config = load_group(DurationConfig, "duration", "tiny")
    network = filled(DurationNetwork(config, N_PHONES))
    number = torch.arange(24).reshape(2, 12)
    out = network(number * 5 % N_PHONES, number * 3 % 17, number % 3 == 0, torch.tensor([12, 8]))
    out[1, 8:] = 0
    return out


NETWORKS = {"velocity": velocity, "duration": duration}
OPTIONS: dict[str, dict[str, str | bool]] = {
    "rotary": {"position": "rotary"},
    "adaln": {"time": "adaln"},
    "qk_norm": {"qk_norm": True},
    "all": {"position": "rotary", "time": "adaln", "qk_norm": True},
}


def check(found: Tensor, golden: Tensor) -> None:
    assert golden.std() > 0.1
    torch.testing.assert_close(found, golden, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_output_is_what_it_was(name: str) -> None:
    check(NETWORKS[name](), load_file(GOLDEN / "networks.safetensors")[name])


@pytest.mark.parametrize("name", OPTIONS)
def test_the_velocity_networks_options_give_what_they_gave(name: str) -> None:
    goldens = load_file(GOLDEN / "velocity_options.safetensors")
    check(velocity(**OPTIONS[name]), goldens[name])
    for other in goldens.keys() - {name}:
        assert not torch.allclose(goldens[name], goldens[other], atol=0.05)


if __name__ == "__main__":
    save_file({k: made() for k, made in NETWORKS.items()}, GOLDEN / "networks.safetensors")
    save_file(
        {k: velocity(**options) for k, options in OPTIONS.items()},
        GOLDEN / "velocity_options.safetensors",
    )
