"""The Transformer: long skips, padding, position, the flow step, symmetry, dropout."""

from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voiceflow.nn import attention
from voiceflow.nn.attention import Bias
from voiceflow.nn.transformer import FeedForward, Modulation, Transformer

WIDTH = 8
OPTIONS = ("rotary", "modulated", "qk_norm")
each_combination = pytest.mark.parametrize(
    "options",
    [dict(zip(OPTIONS, chosen, strict=True)) for chosen in product([False, True], repeat=3)],
    ids=lambda options: " ".join(k for k in options if options[k]) or "default",
)


def made(layers: int, width: int = WIDTH, dropout: float = 0.0, **options: Any) -> Transformer:
    """In evaluation mode; modulation, which starts at zero, is filled."""
    torch.manual_seed(0)
    transformer = Transformer(width, layers, 2, 16, dropout, **options)
    for module in transformer.modules():
        if isinstance(module, Modulation):
            nn.init.normal_(module.linear.weight, std=0.3)
            nn.init.normal_(module.linear.bias, std=0.3)
    return transformer.eval()


def time_of(transformer: Transformer, items: int, seed: int = 2) -> Tensor | None:
    """(B, 1, D), for those that are told it."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.randn(items, 1, WIDTH, generator=generator)
    return time if transformer.modulated else None


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


@each_combination
@pytest.mark.parametrize("n_exempt", [0, 1])
def test_padding_changes_no_token(n_exempt: int, options: dict[str, bool]) -> None:
    transformer = made(4, **options)
    x, time = torch.randn(1, 7, WIDTH), time_of(transformer, 1)
    padded = torch.cat([x, 50 * torch.randn(1, 5, WIDTH)], dim=1)
    valid = torch.arange(12)[None] < 7
    alone = transformer(x, None, n_exempt, time)
    torch.testing.assert_close(
        transformer(padded, valid, n_exempt, time)[:, :7], alone, rtol=1e-5, atol=1e-5
    )
    unmasked = transformer(padded, None, n_exempt, time)
    assert not torch.allclose(unmasked[:, :7], alone, atol=1e-2)


def test_time_runs_both_ways() -> None:
    """The bias is symmetric: a sequence read backwards gives the output read backwards."""
    transformer = made(4)
    token, x = torch.randn(1, 1, WIDTH), torch.randn(1, 9, WIDTH)
    forward = transformer(torch.cat([token, x], 1), None, n_exempt=1)
    backward = transformer(torch.cat([token, x.flip(1)], 1), None, n_exempt=1)
    torch.testing.assert_close(backward[:, :1], forward[:, :1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(backward[:, 1:].flip(1), forward[:, 1:], rtol=1e-5, atol=1e-5)


@each_combination
def test_the_order_of_tokens_matters(options: dict[str, bool]) -> None:
    transformer = made(2, **options)
    x, time = torch.randn(1, 9, WIDTH), time_of(transformer, 1)
    order = torch.tensor([0, 5, 2, 3, 4, 1, 6, 7, 8])
    permuted = transformer(x[:, order], None, time=time)[:, order]
    assert not torch.allclose(permuted, transformer(x, None, time=time), atol=1e-3)


@each_combination
def test_gradients_reach_every_parameter(options: dict[str, bool]) -> None:
    transformer = made(3, **options).train()
    out = transformer(torch.randn(2, 5, WIDTH), None, time=time_of(transformer, 2))
    (out * torch.randn(out.shape)).sum().backward()
    still = [n for n, p in transformer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_modulation_is_of_each_item_by_its_own_flow_step() -> None:
    transformer = made(2, modulated=True)
    x, time = torch.randn(2, 5, WIDTH), time_of(transformer, 2)
    assert time is not None
    before = transformer(x, None, time=time)
    time[1] += 1
    after = transformer(x, None, time=time)
    assert torch.equal(after[0], before[0])
    assert ((after[1] - before[1]).abs().amax(-1) > 1e-3).all()


def test_a_fresh_modulated_block_passes_on_what_enters_it() -> None:
    block = Transformer(WIDTH, 1, 2, 16, 0.0, modulated=True).blocks[0]
    x = torch.randn(2, 5, WIDTH)
    assert torch.equal(block(x, Bias(), None, torch.randn(2, 1, WIDTH)), x)


def test_a_modulated_block_by_its_formula() -> None:
    """DiT's figure 3: norm, scale and shift, branch, gate; for attention, then feed-forward."""
    transformer = made(1, modulated=True)
    block, x, time = transformer.blocks[0], torch.randn(2, 5, WIDTH), torch.randn(2, 1, WIDTH)
    linear = block.modulation.linear
    shift, scale, gate, ff_shift, ff_scale, ff_gate = (
        linear(time * torch.sigmoid(time)).reshape(2, 1, 6, WIDTH).unbind(2)
    )

    def norm(y: Tensor) -> Tensor:
        variance = y.var(-1, unbiased=False, keepdim=True)
        return (y - y.mean(-1, keepdim=True)) / (variance + 1e-5).sqrt()

    middle = x + gate * block.attention(norm(x) * (1 + scale) + shift, Bias())
    wanted = middle + ff_gate * block.feed_forward(norm(middle) * (1 + ff_scale) + ff_shift)
    torch.testing.assert_close(block(x, Bias(), None, time), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@each_combination
def test_checkpointed_activations_give_the_same_gradients(
    options: dict[str, bool], dropout: float
) -> None:
    valid, found = torch.arange(6) < torch.tensor([[6], [4]]), []
    direction = torch.randn(2, 6, WIDTH)
    for checkpointed in (False, True):
        transformer = made(4, dropout=dropout, checkpoint_activations=checkpointed, **options)
        x, time = torch.randn(2, 6, WIDTH), time_of(transformer, 2)
        entered: list[Tensor] = []
        transformer.blocks[2].feed_forward.register_forward_pre_hook(
            lambda _, inputs, entered=entered: entered.append(inputs[0])
        )
        torch.manual_seed(3)
        (transformer.train()(x, valid, time=time) * direction).sum().backward()
        assert len(entered) == (2 if checkpointed else 1)
        (transformer.eval()(x, valid, time=time) * direction).sum().backward()
        assert len(entered) == (3 if checkpointed else 2)  # in evaluation not twice
        found.append([p.grad for p in transformer.parameters()])
    for plain, checkpointed in zip(*found, strict=True):
        torch.testing.assert_close(checkpointed, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("n_exempt", [0, 1])
def test_where_flex_attention_runs_nothing_is_written_out(
    n_exempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer = made(2, width=32)
    x, valid = torch.randn(2, 9, 32), torch.arange(9) < torch.tensor([[9], [5]])
    wanted = transformer(x, valid, n_exempt)
    for module in (attention, "voiceflow.nn.transformer"):
        name = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{name}.flex_runs", lambda *_: True)
    with torch.no_grad(), monkeypatch.context() as patch:
        patch.setattr(Bias, "written_out", None)
        found = transformer(x, valid, n_exempt)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1, :5], wanted[1, :5], rtol=1e-5, atol=1e-5)
    # By the input, outside training: written out, so that it can be differentiated again.
    assert transformer.bias(x, valid, n_exempt).dense is not None
    assert transformer.train().bias(x, valid, n_exempt).dense is None


def test_rotary_needs_heads_of_even_width() -> None:
    with pytest.raises(ValueError, match="heads of even width, found 5"):
        Transformer(10, 2, 2, 16, 0.0, rotary=True)


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
