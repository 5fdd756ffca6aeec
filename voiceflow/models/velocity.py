"""The velocity network of Voicebox (Le et al. 2023, sections 3 and 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voiceflow.config import VelocityConfig
from voiceflow.nn.embeddings import ConvolutionalPosition, TimeToken
from voiceflow.nn.transformer import Transformer


def valid_frames(lengths: Tensor, n_frames: int) -> Tensor | None:
    """(B, T) True on an item's own frames; None when nothing is seen to be padded.

    Lengths on a GPU or inside a compiled network are not looked at, since the program would wait
    for them or be cut in two: a mask that masks nothing is right as well.
    """
    at_hand = lengths.device.type == "cpu" and not torch.compiler.is_compiling()
    if at_hand and bool((lengths == n_frames).all()):
        return None
    return torch.arange(n_frames, device=lengths.device)[None, :] < lengths[:, None]


class VelocityNetwork(nn.Module):
    """Predicts v_t(x_t | context, phones).

    Per frame `[x_t ; context ; phone embedding]` -> linear -> width; the flow step is one more
    token, without position; its output is dropped. Or it modulates the blocks (`time: adaln`;
    DiT, Peebles and Xie 2023). Phone 0 stands for a dropped condition.
    """

    def __init__(self, config: VelocityConfig, n_phones: int, n_mels: int) -> None:
        super().__init__()
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
        valid = valid_frames(lengths, xt.shape[1])
        if valid is not None:
            valid = valid.to(xt.device)
        x = self.input(torch.cat([xt, context, self.phone(phones)], dim=-1))
        x = self.position(x, valid)
        time = self.time(t).to(x.dtype)
        if self.transformer.modulated:
            return self.output(self.transformer(x, valid, time=time)).float()
        x = torch.cat([time, x], dim=1)
        if valid is not None:
            valid = nn.functional.pad(valid, (1, 0), value=True)
        x = self.transformer(x, valid, n_exempt=1)
        return self.output(x[:, 1:]).float()
