"""The bidirectional Transformer that every network of the project stands on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voiceflow.nn.attention import SelfAttention, alibi_bias


class FeedForward(nn.Module):
    """Two linear layers with GELU, dropout on the activation."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        hidden = F.gelu(self.up(x))
        return self.down(F.dropout(hidden, self.dropout, self.training and self.dropout > 0))


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, feed_forward, dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, T, D), bias broadcasting to (B, H, T, T) -> (B, T, D)."""
        x = x + self.attention(self.attention_norm(x), bias)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """Blocks with UNet skips: what enters block i also enters block L-1-i (Le et al. 2023, 4).

    The two are concatenated and brought back to the width by a linear layer. An odd number of
    layers leaves the middle one without a skip.
    """

    def __init__(
        self, width: int, layers: int, heads: int, feed_forward: int, dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.blocks = nn.ModuleList(
            Block(width, heads, feed_forward, dropout) for _ in range(layers)
        )
        self.skips = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(layers // 2))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, valid: Tensor | None, n_exempt: int = 0) -> Tensor:
        """x (B, T, D) -> (B, T, D).

        valid (B, T) is False at padding, None when nothing is padded. The first `n_exempt`
        tokens carry no position.
        """
        bias = alibi_bias(x.shape[1], self.heads, n_exempt).to(x.device)
        if valid is not None:
            padding = torch.zeros(valid.shape, device=x.device)
            bias = bias + padding.masked_fill(~valid, float("-inf"))[:, None, None, :]
        if torch.is_autocast_enabled(x.device.type):
            bias = bias.to(torch.get_autocast_dtype(x.device.type))
        entered: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            mirror = len(self.blocks) - 1 - i
            if i < len(self.skips):
                entered.append(x)
            elif mirror < len(self.skips):
                x = self.skips[mirror](torch.cat([x, entered[mirror]], dim=-1))
            x = block(x, bias)
        return self.norm(x)
