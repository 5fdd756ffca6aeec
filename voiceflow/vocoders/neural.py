"""Our vocoder as a voice uses it: log-mel in, waveform out, however long."""

from __future__ import annotations

import torch
from torch import Tensor

from voiceflow.audio.features import FeatureSpec
from voiceflow.models.vocoder import Vocoder

CHUNK_FRAMES = 2000  # made at once: 20 s


class NeuralVocoder:
    """A trained network behind the same call as Griffin-Lim's. Deterministic.

    Long spectrograms are made in chunks whose surroundings the network hears, so memory does not
    grow with the length, and no sample depends on where the chunks lie.
    """

    def __init__(self, network: Vocoder, spec: FeatureSpec, chunk: int = CHUNK_FRAMES) -> None:
        self.network, self.spec, self.chunk = network.eval(), spec, chunk

    @torch.no_grad()
    def __call__(self, log_mel: Tensor) -> Tensor:
        """log_mel: (T, M) natural-log mel, not normalised; returns ((T - 1) * hop,) float32.

        Raises ValueError for another shape, no frames, or values that are not finite.
        """
        s = self.spec
        s.require_log_mel(log_mel)
        if not bool(log_mel.isfinite().all()):
            raise ValueError("the log-mel holds values that are NaN or infinite")
        mel = s.normalise(log_mel.detach().to(torch.float32))
        n_frames, reach = len(mel), self.network.reach
        if n_frames == 1:
            return torch.zeros(0)
        parts = []
        for first in range(0, n_frames - 1, self.chunk):
            last = min(first + self.chunk, n_frames - 1)  # samples of hops first:last
            begin, end = max(first - reach, 0), min(last + reach + 1, n_frames)
            wave = self.network(mel[None, begin:end])[0]
            parts.append(wave[(first - begin) * s.hop : (last - begin) * s.hop])
        return torch.cat(parts).clamp(-1, 1).cpu()
