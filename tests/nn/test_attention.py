"""Attention against its formula, and the symmetric position bias."""

import math

import pytest
import torch
from torch import Tensor

from voiceflow.nn.attention import SelfAttention, alibi_bias, alibi_slopes, attend


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The formula in float64."""
    q, k, v, bias = (x.double() for x in (q, k, v, bias))
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1]) + bias
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum("bhij,bhjd->bhid", weights, v)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_attend_is_its_formula(dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 9, 8, generator=generator).to(dtype) for _ in range(3))
    bias = alibi_bias(9, 3).expand(2, 3, 9, 9).clone()
    bias[1, :, :, 6:] = float("-inf")
    found = attend(q, k, v, bias.to(dtype))
    assert found.dtype == dtype
    wanted = plain(q, k, v, bias.to(dtype))
    torch.testing.assert_close(found.double(), wanted, rtol=tolerance, atol=tolerance)


def test_bf16_on_a_cpu_agrees_with_the_librarys_own() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 2, 33, 16, generator=generator).bfloat16() for _ in range(3))
    bias = alibi_bias(33, 2).bfloat16()
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
    torch.testing.assert_close(attend(q, k, v, bias), theirs, rtol=3e-2, atol=3e-2)


def test_slopes_of_eight_and_of_sixteen_heads() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]
    assert alibi_slopes(16).tolist() == pytest.approx([2 ** (-h / 2) for h in range(1, 17)])


def test_bias_is_symmetric_and_falls_with_distance() -> None:
    bias = alibi_bias(6, 4)
    assert torch.equal(bias, bias.transpose(1, 2))
    wanted = [[-abs(i - j) / 4 for j in range(6)] for i in range(6)]
    assert bias[0].tolist() == wanted  # the first of four heads has slope 2^-2
    assert torch.equal(bias.flip(1, 2), bias)


@pytest.mark.parametrize("n_exempt", [1, 2])
def test_exempt_tokens_have_no_bias_and_shift_no_other(n_exempt: int) -> None:
    bias = alibi_bias(6 + n_exempt, 4, n_exempt)
    assert not bias[:, :n_exempt].any()
    assert not bias[:, :, :n_exempt].any()
    assert torch.equal(bias[:, n_exempt:, n_exempt:], alibi_bias(6, 4))


def test_heads_are_slices_of_the_width() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(12, 3)
    x = torch.randn(2, 5, 12)
    q, k, v = (y.reshape(2, 5, 3, 4).transpose(1, 2) for y in layer.qkv(x).chunk(3, dim=-1))
    mixed = plain(q, k, v, alibi_bias(5, 3)).float().transpose(1, 2).reshape(2, 5, 12)
    torch.testing.assert_close(layer(x, alibi_bias(5, 3)), layer.out(mixed), rtol=1e-5, atol=1e-6)


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="width 10 is not a multiple of 3 heads"):
        SelfAttention(10, 3)
