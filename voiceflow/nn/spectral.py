"""How far two waves are apart in their spectra, at several resolutions; to be learnt from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RESOLUTIONS = ((256, 64), (512, 128), (1024, 256), (2048, 512))  # n_fft, hop
_FLOOR = 1e-5


class SpectralDistance(nn.Module):
    """Multi-resolution STFT distance (Yamamoto et al. 2020, equations 3 to 6).

    At each resolution |S - S'| / |S| in Frobenius norms (convergence) plus the mean absolute
    difference of natural-log magnitudes, averaged over resolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        for n_fft, _ in RESOLUTIONS:
            self.register_buffer(f"window_{n_fft}", torch.hann_window(n_fft), persistent=False)

    def forward(self, made: Tensor, original: Tensor) -> Tensor:
        """made, original: (B, n) -> (B,)."""
        total = torch.zeros(len(made), device=made.device)
        for n_fft, hop in RESOLUTIONS:
            a, b = (self._magnitude(wave, n_fft, hop) for wave in (made, original))
            away = (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1).clamp(min=1e-3)
            logs = (a.log() - b.log()).abs().flatten(1).mean(1)
            total = total + away + logs
        return total / len(RESOLUTIONS)

    def _magnitude(self, wave: Tensor, n_fft: int, hop: int) -> Tensor:
        window = getattr(self, f"window_{n_fft}")
        spectrum = torch.stft(wave.float(), n_fft, hop, window=window, return_complex=True)
        # The root's gradient at 0 has no end.
        power = spectrum.real.square() + spectrum.imag.square()
        magnitude: Tensor = (power + _FLOOR**2).sqrt()
        return magnitude
