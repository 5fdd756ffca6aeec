"""The velocity network: shapes, what padding and conditions do, where it starts."""

import pytest
import torch
from torch import Tensor, nn

from voiceflow.config import VelocityConfig, load_group
from voiceflow.models.velocity import VelocityNetwork, valid_frames

N_PHONES, N_MELS = 11, 6
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture()
def network() -> VelocityNetwork:
    """A tiny network whose output is not zero."""
    torch.manual_seed(0)
    made = VelocityNetwork(load_group(VelocityConfig, "model", "tiny"), N_PHONES, N_MELS)
    nn.init.normal_(made.output.weight, std=0.3)
    return made.eval()


def inputs(items: int, frames: int, seed: int = 0) -> Inputs:
    """x_t, context, phones and t."""
    generator = torch.Generator().manual_seed(seed)
    xt = torch.randn(items, frames, N_MELS, generator=generator)
    context = torch.randn(items, frames, N_MELS, generator=generator)
    phones = torch.randint(1, N_PHONES, (items, frames), generator=generator)
    return xt, context, phones, torch.rand(items, generator=generator)


def test_a_fresh_network_predicts_zero() -> None:
    made = VelocityNetwork(load_group(VelocityConfig, "model", "tiny"), N_PHONES, N_MELS)
    out = made(*inputs(2, 9), torch.tensor([9, 7]))
    assert out.shape == (2, 9, N_MELS)
    assert not out.any()


def test_a_batch_gives_what_its_items_give_alone(network: VelocityNetwork) -> None:
    lengths = torch.tensor([23, 9, 1])
    xt, context, phones, t = inputs(3, 23)
    together = network(xt, context, phones, t, lengths)
    assert together.std() > 0.1
    for i, n in enumerate(lengths.tolist()):
        part = slice(i, i + 1)
        alone = network(
            xt[part, :n], context[part, :n], phones[part, :n], t[part], lengths[part]
        )
        torch.testing.assert_close(together[part, :n], alone, rtol=1e-5, atol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(network: VelocityNetwork) -> None:
    lengths = torch.tensor([12, 5])
    xt, context, phones, t = inputs(2, 12)
    clean = network(xt, context, phones, t, lengths)
    xt[1, 5:], context[1, 5:], phones[1, 5:] = 1e3, -1e3, 0
    torch.testing.assert_close(
        network(xt, context, phones, t, lengths)[1, :5], clean[1, :5], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("which", range(4), ids=["x_t", "context", "phones", "t"])
def test_every_input_is_heard_everywhere(network: VelocityNetwork, which: int) -> None:
    before, other = inputs(1, 8), inputs(1, 8, seed=1)
    after = list(before)
    after[which] = other[which]
    lengths = torch.tensor([8])
    changed = (network(*after, lengths) - network(*before, lengths)).abs()
    assert (changed.amax(-1) > 1e-4).all()


def test_output_is_full_precision_under_autocast(network: VelocityNetwork) -> None:
    given, lengths = inputs(2, 9), torch.tensor([9, 6])
    exact = network(*given, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(*given, lengths)
    assert half.dtype == torch.float32
    for i, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(half[i, :n], exact[i, :n], rtol=0.1, atol=0.1)


def test_valid_frames() -> None:
    assert valid_frames(torch.tensor([4, 4]), 4) is None
    valid = valid_frames(torch.tensor([1, 3]), 3)
    assert valid is not None
    assert valid.tolist() == [[True, False, False], [True, True, True]]
