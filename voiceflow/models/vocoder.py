"""Log-mel to waveform by a network: ConvNeXt blocks and an inverse Fourier transform (Vocos)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError, VocoderConfig
from voiceflow.nn.convnext import ConvNeXtBlock

_MOST_LOG_MAGNITUDE = 5.0  # e^5 = 148 at the most, as loud as a full-scale sine's bin of 640


class Backbone(nn.Module):
    """What every vocoder has: ConvNeXt blocks over a log-mel, at its frame rate."""

    def __init__(self, config: VocoderConfig, spec: FeatureSpec) -> None:
        super().__init__()
        if not spec.center:
            raise UserError("the vocoder needs centred features: frame i at sample i * hop")
        self.stem = nn.Conv1d(spec.n_mels, config.width, config.kernel, padding=config.kernel // 2)
        self.first_norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(config.width, config.hidden, config.kernel) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        # Frames on either side that a frame depends on.
        self.reach = (config.layers + 1) * (config.kernel // 2)

    @torch.no_grad()
    def renormalise(self, old: FeatureSpec, new: FeatureSpec) -> None:
        """Hear log-mels normalised by `new` as those by `old` were heard, but for its edges."""
        shift = self.stem.weight.sum(dim=(1, 2)) * (new.mean - old.mean) / old.std
        assert self.stem.bias is not None
        self.stem.bias += shift
        self.stem.weight *= new.std / old.std

    def heard(self, mel: Tensor) -> Tensor:
        """mel (B, T, M) normalised log-mel -> (B, T, D)."""
        x = self.stem(mel.transpose(1, 2)).transpose(1, 2)
        x = self.first_norm(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x


class Vocoder(Backbone):
    """Siuzdak 2023: every layer at the frame rate, the head tells magnitudes and phases.

    The spectrum's transform has the spec's hop and `config.n_fft`; frame i is centred on sample
    i * hop, as the features are. Raises UserError for a spec that is not centred, or a transform
    that its hop does not divide or overlap enough.
    """

    def __init__(self, config: VocoderConfig, spec: FeatureSpec) -> None:
        super().__init__(config, spec)
        if config.n_fft % spec.hop or config.n_fft < 4 * spec.hop:
            raise UserError(
                f"vocoder.n_fft must be a multiple of the hop ({spec.hop}), 4 times or more, found "
                f"{config.n_fft}"
            )
        self.n_fft, self.hop = config.n_fft, spec.hop
        self.head = nn.Linear(config.width, config.n_fft + 2)
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.reach += config.n_fft // spec.hop // 2 + 1

    def forward(self, mel: Tensor) -> Tensor:
        """mel (B, T, M) normalised log-mel, T >= 2 -> waveform (B, (T - 1) * hop) float32."""
        told = self.head(self.heard(mel)).float().transpose(1, 2)
        log_magnitude, phase = told.chunk(2, dim=1)
        magnitude = log_magnitude.clamp(max=_MOST_LOG_MAGNITUDE).exp()
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        wave: Tensor = torch.istft(
            spectrum, self.n_fft, self.hop, window=self.window, center=True,
            length=(mel.shape[1] - 1) * self.hop,
        )  # fmt: skip
        return wave
