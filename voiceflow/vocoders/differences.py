"""Our vocoder of phase differences as a voice uses it: log-mel in, waveform out, however long."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from voiceflow.audio.features import FeatureSpec
from voiceflow.models.phases import PhaseDifferences, own_turn
from voiceflow.vocoders.consistency import Consistency
from voiceflow.vocoders.neural import CHUNK_FRAMES
from voiceflow.vocoders.summation import Complex, Real, sum_up

_LOUDEST = 30.0  # log-mel; no recording comes near it


class DifferenceVocoder:
    """A trained network behind the same call as Griffin-Lim's. Deterministic.

    The network tells magnitudes and phase differences; these are summed up to phases, and a few
    iterations make a sound's spectrum of them. Long spectrograms are made in chunks whose
    surroundings are heard, so memory does not grow with the length.
    """

    def __init__(
        self, network: PhaseDifferences, spec: FeatureSpec, *, iterations: int | None = None,
        chunk: int = CHUNK_FRAMES,
    ) -> None:  # fmt: skip
        """iterations: of consistency; the network's own number if not given."""
        self.network, self.spec, self.chunk = network.eval(), spec, chunk
        self.iterations = network.iterations if iterations is None else iterations
        self._consistency = Consistency(spec)
        self._turn = own_turn(spec).numpy()

    @torch.no_grad()
    def __call__(self, log_mel: Tensor) -> Tensor:
        """log_mel: (T, M) natural-log mel, not normalised; returns ((T - 1) * hop,) float32.

        Raises ValueError for another shape, no frames, or values that are not finite.
        """
        s = self.spec
        s.require_log_mel(log_mel)
        if not bool((log_mel < _LOUDEST).all() and log_mel.isfinite().all()):
            raise ValueError("the log-mel holds values that are NaN, infinite or too large")
        if len(log_mel) == 1:
            return torch.zeros(0)
        wave = torch.cat(list(self._made(log_mel.detach().to("cpu", torch.float32))))
        return wave.clamp(-1, 1)

    def _made(self, log_mel: Tensor) -> Iterator[Tensor]:
        """The sound, piece by piece, in order."""
        hop, n_frames = self.spec.hop, len(log_mel)
        margin = (self.iterations + 1) * self._consistency.reach
        bands = log_mel.exp() ** (1 / self.spec.power)
        magnitude, phase, kept, done = torch.zeros(0), torch.zeros(0), 0, 0
        for first, told_magnitude, told_phase in self._told(log_mel):
            if first == 0:
                magnitude, phase = told_magnitude, told_phase
            else:
                magnitude = torch.cat([magnitude, told_magnitude])
                phase = torch.cat([phase, told_phase])
            told = kept + len(magnitude)
            last = n_frames - 1 if told == n_frames else told - 1 - margin
            if last <= done:
                continue
            begin, end = max(done - margin, 0), min(last + margin + 1, n_frames)
            piece = slice(begin - kept, end - kept)
            wave = self._consistency(
                magnitude[piece], phase[piece], bands[begin:end], self.iterations
            )
            yield wave[(done - begin) * hop : (last - begin) * hop]
            done = last
            gone = max(done - margin, 0) - kept
            magnitude, phase, kept = magnitude[gone:], phase[gone:], kept + gone

    def _told(self, log_mel: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Chunk by chunk: its first frame, magnitudes (t, F) and phases (t, F) unit numbers."""
        mel = self.spec.normalise(log_mel).to(next(self.network.parameters()).device)
        reach, before = self.network.reach, None
        for first in range(0, len(mel), self.chunk):
            last = min(first + self.chunk, len(mel))
            begin, end = max(first - reach, 0), min(last + reach, len(mel))
            told = self.network(mel[None, begin:end])
            of_chunk = [part[0, first - begin : last - begin].cpu().numpy() for part in told]
            magnitude: Real = of_chunk[0]
            phases: Complex = sum_up(magnitude, of_chunk[1], of_chunk[2], self._turn, before)
            before = magnitude[-1], phases[-1]
            yield first, torch.from_numpy(magnitude), torch.from_numpy(phases)
