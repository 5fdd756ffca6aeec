"""The duration networks: by regression and by flow (Le et al. 2023, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voiceflow.config import DurationConfig
from voiceflow.models.velocity import valid_frames
from voiceflow.nn.embeddings import ConvolutionalPosition, TimeToken
from voiceflow.nn.transformer import Transformer


def normalised_logs(frames: Tensor, config: DurationConfig) -> Tensor:
    """(log(1 + frames) - log_mean) / log_std: what the flow is about; any shape, float32.

    frames: above -1 (dequantised, a duration of none is -0.5 or more).
    """
    return (torch.log1p(frames.float()) - config.log_mean) / config.log_std


def frames_of(logs: Tensor, config: DurationConfig) -> Tensor:
    """The real-valued frames, above -1, whose `normalised_logs` these are."""
    return torch.expm1(config.log_std * logs + config.log_mean)


def _own_phones(phones: Tensor, lengths: Tensor) -> Tensor | None:
    valid = valid_frames(lengths, phones.shape[1])
    return None if valid is None else valid.to(phones.device)  # lengths may be on the CPU


class _PhoneTransformer(nn.Module):
    """What the two networks share: a few numbers and an embedding of each phone in, one out."""

    def __init__(self, config: DurationConfig, n_phones: int, n_numbers: int) -> None:
        super().__init__()
        self.phone = nn.Embedding(n_phones, config.phone_width)
        self.input = nn.Linear(n_numbers + config.phone_width, config.width)
        self.position = ConvolutionalPosition(
            config.width, config.position_width, config.position_groups, config.position_layers
        )
        self.transformer = Transformer(
            config.width, config.layers, config.heads, config.feed_forward, config.dropout
        )
        self.output = nn.Linear(config.width, 1)

    def tokens(self, numbers: list[Tensor], phones: Tensor, valid: Tensor | None) -> Tensor:
        """(B, N, D) of numbers (B, N) each and phones (B, N); valid (B, N) or None."""
        told = torch.cat([torch.stack(numbers, dim=-1), self.phone(phones)], dim=-1)
        positioned: Tensor = self.position(self.input(told), valid)
        return positioned


class DurationNetwork(_PhoneTransformer):
    """Predicts log(1 + frames) of masked phones from all phones and the context's durations.

    Per phone `[log(1 + d), known ; phone embedding]` -> linear -> width, where d is zero and
    known is zero on masked phones: the flag tells a masked duration from a silence of no frames.
    """

    def __init__(self, config: DurationConfig, n_phones: int) -> None:
        super().__init__(config, n_phones, n_numbers=2)

    def forward(self, phones: Tensor, durations: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """log(1 + frames), (B, N) float32.

        phones: (B, N); durations: (B, N) frames, ignored where mask is True; mask: (B, N) True
        where the duration is to be predicted; lengths: (B,) phones of each item.
        """
        valid = _own_phones(phones, lengths)
        known = (~mask).float()
        x = self.tokens([torch.log1p(durations.float()) * known, known], phones, valid)
        x = self.transformer(x, valid)
        return self.output(x).squeeze(-1).float()


class DurationFlowNetwork(_PhoneTransformer):
    """Predicts v_t(x_t | phones, the context's durations), x the `normalised_logs` of durations.

    Per phone `[x_t, x of the context, known ; phone embedding]` -> linear -> width, the latter two
    zero on masked phones. The flow step is one more token, without position; its output is
    dropped. Phone 0 stands for a dropped condition. The constants of the normalisation stand in
    `config`, the network's own.
    """

    def __init__(self, config: DurationConfig, n_phones: int) -> None:
        super().__init__(config, n_phones, n_numbers=3)
        self.config = config
        self.time = TimeToken(config.width)
        nn.init.normal_(self.phone.weight, std=0.5)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        xt: Tensor,
        phones: Tensor,
        durations: Tensor,
        mask: Tensor,
        t: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        """Velocity vt (B, N) in float32.

        xt: (B, N) noisy normalised logarithms; phones: (B, N); durations: (B, N) frames, ignored
        where mask is True; mask: (B, N) True where the duration is to be generated; t: (B,) flow
        step in [0, 1]; lengths: (B,) phones of each item, the rest is padding and changes nothing.
        """
        valid = _own_phones(phones, lengths)
        context = normalised_logs(durations, self.config).masked_fill(mask, 0.0)
        x = self.tokens([xt, context, (~mask).float()], phones, valid)
        x = torch.cat([self.time(t).to(x.dtype), x], dim=1)
        if valid is not None:
            valid = nn.functional.pad(valid, (1, 0), value=True)
        x = self.transformer(x, valid, n_exempt=1)
        return self.output(x[:, 1:]).squeeze(-1).float()
