"""The front end: what a mel frame is (FeatureSpec), and how it is computed (LogMel)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from voiceflow.config import UserError, load_group, to_schema

# Of a long wave so many frames are made at once: the spectra of an hour take gigabytes.
_BLOCK_FRAMES = 6000


@dataclass(frozen=True)
class FeatureSpec:
    """A front end, whole: two mel spectrograms may be mixed only if their specs are equal.

    Frames are `hop` samples apart and frame i is centred on sample i * hop. The logarithm is
    natural; `mean` and `std` are those of the log-mel over a training set and normalise it.
    """

    sample_rate: int = 16000
    n_fft: int = 1024
    window: int = 640
    hop: int = 160
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0
    power: float = 1.0
    mel_scale: str = "slaney"
    mel_norm: str | None = "slaney"
    floor: float = 1e-5
    center: bool = True
    pad_mode: str = "reflect"
    mean: float = -5.8843
    std: float = 2.2615

    @property
    def hop_seconds(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop / self.sample_rate

    def n_frames(self, n_samples: int) -> int:
        """Frames of a recording of `n_samples`."""
        padded = n_samples if self.center else n_samples - self.n_fft
        return 1 + padded // self.hop

    def normalise(self, mel: Tensor) -> Tensor:
        """Log-mel to zero mean and unit deviation over the training set; any shape."""
        return (mel - self.mean) / self.std

    def denormalise(self, mel: Tensor) -> Tensor:
        """Inverse of `normalise`."""
        return mel * self.std + self.mean

    def with_statistics(self, mean: float, std: float) -> FeatureSpec:
        """The same front end normalised by another training set."""
        return replace(self, mean=round(mean, 6), std=round(std, 6))

    def require_log_mel(self, log_mel: Tensor) -> None:
        """ValueError unless it is a log-mel of one or more frames (T, M)."""
        if log_mel.ndim != 2 or log_mel.shape[1] != self.n_mels or len(log_mel) == 0:
            found = tuple(log_mel.shape)
            raise ValueError(
                f"a log-mel of one or more frames (T, {self.n_mels}) is needed: {found}"
            )

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that differ when any field does."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require(self, other: FeatureSpec, mine: str, theirs: str) -> None:
        """UserError with the fields that differ unless `other` equals this spec."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        differing = [f"{name} {a} / {b}" for name, a, b in pairs if a != b]
        if differing:
            raise UserError(
                f"{mine} and {theirs} have different feature specifications "
                f"({'; '.join(differing)}): use data and a model prepared alike"
            )

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def load(path: Path) -> FeatureSpec:
        """Read what `save` wrote; UserError when it is not a feature specification."""
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: no readable feature specification ({error})") from error
        return to_schema(FeatureSpec, values, str(path))

    @staticmethod
    def named(name: str) -> FeatureSpec:
        """The specification of conf/features/<name>.yaml."""
        return load_group(FeatureSpec, "features", name)


def filterbank(spec: FeatureSpec) -> Tensor:
    """The mel filters (F, M), float32: mel = magnitudes (T, F) @ filters."""
    from torchaudio.functional import melscale_fbanks

    filters: Tensor = melscale_fbanks(
        spec.n_fft // 2 + 1, spec.f_min, spec.f_max, spec.n_mels, spec.sample_rate, spec.mel_norm,
        spec.mel_scale,
    )  # fmt: skip
    return filters


class LogMel(nn.Module):
    """Waveform to natural-log mel spectrogram by torchaudio's Python transforms."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec

    @cached_property
    def _mel(self) -> nn.Module:
        from torchaudio.transforms import MelSpectrogram

        s = self.spec
        return MelSpectrogram(
            sample_rate=s.sample_rate,
            n_fft=s.n_fft,
            win_length=s.window,
            hop_length=s.hop,
            f_min=s.f_min,
            f_max=s.f_max,
            n_mels=s.n_mels,
            power=s.power,
            center=s.center,
            pad_mode=s.pad_mode,
            mel_scale=s.mel_scale,
            norm=s.mel_norm,
            wkwargs={"dtype": torch.float64},
        ).double()

    def mel(self, wave: Tensor) -> Tensor:
        """wave (n,) or (B, n) in [-1, 1] to mel magnitudes (T, M) or (B, T, M), no logarithm.

        Raises ValueError when the wave is shorter than the padding needs.
        """
        if wave.shape[-1] <= self.spec.n_fft // 2:
            raise ValueError(
                f"{wave.shape[-1]} samples are too few: a spectrogram needs more than "
                f"{self.spec.n_fft // 2} at {self.spec.sample_rate} Hz"
            )
        longest = _BLOCK_FRAMES * self.spec.hop
        if wave.dim() == 1 and wave.shape[0] > 2 * longest:
            return torch.cat(list(self._blocks(wave)))
        return self._mel_of(wave)

    def _mel_of(self, wave: Tensor) -> Tensor:
        # In float32 the strong bands' rounding is up to 6e-4 of the weak ones.
        mel: Tensor = self._mel(wave.double())
        return mel.transpose(-1, -2).to(wave.dtype)

    def _blocks(self, wave: Tensor) -> Iterator[Tensor]:
        """The frames of a long wave (n,) in blocks, each with enough of its neighbours' samples."""
        hop, n_frames = self.spec.hop, self.spec.n_frames(len(wave))
        beside = -(-self.spec.n_fft // hop)  # frames whose windows reach over a block's edge
        for first in range(0, n_frames, _BLOCK_FRAMES):
            last = n_frames if first + 2 * _BLOCK_FRAMES > n_frames else first + _BLOCK_FRAMES
            start = max(first - beside, 0)
            stop = len(wave) if last == n_frames else (last + beside) * hop
            yield self._mel_of(wave[start * hop : stop])[first - start : last - start]
            if last == n_frames:
                return

    def forward(self, wave: Tensor) -> Tensor:
        """wave (n,) or (B, n) in [-1, 1] to log-mel (T, M) or (B, T, M), not normalised."""
        return self.mel(wave).clamp(min=self.spec.floor).log()
