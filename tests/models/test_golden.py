"""Outputs of tiny networks as they were: a change that moves them is meant, or a mistake.

Weights and inputs are sines, so that no generator of random numbers has a part. After a change
that is meant, write the file anew with

    python -m tests.models.test_golden
"""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voiceflow.config import DurationConfig, VelocityConfig, load_group
from voiceflow.models.duration import DurationNetwork
from voiceflow.models.velocity import VelocityNetwork

GOLDEN = Path(__file__).parent / "golden" / "networks.safetensors"
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
def velocity() -> Tensor:
    """(2, 14, 6) of the tiny velocity network, the second item 9 frames long."""
    config = load_group(VelocityConfig, "model", "tiny")
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


@pytest.mark.parametrize("name", NETWORKS)
def test_the_output_is_what_it_was(name: str) -> None:
    golden = load_file(GOLDEN)[name]
    assert golden.std() > 0.1
    torch.testing.assert_close(NETWORKS[name](), golden, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    save_file({name: made() for name, made in NETWORKS.items()}, GOLDEN)
