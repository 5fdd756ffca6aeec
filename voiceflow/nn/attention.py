"""Self-attention with a symmetric linear position bias (ALiBi)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def alibi_slopes(n_heads: int) -> Tensor:
    """(H,) slopes 2^(-8 h / H), h = 1..H (Press et al. 2022)."""
    return 2.0 ** (-8.0 * torch.arange(1, n_heads + 1) / n_heads)


def alibi_bias(n_tokens: int, n_heads: int, n_exempt: int = 0) -> Tensor:
    """(H, T, T) bias -slope |i - j|; the first `n_exempt` tokens have bias 0 both ways.

    Symmetric for bidirectional attention; the flow-step token is exempt (Le et al. 2023,
    appendix A).
    """
    position = torch.arange(n_tokens - n_exempt)
    distance = (position[:, None] - position[None, :]).abs().float()
    distance = F.pad(distance, (n_exempt, 0, n_exempt, 0))
    return -alibi_slopes(n_heads)[:, None, None] * distance


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v.

    q, k, v: (B, H, T, d); bias broadcasts to (B, H, T, T), -inf where a key is padding.
    Written out in bf16 on CPU, where that is the faster exact way; SDPA elsewhere.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        scores = torch.matmul(q * (1 / math.sqrt(q.shape[-1])), k.transpose(-1, -2))
        return torch.matmul(torch.softmax(scores + bias, dim=-1), v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class SelfAttention(nn.Module):
    """Multi-head self-attention over x (B, T, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, T, D), bias broadcasting to (B, H, T, T) -> (B, T, D)."""
        q, k, v = rearrange(self.qkv(x), "b t (n h d) -> n b h t d", n=3, h=self.heads)
        return self.out(rearrange(attend(q, k, v, bias.to(q.dtype)), "b h t d -> b t (h d)"))
