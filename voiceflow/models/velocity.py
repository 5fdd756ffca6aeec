"""The velocity network of Voicebox (Le et al. 2023, sections 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voiceflow.config import VelocityConfig
from voiceflow.nn.embeddings import ConvolutionalPosition, TimeToken
from voiceflow.nn.transformer import Places, Transformer


def valid_frames(lengths: Tensor, n_frames: int) -> Tensor | None:
    """(B, T) True on an item's own frames; None when nothing is seen to be padded.

    Lengths on a GPU or inside a compiled network are not looked at, since the program would wait
    for them or be cut in two: a mask that masks nothing is right as well.
    """
    at_hand = lengths.device.type == "cpu" and not torch.compiler.is_compiling()
    if at_hand and bool((lengths == n_frames).all()):
        return None
    return torch.arange(n_frames, device=lengths.device)[None, :] < lengths[:, None]


@dataclass(frozen=True)
class Prepared:
    """What the network makes of context and phones, whatever x_t and t are.

    told: (B, T, D) their share of what enters it; valid: (B, T) False at padding, or None; places:
    of the Transformer's tokens; compiled: whether its blocks are.
    """

    told: Tensor
    valid: Tensor | None
    places: Places
    compiled: bool = False


class VelocityNetwork(nn.Module):
    """Predicts v_t(x_t | context, phones).

    Per frame `[x_t ; context ; phone embedding]` -> linear -> width; the flow step is one more
    token, without position; its output is dropped. Or it modulates the blocks (`time: adaln`;
    DiT, Peebles and Xie 2023). Phone 0 stands for a dropped condition.
    """

    def __init__(self, config: VelocityConfig, n_phones: int, n_mels: int) -> None:
        super().__init__()
        self.n_mels = n_mels
        self.phone = nn.Embedding(n_phones, config.phone_width)
        self.input = nn.Linear(2 * n_mels + config.phone_width, config.width)
        self.position = ConvolutionalPosition(
            config.width, config.position_width, config.position_groups, config.position_layers
        )
        self.time = TimeToken(config.width)
        self.transformer = Transformer(
            config.width,
            config.layers,
            config.heads,
            config.feed_forward,
            config.dropout,
            rotary=config.position == "rotary",
            modulated=config.time == "adaln",
            qk_norm=config.qk_norm,
            checkpoint_activations=config.checkpoint_activations,
        )
        self.output = nn.Linear(config.width, n_mels)
        nn.init.normal_(self.phone.weight, std=0.5)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, xt: Tensor, context: Tensor, phones: Tensor, t: Tensor, lengths: Tensor
    ) -> Tensor:
        """Velocity vt (B, T, M) in float32.

        xt: (B, T, M) noisy normalised log-mel; context: (B, T, M) normalised log-mel, zero where
        it is to be generated; phones: (B, T) phone of each frame; t: (B,) flow step in [0, 1];
        lengths: (B,) frames of each item, the rest is padding and changes nothing.
        """
        x = self.input(torch.cat([xt, context, self.phone(phones)], dim=-1))
        return self._through(x, t, self._valid(lengths, x))

    def prepare(
        self,
        context: Tensor,
        phones: Tensor,
        lengths: Tensor,
        *,
        compiled: bool = False,
        places: Places | None = None,
    ) -> Prepared:
        """What `velocity` is given in the place of context, phones and lengths (as in `forward`).

        It holds for the weights, the device and the autocast under which it was made. compiled:
        the blocks by torch.compile, where it runs. places: those of other items, as long as these
        and like them without padding, not to be held twice.
        """
        weight = self.input.weight[:, self.n_mels :]
        told = F.linear(torch.cat([context, self.phone(phones)], -1), weight, self.input.bias)
        valid = self._valid(lengths, told)
        places = places or self.transformer.places(*self._tokens(told, valid, told[:, :1]))
        return Prepared(told, valid, places, compiled)

    def velocity(self, xt: Tensor, t: Tensor, prepared: Prepared) -> Tensor:
        """`forward` at xt (B, T, M) and t (B,) for what was prepared, but for rounding."""
        x = prepared.told + F.linear(xt, self.input.weight[:, : self.n_mels])
        return self._through(x, t, prepared.valid, prepared)

    def _through(
        self, x: Tensor, t: Tensor, valid: Tensor | None, prepared: Prepared | None = None
    ) -> Tensor:
        """From the projected input x (B, T, D) to the velocity."""
        x = self.position(x, valid)
        time = self.time(t).to(x.dtype)
        tokens, of_tokens, n_exempt = self._tokens(x, valid, time)
        out = self.transformer(
            tokens,
            of_tokens,
            n_exempt,
            time if self.transformer.modulated else None,
            places=None if prepared is None else prepared.places,
            compiled=prepared is not None and prepared.compiled,
        )
        return self.output(out[:, n_exempt:]).float()

    def _tokens(
        self, x: Tensor, valid: Tensor | None, time: Tensor
    ) -> tuple[Tensor, Tensor | None, int]:
        """x (B, T, D) and valid with the flow step before them, where it is a token: one."""
        if self.transformer.modulated:
            return x, valid, 0
        if valid is not None:
            valid = F.pad(valid, (1, 0), value=True)
        return torch.cat([time, x], dim=1), valid, 1

    @staticmethod
    def _valid(lengths: Tensor, x: Tensor) -> Tensor | None:
        valid = valid_frames(lengths, x.shape[1])
        return None if valid is None else valid.to(x.device)
