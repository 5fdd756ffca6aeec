"""Self-attention with a symmetric linear position bias (ALiBi), by the fastest exact way.

A bias is described by a few numbers (`Bias`). Where an attention kernel takes the description,
no T x T tensor is made; elsewhere it is written out, once for all layers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voiceflow.config import UserNote
from voiceflow.nn.embeddings import rotate

_PORTION = 6 << 20  # scores at once when written out, about: what a cache keeps for the next step


def alibi_slopes(n_heads: int, device: torch.device | None = None) -> Tensor:
    """(H,) slopes 2^(-8 h / H), h = 1..H (Press et al. 2022)."""
    return 2.0 ** (-8.0 * torch.arange(1, n_heads + 1, device=device) / n_heads)


def alibi_bias(slopes: Tensor, n_tokens: int, n_exempt: int = 0) -> Tensor:
    """(H, T, T) bias -slope |i - j|; the first `n_exempt` tokens have bias 0 both ways.

    slopes: (H,). Symmetric for bidirectional attention; the flow-step token is exempt (Le et al.
    2023, appendix A).
    """
    position = torch.arange(n_tokens - n_exempt, device=slopes.device)
    distance = (position[:, None] - position[None, :]).abs().float()
    distance = F.pad(distance, (n_exempt, 0, n_exempt, 0))
    return -slopes[:, None, None] * distance


@dataclass(frozen=True)
class Bias:
    """What is added to the scores of every layer."""

    slopes: Tensor | None = None  # (H,) of ALiBi; None: no position in the bias
    n_exempt: int = 0  # first tokens, which have no position
    valid: Tensor | None = None  # (B, T), False at padding; None: nothing is padded
    dense: Tensor | None = None  # all of that written out, broadcasting to (B, H, T, T)

    def written_out(self, n_tokens: int, dtype: torch.dtype) -> Bias:
        """With `dense`: (B or 1, H, T, T), or (B, 1, 1, T) without slopes; None for no bias."""
        if self.dense is not None:
            return self
        dense = None
        if self.slopes is not None:
            dense = alibi_bias(self.slopes, n_tokens, self.n_exempt).to(dtype).unsqueeze(0)
        if self.valid is not None:
            unpadded = self.valid.new_zeros(1, dtype=dtype) if dense is None else dense
            dense = unpadded.masked_fill(~self.valid[:, None, None, :], -math.inf)
        return Bias(self.slopes, self.n_exempt, self.valid, dense)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v by the fastest exact way, (B, H, T, d).

    q, k, v: (B, H, T, d). ALiBi on CUDA: flex_attention, while the bias is not written out.
    bf16 with gradients on CPU: the formula, in portions that stay in the caches. Else SDPA, with
    no mask at all where there is no bias.
    """
    described = bias.dense is None and bias.slopes is not None
    if described and flex_runs(q.device.type, q.dtype, q.shape[-1]):
        return flex_attend(q, k, v, bias)
    dense = bias.written_out(q.shape[2], q.dtype).dense
    dense = None if dense is None else dense.to(q.dtype)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad:
        return _attend_in_portions(q, k, v, q.new_zeros(1) if dense is None else dense)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=dense)


def _attend_in_portions(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The formula for a few items, or a few heads of one item, after the other."""
    n_items, n_heads, n_tokens, _ = q.shape
    given = (q, k, v, bias.expand(n_items, n_heads, n_tokens, n_tokens))
    # A loop whose length hangs on the sizes would be compiled for each anew.
    portions = 1 if torch.compiler.is_compiling() else given[3].numel() // _PORTION
    if portions <= 1:
        return _attend_plainly(*given)
    at_once = math.ceil(n_items * n_heads / portions)
    items, heads = max(1, at_once // n_heads), min(at_once, n_heads)
    rows = []
    for row in zip(*(x.split(items) for x in given), strict=True):
        parts = zip(*(x.split(heads, dim=1) for x in row), strict=True)
        rows.append(torch.cat([_attend_plainly(*part) for part in parts], dim=1))
    return torch.cat(rows)


def _attend_plainly(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    scores = torch.baddbmm(
        bias.flatten(0, 1), q.flatten(0, 1), k.flatten(0, 1).mT, alpha=1 / math.sqrt(q.shape[-1])
    )
    return torch.bmm(scores.softmax(-1), v.flatten(0, 1)).unflatten(0, q.shape[:2])


def flex_attend(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Tensor:
    """`attend` of a bias with slopes by flex_attention: nothing T x T is held on CUDA.

    On CPU the same function uncompiled, for tests: it is slow and has no backward there.
    """
    from torch.nn.attention.flex_attention import flex_attention

    assert bias.slopes is not None
    slopes, n_exempt, padding = bias.slopes, bias.n_exempt, None
    if bias.valid is not None:
        padding = slopes.new_zeros(bias.valid.shape).masked_fill(~bias.valid, -math.inf)

    def with_bias(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        distance = torch.where((i < n_exempt) | (j < n_exempt), 0, (i - j).abs())
        score = score - slopes[h] * distance
        return score if padding is None else score + padding[b, j]

    function: Callable[..., Tensor] = flex_attention
    if q.device.type != "cpu" and not torch.compiler.is_compiling():
        function = _compiled_flex()
    return function(q, k, v, with_bias)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def flex_runs(device_type: str, dtype: torch.dtype, head_width: int) -> bool:
    """Whether flex_attention is the way: on CUDA, where its kernel is made for the heads' width.

    Inside a compiled network it is part of that; else it is compiled, and tried out once.
    """
    kernel = head_width >= 16 and head_width & (head_width - 1) == 0 and dtype != torch.float64
    if device_type != "cuda" or not kernel:
        return False
    return torch.compiler.is_compiling() or _flex_compiles(device_type, dtype, head_width)


@cache
def _flex_compiles(device_type: str, dtype: torch.dtype, head_width: int) -> bool:
    """One small forward and backward pass; a note says why SDPA is used when it fails."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            q = torch.zeros(2, 2, 256, head_width, dtype=dtype, device=device_type)
            valid = torch.ones(2, 256, dtype=torch.bool, device=device_type)
            bias = Bias(alibi_slopes(2, q.device), 1, valid)
            flex_attend(q.requires_grad_(), q, q, bias).sum().backward()
    except Exception as error:  # no Triton, no compiler, an old GPU: each has its own
        warnings.warn(
            f"flex_attention does not run here ({' '.join(str(error).split())[:200]}): attention "
            "goes through SDPA, which holds T x T biases in memory",
            UserNote,
            stacklevel=2,
        )
        return False
    return True


class SelfAttention(nn.Module):
    """Multi-head self-attention over x (B, T, D).

    With `qk_norm` queries and keys are brought to unit root mean square over each head, which
    bounds the scores (Dehghani et al. 2023; RMS norm: Zhang and Sennrich 2019).
    """

    def __init__(self, width: int, heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.query_norm = nn.RMSNorm(width // heads) if qk_norm else None
        self.key_norm = nn.RMSNorm(width // heads) if qk_norm else None

    def forward(self, x: Tensor, bias: Bias, rotation: Tensor | None = None) -> Tensor:
        """x (B, T, D), rotation (2, T, d / 2) of queries and keys, or None -> (B, T, D)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q.float()), self.key_norm(k.float())
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return self.out(attend(q.to(v.dtype), k.to(v.dtype), v, bias).transpose(1, 2).flatten(2))
