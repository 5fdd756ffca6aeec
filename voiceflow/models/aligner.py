"""A small phone recogniser, whose posteriors the CTC aligner walks through."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voiceflow.config import AlignerConfig
from voiceflow.models.velocity import valid_frames
from voiceflow.nn.convnext import ConvNeXtBlock

BLANK = 0
_STEM_KERNEL = 5
_PRIOR_RATE = 0.01  # how fast the label priors follow the posteriors of a training batch


class PhoneRecogniser(nn.Module):
    """Convolutions from log-mel to log posteriors of phones; class 0 is blank, which is silence.

    `log_prior` (C,) is a running mean of the posteriors over training frames, in logs (Huang et al.
    2024, the label priors).
    """

    def __init__(self, config: AlignerConfig, n_classes: int, n_mels: int) -> None:
        super().__init__()
        self.stride = config.stride
        self.stem = nn.Conv1d(
            n_mels, config.width, _STEM_KERNEL, stride=config.stride, padding=_STEM_KERNEL // 2
        )
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.width, config.hidden, config.kernel) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.output = nn.Linear(config.width, n_classes)
        self.dropout = nn.Dropout(config.dropout)
        self.log_prior: Tensor
        self.register_buffer("log_prior", torch.full((n_classes,), 1 / n_classes).log())

    def frames(self, lengths: Tensor) -> Tensor:
        """How many outputs there are for so many frames: one for each `stride`, begun ones too."""
        return (lengths + self.stride - 1) // self.stride

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """mel (B, T, M) normalised, lengths (B,) frames -> log posteriors (B, T', C), float32.

        T' is `frames(T)`; output j looks at the surroundings of frame j * stride.
        """
        inside = valid_frames(lengths, mel.shape[1])
        if inside is not None:
            mel = mel * inside.unsqueeze(-1)
        x = nn.functional.gelu(self.stem(mel.transpose(1, 2)).transpose(1, 2))
        valid = valid_frames(self.frames(lengths), x.shape[1])
        for block in self.blocks:
            x = self.dropout(block(x, valid))
        log_probs = self.output(self.norm(x)).float().log_softmax(-1)
        if self.training:
            self._follow(log_probs.detach(), valid)
        return log_probs

    def _follow(self, log_probs: Tensor, valid: Tensor | None) -> None:
        probs = log_probs.exp()
        mean = (probs.flatten(0, 1) if valid is None else probs[valid]).mean(0)
        before = self.log_prior.exp()
        mean = torch.where(mean.isfinite().all(), mean, before)  # of an update that is left out
        prior = torch.lerp(before, mean, _PRIOR_RATE)
        self.log_prior.copy_(prior.clamp_min(1e-8).log())
