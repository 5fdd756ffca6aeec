"""The networks of conf/: their sizes, and the shape of every parameter of the paper's model."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from voiceflow.config import DurationConfig, VelocityConfig, load_group
from voiceflow.models.duration import DurationNetwork
from voiceflow.models.velocity import VelocityNetwork
from voiceflow.text.phones import PhoneTable

N_PHONES = len(PhoneTable.english())
N_MELS = 80


def velocity(name: str) -> nn.Module:
    with torch.device("meta"):
        return VelocityNetwork(load_group(VelocityConfig, "model", name), N_PHONES, N_MELS)


def duration(name: str) -> nn.Module:
    with torch.device("meta"):
        return DurationNetwork(load_group(DurationConfig, "duration", name), N_PHONES)


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in network.named_parameters()}


def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def transformer(width: int, layers: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Every block of `layers`, the linears of half as many skips, and the last norm."""
    wanted = norm("transformer.norm", width)
    for i in range(layers):
        block = f"transformer.blocks.{i}"
        wanted |= norm(f"{block}.attention_norm", width)
        wanted |= linear(f"{block}.attention.qkv", 3 * width, width)
        wanted |= linear(f"{block}.attention.out", width, width)
        wanted |= norm(f"{block}.feed_forward_norm", width)
        wanted |= linear(f"{block}.feed_forward.up", hidden, width)
        wanted |= linear(f"{block}.feed_forward.down", width, hidden)
    for i in range(layers // 2):
        wanted |= linear(f"transformer.skips.{i}", width, 2 * width)
    return wanted


def position(width: int, kernel: int) -> dict[str, tuple[int, ...]]:
    """Two convolutions in 16 groups."""
    wanted: dict[str, tuple[int, ...]] = {}
    for i in range(2):
        wanted[f"position.layers.{i}.weight"] = (width, width // 16, kernel)
        wanted[f"position.layers.{i}.bias"] = (width,)
    return wanted


def test_the_papers_audio_model() -> None:
    network = velocity("voicebox330m")
    assert size(network) == pytest.approx(330e6, rel=0.02)
    assert shapes(network) == {
        "phone.weight": (N_PHONES, 1024),
        **linear("input", 1024, 2 * 80 + 1024),
        **position(1024, 31),
        **linear("time.mlp.0", 1024, 1024),
        **linear("time.mlp.2", 1024, 1024),
        **transformer(1024, 24, 4096),
        **linear("output", 80, 1024),
    }
    assert isinstance(network, VelocityNetwork)
    assert network.transformer.heads == 16
    assert {block.attention.heads for block in network.transformer.blocks} == {16}
    assert {block.feed_forward.dropout for block in network.transformer.blocks} == {0.1}


def test_the_parameters_of_the_options() -> None:
    """Rotary adds none, qk_norm two norms a layer, adaln a linear layer in each norm's place."""

    def of(**options: str | bool) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            config = replace(load_group(VelocityConfig, "model", "mini"), **options)
            return shapes(VelocityNetwork(config, N_PHONES, N_MELS))

    plain = of()
    assert of(position="rotary", checkpoint_activations=True) == plain
    norms = {
        f"transformer.blocks.{i}.attention.{which}_norm.weight": (64,)
        for i in range(6)
        for which in ("query", "key")
    }
    assert of(qk_norm=True) == plain | norms
    modulated = {n: s for n, s in plain.items() if "transformer" not in n or "norm" not in n}
    for i in range(6):
        modulated |= linear(f"transformer.blocks.{i}.modulation.linear", 6 * 256, 256)
    modulated |= linear("transformer.modulation.linear", 2 * 256, 256)
    assert of(time="adaln") == modulated


def test_the_papers_duration_model() -> None:
    network = duration("base")
    assert size(network) == pytest.approx(28e6, rel=0.05)  # 28.16 M
    assert shapes(network) == {
        "phone.weight": (N_PHONES, 512),
        **linear("input", 512, 2 + 512),
        **position(512, 15),
        **transformer(512, 8, 2048),
        **linear("output", 1, 512),
    }
    assert isinstance(network, DurationNetwork)
    assert {block.attention.heads for block in network.transformer.blocks} == {8}


@pytest.mark.parametrize(
    ("network", "millions"),
    [
        (lambda: velocity("base"), 121.0),
        (lambda: velocity("mini"), 5.69),
        (lambda: duration("mini"), 2.07),
        (lambda: velocity("tiny"), 0.055),
        (lambda: duration("tiny"), 0.026),
    ],
    ids=["base", "mini", "mini-duration", "tiny", "tiny-duration"],
)
def test_the_other_sizes(network: Callable[[], nn.Module], millions: float) -> None:
    assert size(network()) / 1e6 == pytest.approx(millions, rel=0.02)
