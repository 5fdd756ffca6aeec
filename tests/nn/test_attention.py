"""Every way of attention against its formula, and the symmetric position bias."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from voiceflow.config import UserNote
from voiceflow.nn import attention
from voiceflow.nn.attention import (
    Bias,
    SelfAttention,
    alibi_bias,
    alibi_slopes,
    attend,
    flex_attend,
    flex_runs,
)
from voiceflow.nn.embeddings import rotation_of

ITEMS, HEADS, TOKENS, HEAD_WIDTH = 4, 4, 9, 16
VALID = torch.arange(TOKENS) < torch.tensor([[9], [6], [1], [4]])
BIASES = {
    "none": Bias(),
    "padding": Bias(valid=VALID),
    "alibi": Bias(alibi_slopes(HEADS)),
    "alibi, a token exempt": Bias(alibi_slopes(HEADS), 1),
    "alibi, a token exempt, padding": Bias(alibi_slopes(HEADS), 1, VALID),
}
each_bias = pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)


def plain_bias(bias: Bias) -> Tensor:
    """(B, H, T, T) in float64, element by element."""
    out = torch.zeros(ITEMS, HEADS, TOKENS, TOKENS, dtype=torch.float64)
    for i in range(TOKENS):
        for j in range(TOKENS):
            if bias.slopes is not None and min(i, j) >= bias.n_exempt:
                out[:, :, i, j] = -abs(i - j) * bias.slopes.double()
            if bias.valid is not None:
                out[~bias.valid[:, j], :, i, j] = -math.inf
    return out


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The formula in float64."""
    q, k, v = (x.double() for x in (q, k, v))
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1]) + bias
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum("bhij,bhjd->bhid", weights, v)


def given(dtype: torch.dtype, gradients: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as SelfAttention lays them out: views of one tensor."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(ITEMS, TOKENS, 3, HEADS, HEAD_WIDTH, generator=generator).to(dtype)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return q.requires_grad_(gradients), k.requires_grad_(gradients), v.requires_grad_(gradients)


def compare(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found.double(), wanted.double(), rtol=tolerance, atol=tolerance)


def check(q: Tensor, k: Tensor, v: Tensor, bias: Bias, tolerance: float) -> None:
    """`attend`'s output and, where it is asked for, its gradients."""
    exact = [x.detach().double().requires_grad_(x.requires_grad) for x in (q, k, v)]
    wanted = plain(*exact, plain_bias(bias))
    found = attend(q, k, v, bias)
    assert found.dtype == q.dtype
    compare(found, wanted, tolerance)
    if q.requires_grad:
        direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
        theirs = torch.autograd.grad(wanted, exact, direction.double())
        ours = torch.autograd.grad(found, (q, k, v), direction.to(q.dtype))
        for mine, their in zip(ours, theirs, strict=True):
            compare(mine, their, tolerance)


@each_bias
@pytest.mark.parametrize("gradients", [False, True], ids=["forward", "gradients"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-6), (torch.float32, 1e-5), (torch.bfloat16, 4e-2)],
    ids=["float64", "float32", "bfloat16"],
)
def test_attend_is_its_formula(
    bias: Bias, dtype: torch.dtype, tolerance: float, gradients: bool
) -> None:
    check(*given(dtype, gradients), bias, tolerance)
    check(*given(dtype, gradients), bias.written_out(TOKENS, dtype), tolerance)


@each_bias
@pytest.mark.parametrize(
    ("matrices", "parts"),
    [(1, 16), (2.5, 8), (4, 4), (8, 2), (16, 1)],
    ids=["a head", "three heads and one", "an item", "two items", "all"],
)
def test_in_portions_it_is_the_same(
    bias: Bias, matrices: float, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = [0]
    plainly = attention._attend_plainly

    def count(*given: Tensor) -> Tensor:
        counted[0] += 1
        return plainly(*given)

    monkeypatch.setattr(attention, "_PORTION", int(matrices * TOKENS**2))
    monkeypatch.setattr(attention, "_attend_plainly", count)
    check(*given(torch.bfloat16, gradients=True), bias, 4e-2)
    assert counted[0] == parts


def test_in_portions_the_formula_is_exact_in_full_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """float32 through the way that bf16 takes: what is left of the difference is rounding."""
    q, k, v = given(torch.float32)
    bias = BIASES["alibi, a token exempt, padding"].written_out(TOKENS, torch.float32)
    assert bias.dense is not None
    for portion in (1, 8 * TOKENS**2):
        monkeypatch.setattr(attention, "_PORTION", portion)
        found = attention._attend_in_portions(q, k, v, bias.dense)
        compare(found, plain(q, k, v, plain_bias(bias)), 1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("name", [name for name in BIASES if name.startswith("alibi")])
def test_flex_attention_is_the_formula(name: str) -> None:
    """Forward, uncompiled: on CPU it has no backward."""
    bias, (q, k, v) = BIASES[name], given(torch.float32)
    compare(flex_attend(q, k, v, bias), plain(q, k, v, plain_bias(bias)), 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", BIASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-2), (torch.bfloat16, 5e-2)], ids=["fp32", "bf16"]
)
def test_on_a_gpu_output_and_gradients_are_the_formulas(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Wide tolerances: float32 products may be TF32 there. No note: flex_attention has to run."""
    bias, (q, k, v) = BIASES[name], given(dtype)
    there = Bias(
        None if bias.slopes is None else bias.slopes.cuda(),
        bias.n_exempt,
        None if bias.valid is None else bias.valid.cuda(),
    )
    assert flex_runs("cuda", dtype, HEAD_WIDTH)
    ours = [x.cuda().requires_grad_() for x in (q, k, v)]
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    found, wanted = attend(*ours, there), plain(*exact, plain_bias(bias))
    compare(found.cpu(), wanted, tolerance)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(found, ours, direction.to(found))
    for mine, theirs in zip(
        gradients, torch.autograd.grad(wanted, exact, direction.double()), strict=True
    ):
        compare(mine.cpu(), theirs, tolerance)


def test_a_bias_that_is_not_written_out_goes_to_flex_attention_where_that_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    went: list[Bias] = []

    def record(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Tensor:
        went.append(bias)
        return v

    monkeypatch.setattr(attention, "flex_runs", lambda *_: True)
    monkeypatch.setattr(attention, "flex_attend", record)
    for bias in BIASES.values():
        attend(*given(torch.float32), bias)
        attend(*given(torch.float32), bias.written_out(TOKENS, torch.float32))
    assert went == [bias for bias in BIASES.values() if bias.slopes is not None]


def test_without_a_bias_there_is_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor | None] = []

    def record(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None) -> Tensor:
        masks.append(attn_mask)
        return v

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    attend(*given(torch.float32), Bias().written_out(TOKENS, torch.float32))
    attend(*given(torch.float32), Bias(valid=VALID).written_out(TOKENS, torch.float32))
    assert masks[0] is None
    assert masks[1] is not None
    assert masks[1].shape == (ITEMS, 1, 1, TOKENS)


def test_flex_attention_is_for_cuda_and_for_heads_that_it_has_a_kernel_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "_flex_compiles", lambda *_: True)
    assert flex_runs("cuda", torch.bfloat16, 64)
    assert flex_runs("cuda", torch.float32, 16)
    for refused in [
        ("cpu", torch.bfloat16, 64),
        ("mps", torch.float32, 64),
        ("cuda", torch.float64, 64),
        ("cuda", torch.bfloat16, 8),
        ("cuda", torch.bfloat16, 48),
    ]:
        assert not flex_runs(*refused)


def test_where_flex_attention_cannot_be_compiled_a_note_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> Callable[..., Tensor]:
        raise RuntimeError("no Triton")

    monkeypatch.setattr(attention, "_compiled_flex", fail)
    compiles = attention._flex_compiles.__wrapped__
    with pytest.warns(UserNote, match=r"no Triton.*SDPA"):
        assert not compiles("meta", torch.float32, 16)


def test_where_it_can_it_is_tried_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def product(q: Tensor, k: Tensor, v: Tensor, score_mod: object) -> Tensor:
        shapes.append((q.shape, q.dtype, q.requires_grad))
        return q * k * v

    monkeypatch.setattr(attention, "_compiled_flex", lambda: product)
    with torch.inference_mode():
        assert attention._flex_compiles.__wrapped__("meta", torch.bfloat16, 32)
    assert shapes == [((2, 2, 256, 32), torch.bfloat16, True)]


def test_slopes_of_eight_and_of_sixteen_heads() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]
    assert alibi_slopes(16).tolist() == pytest.approx([2 ** (-h / 2) for h in range(1, 17)])


def test_bias_is_symmetric_and_falls_with_distance() -> None:
    bias = alibi_bias(alibi_slopes(4), 6)
    assert torch.equal(bias, bias.transpose(1, 2))
    wanted = [[-abs(i - j) / 4 for j in range(6)] for i in range(6)]
    assert bias[0].tolist() == wanted  # the first of four heads has slope 2^-2
    assert torch.equal(bias.flip(1, 2), bias)


@pytest.mark.parametrize("n_exempt", [1, 2])
def test_exempt_tokens_have_no_bias_and_shift_no_other(n_exempt: int) -> None:
    slopes = alibi_slopes(4)
    bias = alibi_bias(slopes, 6 + n_exempt, n_exempt)
    assert not bias[:, :n_exempt].any()
    assert not bias[:, :, :n_exempt].any()
    assert torch.equal(bias[:, n_exempt:, n_exempt:], alibi_bias(slopes, 6))


def test_heads_are_slices_of_the_width() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(12, 3)
    x, bias = torch.randn(2, 5, 12), Bias(alibi_slopes(3))
    q, k, v = (y.reshape(2, 5, 3, 4).transpose(1, 2) for y in layer.qkv(x).chunk(3, dim=-1))
    mixed = plain(q, k, v, alibi_bias(alibi_slopes(3), 5)).float().transpose(1, 2).reshape(2, 5, 12)
    torch.testing.assert_close(layer(x, bias), layer.out(mixed), rtol=1e-5, atol=1e-6)


def test_with_qk_norm_the_size_of_queries_and_keys_has_no_part() -> None:
    torch.manual_seed(0)
    layer, other = SelfAttention(12, 3, qk_norm=True), SelfAttention(12, 3)
    other.load_state_dict(layer.state_dict(), strict=False)
    x, bias = torch.randn(2, 5, 12), Bias(alibi_slopes(3))
    before, without = layer(x, bias), other(x, bias)
    for each in (layer, other):
        with torch.no_grad():
            each.qkv.weight[:24] *= 7
            each.qkv.bias[:24] *= 7
    torch.testing.assert_close(layer(x, bias), before, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(other(x, bias), without, atol=1e-2)


def test_qk_norm_is_of_each_head_and_before_the_rotation() -> None:
    torch.manual_seed(0)
    layer, rotation = SelfAttention(12, 3, qk_norm=True), rotation_of(5, 4)
    assert layer.query_norm is not None and layer.key_norm is not None
    torch.nn.init.normal_(layer.query_norm.weight)
    torch.nn.init.normal_(layer.key_norm.weight)
    x = torch.randn(2, 5, 12)
    q, k, v = (y.reshape(2, 5, 3, 4).transpose(1, 2) for y in layer.qkv(x).chunk(3, dim=-1))
    turn = torch.complex(*rotation)
    normed = []
    for y, weight in ((q, layer.query_norm.weight), (k, layer.key_norm.weight)):
        y = weight * y / y.square().mean(-1, keepdim=True).sqrt()
        turned = torch.complex(y[..., :2], y[..., 2:]) * turn
        normed.append(torch.cat([turned.real, turned.imag], dim=-1))
    mixed = plain(*normed, v, torch.zeros(1)).float().transpose(1, 2).reshape(2, 5, 12)
    torch.testing.assert_close(layer(x, Bias(), rotation), layer.out(mixed), rtol=1e-4, atol=1e-5)


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="width 10 is not a multiple of 3 heads"):
        SelfAttention(10, 3)
