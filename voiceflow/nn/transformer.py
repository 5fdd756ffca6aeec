"""The bidirectional Transformer that every network of the project stands on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voiceflow.config import UserNote
from voiceflow.nn.attention import Bias, SelfAttention, alibi_slopes, flex_runs
from voiceflow.nn.embeddings import rotation_of


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
        if self.training and self.dropout > 0:
            hidden = F.dropout(hidden, self.dropout)
        return self.down(hidden)


class Modulation(nn.Module):
    """Shifts, scales and gates from the flow step; zero at the start (adaLN-Zero of DiT).

    Peebles and Xie 2023, section 3.2.
    """

    def __init__(self, width: int, n_vectors: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, n_vectors * width)
        self.n_vectors = n_vectors
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, time: Tensor) -> tuple[Tensor, ...]:
        """time (B, 1, D) -> n_vectors times (B, 1, D)."""
        return self.linear(F.silu(time)).chunk(self.n_vectors, dim=-1)


class Block(nn.Module):
    """Pre-norm attention and feed-forward; with `modulated` the norms' shifts and scales and the
    branches' gates come from the flow step: a fresh block passes on what enters it.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        qk_norm: bool = False,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.attention = SelfAttention(width, heads, qk_norm)
        self.feed_forward_norm = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.feed_forward = FeedForward(width, feed_forward, dropout)
        self.modulation = Modulation(width, 6) if modulated else None

    def forward(
        self, x: Tensor, bias: Bias, rotation: Tensor | None = None, time: Tensor | None = None
    ) -> Tensor:
        """x (B, T, D), rotation (2, T, d / 2) or None, time (B, 1, D) or None -> (B, T, D)."""
        if self.modulation is None:
            x = x + self.attention(self.attention_norm(x), bias, rotation)
            return x + self.feed_forward(self.feed_forward_norm(x))
        shift, scale, gate, ff_shift, ff_scale, ff_gate = self.modulation(time)
        y = shift + (1 + scale) * self.attention_norm(x)
        x = x + gate * self.attention(y, bias, rotation)
        y = ff_shift + (1 + ff_scale) * self.feed_forward_norm(x)
        return x + ff_gate * self.feed_forward(y)


@cache
def compiled_block(device_type: str) -> Callable[..., Tensor] | None:
    """`Block.forward` by torch.compile, one for all blocks and lengths; tried out once.

    None where no compiler is at hand, and a note says so.
    """
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device_type))
    except Exception as error:  # no g++, no Triton, no folder to write to: each has its own
        warnings.warn(
            f"torch.compile does not run here ({' '.join(str(error).split())[:200]}): the network "
            "runs uncompiled; on a CPU it needs g++",
            UserNote,
            stacklevel=2,
        )
        return None
    return torch.compile(Block.forward, dynamic=True)


@dataclass(frozen=True)
class Places:
    """Where tokens stand, for every layer alike: all that depends on no token's content.

    bias: of the scores; rotation: (2, T, d / 2) of queries and keys, or None.
    """

    bias: Bias
    rotation: Tensor | None = None


class Transformer(nn.Module):
    """Blocks with UNet skips: what enters block i also enters block L-1-i (Le et al. 2023, 4).

    The two are concatenated and brought back to the width by a linear layer. An odd number of
    layers leaves the middle one without a skip.

    Position is a bias of the scores (ALiBi, Press et al. 2022) or, with `rotary`, a rotation of
    queries and keys (RoFormer, Su et al. 2021). `modulated` blocks are told the flow step (DiT,
    Peebles and Xie 2023). `checkpoint_activations` keeps only what enters a block and computes
    the rest again in the backward pass, in training.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        feed_forward: int,
        dropout: float,
        *,
        rotary: bool = False,
        modulated: bool = False,
        qk_norm: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads
        if rotary and self.head_width % 2:
            raise ValueError(f"rotary positions need heads of even width, found {self.head_width}")
        self.rotary = rotary
        self.modulated = modulated
        self.checkpoint_activations = checkpoint_activations
        self.blocks = nn.ModuleList(
            Block(width, heads, feed_forward, dropout, qk_norm, modulated) for _ in range(layers)
        )
        self.skips = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(layers // 2))
        self.norm = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.modulation = Modulation(width, 2) if modulated else None

    def forward(
        self,
        x: Tensor,
        valid: Tensor | None,
        n_exempt: int = 0,
        time: Tensor | None = None,
        *,
        places: Places | None = None,
        compiled: bool = False,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D).

        valid (B, T) is False at padding, None when nothing is padded. The first `n_exempt`
        tokens carry no position. time: (B, 1, D), for modulated blocks. places: what `places`
        made of the two, for any x of the same shape. compiled: the blocks by torch.compile, where
        it runs; this module stays as it is.
        """
        places = places or self.places(x, valid, n_exempt)
        bias, rotation = places.bias, places.rotation
        call = (compiled_block(x.device.type) if compiled else None) or Block.__call__
        entered: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            mirror = len(self.blocks) - 1 - i
            if i < len(self.skips):
                entered.append(x)
            elif mirror < len(self.skips):
                x = self.skips[mirror](torch.cat([x, entered[mirror]], dim=-1))
            if self.checkpoint_activations and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, bias, rotation, time, use_reentrant=False)
            else:
                x = call(block, x, bias, rotation, time)
        if self.modulation is None:
            return self.norm(x)
        shift, scale = self.modulation(time)
        return shift + (1 + scale) * self.norm(x)

    def places(self, x: Tensor, valid: Tensor | None, n_exempt: int = 0) -> Places:
        """Of the tokens of x (B, T, D), whose device, and precision outside autocast, it takes."""
        rotation = None
        if self.rotary:
            rotation = rotation_of(x.shape[1], self.head_width, n_exempt, x.device)
        return Places(self.bias(x, valid, n_exempt), rotation)

    def bias(self, x: Tensor, valid: Tensor | None, n_exempt: int) -> Bias:
        """The bias of every layer, written out here once unless flex_attention is the way.

        Gradients outside training are by the input, and may be differentiated or batched
        (likelihoods): flex_attention can do neither.
        """
        slopes = None if self.rotary else alibi_slopes(self.heads, x.device)
        bias, device, dtype = Bias(slopes, n_exempt, valid), x.device.type, x.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        flex = not self.rotary and flex_runs(device, dtype, self.head_width)
        if flex and (self.training or not torch.is_grad_enabled()):
            return bias
        return bias.written_out(x.shape[1], dtype)
