"""The regression duration network (Le et al. 2023, section 3.1 and appendix A)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voiceflow.config import DurationConfig
from voiceflow.models.velocity import valid_frames
from voiceflow.nn.embeddings import ConvolutionalPosition
from voiceflow.nn.transformer import Transformer


class DurationNetwork(nn.Module):
    """Predicts log(1 + frames) of masked phones from all phones and the context's durations.

    Per phone `[log(1 + d), known ; phone embedding]` -> linear -> width, where d is zero and
    known is zero on masked phones: the flag tells a masked duration from a silence of no frames.
    """

    def __init__(self, config: DurationConfig, n_phones: int) -> None:
        super().__init__()
        self.phone = nn.Embedding(n_phones, config.phone_width)
        self.input = nn.Linear(2 + config.phone_width, config.width)
        self.position = ConvolutionalPosition(
            config.width, config.position_width, config.position_groups, config.position_layers
        )
        self.transformer = Transformer(
            config.width, config.layers, config.heads, config.feed_forward, config.dropout
        )
        self.output = nn.Linear(config.width, 1)

    def forward(self, phones: Tensor, durations: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """log(1 + frames), (B, N) float32.

        phones: (B, N); durations: (B, N) frames, ignored where mask is True; mask: (B, N) True
        where the duration is to be predicted; lengths: (B,) phones of each item.
        """
        valid = valid_frames(lengths, phones.shape[1])
        known = (~mask).float()
        context = torch.stack([torch.log1p(durations.float()) * known, known], dim=-1)
        x = self.input(torch.cat([context, self.phone(phones)], dim=-1))
        x = self.transformer(self.position(x, valid), valid)
        return self.output(x).squeeze(-1).float()
