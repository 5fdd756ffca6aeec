"""The vocoder and its discriminators as one network, which gives both players' losses at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import VocoderConfig
from voiceflow.models.discriminators import Discriminators, Judged
from voiceflow.models.vocoder import Vocoder
from voiceflow.nn.spectral import SpectralDistance

MEL_WEIGHT, SPECTRAL_WEIGHT, MATCHING_WEIGHT = 15.0, 1.0, 2.0
_RESOLUTION_SHARE = 0.1  # of the discriminators of spectrograms, as Vocos weighs them


class VocoderGame(nn.Module):
    """A vocoder, alone or against discriminators (Siuzdak 2023, section 3).

    Both players are trained by one backward pass: in what the vocoder is to lower the
    discriminators' weights are constants, and in what they are to lower the vocoder's sound is. So
    the loop, its one optimizer and its checkpoints are those of every other network.
    """

    def __init__(self, config: VocoderConfig, spec: FeatureSpec) -> None:
        super().__init__()
        self.vocoder = Vocoder(config, spec)
        self.judges = Discriminators(config.discriminators) if config.discriminators else None
        self.spectral = SpectralDistance()
        self.spec = spec
        self.log_mel = LogMel(spec)

    def forward(self, mel: Tensor, wave: Tensor) -> dict[str, Tensor]:
        """mel: (B, T, M) normalised; wave: (B, (T - 1) * hop) what was recorded there -> (B,) each.

        loss: what is to be lowered; log_mel_error, spectral_distance: of log-mels and of spectra.
        """
        made = self.vocoder(mel)
        distance = self.spectral(made, wave)
        apart = (self._features(made) - self._features(wave)).abs().flatten(1).mean(1)
        loss = MEL_WEIGHT * apart + SPECTRAL_WEIGHT * distance
        if self.judges is not None:
            loss = loss + self._game(made, wave.float())
        return {"loss": loss, "log_mel_error": apart.detach(),
                "spectral_distance": distance.detach()}  # fmt: skip

    def _features(self, wave: Tensor) -> Tensor:
        return self.log_mel(wave.float())

    def _game(self, made: Tensor, wave: Tensor) -> Tensor:
        """(B,) hinge losses of both, and the matching of features (Kumar et al. 2019)."""
        assert self.judges is not None
        constant = {k: v.detach() for k, v in self.judges.state_dict(keep_vars=True).items()}
        count = len(self.judges.each)
        judged: list[Judged] = functional_call(self.judges, constant, (made,))
        with torch.no_grad():
            known: list[Judged] = self.judges(wave)
        ours = torch.zeros(len(made), device=made.device)
        for (verdict, layers), (_, originals), one in zip(
            judged, known, self.judges.each, strict=True
        ):
            weight = 1.0 if hasattr(one, "period") else _RESOLUTION_SHARE
            ours = ours + weight * (1 - verdict).clamp(min=0).flatten(1).mean(1)
            pairs = zip(layers, originals, strict=True)
            alike = [(a - b).abs().flatten(1).mean(1) for a, b in pairs]
            ours = ours + weight * MATCHING_WEIGHT * torch.stack(alike).mean(0)
        theirs = torch.zeros_like(ours)
        for (of_made, _), (of_wave, _) in zip(
            self.judges(made.detach()), self.judges(wave), strict=True
        ):
            theirs = theirs + (1 + of_made).clamp(min=0).flatten(1).mean(1)
            theirs = theirs + (1 - of_wave).clamp(min=0).flatten(1).mean(1)
        return (ours + theirs) / count
