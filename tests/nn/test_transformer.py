"""The Transformer: long skips, padding, symmetry, dropout."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from voiceflow.nn.transformer import FeedForward, Transformer

WIDTH = 8


def made(layers: int) -> Transformer:
    torch.manual_seed(0)
    return Transformer(WIDTH, layers, heads=2, feed_forward=16, dropout=0.0).eval()


def entering(transformer: Transformer, x: Tensor) -> list[Tensor]:
    """What enters each block when x goes through."""
    seen: list[Tensor] = []
    for block in transformer.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    transformer(x, None)
    return seen


def pass_on(transformer: Transformer, skipped: bool) -> None:
    """Make each skip's linear pass on what was skipped, or what comes from the block before."""
    here, skip = (0.0, 1.0) if skipped else (1.0, 0.0)
    for linear in transformer.skips:
        assert isinstance(linear, nn.Linear)
        with torch.no_grad():
            linear.weight.copy_(torch.cat([here * torch.eye(WIDTH), skip * torch.eye(WIDTH)], 1))
            linear.bias.zero_()


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 8])
def test_block_l_1_i_is_entered_by_what_entered_block_i(layers: int) -> None:
    transformer = made(layers)
    pass_on(transformer, skipped=True)
    seen = entering(transformer, torch.randn(2, 6, WIDTH))
    assert len(transformer.skips) == layers // 2
    for i in range(layers):
        assert torch.equal(seen[layers - 1 - i], seen[i])
    distinct = seen[: (layers + 1) // 2]
    assert all(not torch.allclose(a, b) for a, b in pairwise(distinct))


@pytest.mark.parametrize("layers", [4, 5])
def test_blocks_follow_each_other(layers: int) -> None:
    transformer = made(layers)
    pass_on(transformer, skipped=False)
    left: list[Tensor] = []
    for block in transformer.blocks:
        block.register_forward_hook(lambda _, __, output: left.append(output))
    seen = entering(transformer, torch.randn(2, 6, WIDTH))
    for output, following in zip(left, seen[1:], strict=False):
        assert torch.equal(output, following)


@pytest.mark.parametrize("n_exempt", [0, 1])
def test_padding_changes_no_token(n_exempt: int) -> None:
    transformer = made(4)
    x = torch.randn(1, 7, WIDTH)
    padded = torch.cat([x, 50 * torch.randn(1, 5, WIDTH)], dim=1)
    valid = torch.arange(12)[None] < 7
    alone = transformer(x, None, n_exempt)
    torch.testing.assert_close(
        transformer(padded, valid, n_exempt)[:, :7], alone, rtol=1e-5, atol=1e-5
    )
    assert not torch.allclose(transformer(padded, None, n_exempt)[:, :7], alone, atol=1e-2)


def test_time_runs_both_ways() -> None:
    """The bias is symmetric: a sequence read backwards gives the output read backwards."""
    transformer = made(4)
    token, x = torch.randn(1, 1, WIDTH), torch.randn(1, 9, WIDTH)
    forward = transformer(torch.cat([token, x], 1), None, n_exempt=1)
    backward = transformer(torch.cat([token, x.flip(1)], 1), None, n_exempt=1)
    torch.testing.assert_close(backward[:, :1], forward[:, :1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(backward[:, 1:].flip(1), forward[:, 1:], rtol=1e-5, atol=1e-5)


def test_the_order_of_tokens_matters() -> None:
    transformer = made(2)
    x = torch.randn(1, 9, WIDTH)
    order = torch.tensor([0, 5, 2, 3, 4, 1, 6, 7, 8])
    assert not torch.allclose(transformer(x[:, order], None)[:, order], transformer(x, None))


def test_dropout_is_of_the_activation_and_only_in_training() -> None:
    torch.manual_seed(0)
    layer = FeedForward(4, 4000, dropout=0.5)
    with torch.no_grad():
        layer.down.weight.fill_(1.0)
        layer.down.bias.zero_()
    x = torch.randn(1, 1, 4)
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    kept = layer.eval()(x)
    assert torch.equal(kept, layer(x))
    assert torch.equal(first[..., 0], first[..., 1])  # an output that was dropped would differ
    assert first[0, 0, 0].item() == pytest.approx(kept[0, 0, 0].item(), rel=0.2)
