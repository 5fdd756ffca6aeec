"""Spectrograms against each other, and the fills that a voice must beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from voiceflow.data.shards import Prepared


def log_mel_error(made: Tensor, original: Tensor) -> float:
    """Mean absolute difference of two natural-log mels (T, M), not normalised.

    Raises ValueError where their shapes differ.
    """
    if made.shape != original.shape:
        raise ValueError(f"expected two log-mels of one shape: {made.shape}, {original.shape}")
    return float((made - original).abs().mean())


def log_mel_variance(mel: Tensor) -> float:
    """Variance over all frames and bands of a log-mel (T, M)."""
    return float(mel.var(correction=0))


def interpolate(before: Tensor, after: Tensor, n_frames: int) -> Tensor:
    """(n_frames, M): the straight way from one frame (M,) to another, neither included."""
    weights = (torch.arange(1, n_frames + 1) / (n_frames + 1))[:, None]
    return torch.lerp(before[None], after[None], weights)


@dataclass(frozen=True)
class TrainingMeans:
    """Mean log-mel (M,), not normalised, of each phone of prepared data and of all its frames.

    data: the fingerprint of the data.
    """

    phones: dict[str, Tensor]
    frame: Tensor
    data: str

    @staticmethod
    def of(prepared: Prepared) -> TrainingMeans:
        """Of all utterances, by the durations that stand in the data."""
        from rich.progress import track

        n_phones, n_mels = len(prepared.phones), prepared.features.n_mels
        sums, counts = np.zeros((n_phones, n_mels)), np.zeros(n_phones)
        for index in track(range(len(prepared.dataset)), "means of the training data"):
            _, ids, durations, mel = prepared.framed(index)
            starts = np.cumsum(durations) - durations
            sounding = np.flatnonzero(durations)
            if len(sounding) == 0:
                continue
            phone = np.asarray(ids)[sounding]
            np.add.at(sums, phone, np.add.reduceat(mel.astype(np.float64), starts[sounding]))
            np.add.at(counts, phone, durations[sounding])
        means = {
            symbol: torch.from_numpy(sums[i] / counts[i]).float()
            for i, symbol in enumerate(prepared.phones.symbols)
            if counts[i]
        }
        frame = torch.from_numpy(sums.sum(axis=0) / counts.sum()).float()
        return TrainingMeans(means, frame, prepared.info["fingerprint"])

    def spread(self, phones: Sequence[str], durations: Sequence[int]) -> Tensor:
        """(T, M): each phone's mean for as many frames as it lasts; unseen phones have `frame`."""
        rows = torch.stack([self.phones.get(phone, self.frame) for phone in phones])
        return rows.repeat_interleave(torch.tensor(durations), dim=0)
