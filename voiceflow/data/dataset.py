"""Prepared data as training examples: cropped, normalised, and with everything random drawn.

Each example's draws come from a generator keyed by seed, epoch and utterance, so they do not
depend on the batch, the process or where a run was interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import TaskConfig
from voiceflow.data.masking import crop_phones, draw_mask, generator_for, uniform
from voiceflow.data.shards import Framed, Prepared
from voiceflow.data.waves import Waves

PHONE_NOISE = 8  # numbers a frame: enough for two a phone, however many phones have no frames

# A vocoder hears its examples at other levels than they were recorded at.
GAIN_DECIBELS = (-12.0, 6.0)


@dataclass(frozen=True)
class Example:
    """One (cropped) utterance with its draws.

    mel: (T, M) normalised log-mel, or (T, 0) for a duration network, which hears nothing; phones,
    durations: (N,), durations sum to T; mask: (N,) True on phones to be generated; unconditional:
    whether conditions are dropped; noise: (T, M), (T, 8) for the flow of durations, (T, 0)
    where no flow is trained; t: the flow step. wave: ((T - 1) * hop,) the sound itself, for a
    vocoder, else empty.
    """

    id: str
    mel: Tensor
    phones: Tensor
    durations: Tensor
    mask: Tensor
    unconditional: bool
    noise: Tensor
    t: float
    wave: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def frame_mask(self) -> Tensor:
        """(T,) True on frames to be generated."""
        return self.mask.repeat_interleave(self.durations)

    @property
    def frame_phones(self) -> Tensor:
        """(T,) phone of each frame; all zero when conditions are dropped."""
        phones = self.phones.repeat_interleave(self.durations)
        return torch.zeros_like(phones) if self.unconditional else phones


@dataclass(frozen=True)
class ExampleMaker:
    """Makes examples of rows: the same from memory-mapped data as from a stream.

    aligned: whether the phones stand where they are said; where not, a mask's edges may lie at any
    frame, for those of what is written there mean nothing.
    """

    features: FeatureSpec
    task: TaskConfig
    crop_frames: int
    seed: int
    waves: Waves | None = None  # for a vocoder
    aligned: bool = True

    def __call__(self, epoch: int, row: Framed) -> Example:
        """The example of a row in an epoch."""
        generator = generator_for(self.seed, epoch, row.id)
        if self.waves is not None:
            return self._sounding(row, self.waves, generator)
        if not self.aligned:
            row = row.by_frame()
        crop = crop_phones(row.durations, self.crop_frames, generator)
        start = int(row.durations[: crop.start].sum())
        durations = row.durations[crop].clip(max=self.crop_frames)  # one phone may be longer
        n_frames = int(durations.sum())
        mel = row.mel[start : start + n_frames]
        lengths = torch.from_numpy(durations)
        by_frames = self.task.name == "velocity"
        draw = draw_mask(
            lengths if by_frames else torch.ones_like(lengths), self.task, generator
        )
        return Example(
            id=row.id,
            mel=self._heard(mel),
            phones=torch.tensor(row.phones[crop]),
            durations=lengths,
            mask=draw.mask,
            unconditional=draw.unconditional,
            noise=self._noise(mel.shape, generator),
            t=uniform(generator),
        )

    def _sounding(self, row: Framed, waves: Waves, generator: torch.Generator) -> Example:
        """`crop_frames` frames from anywhere, with their sound, louder or softer than recorded;
        silence where there are fewer."""
        frames, spec = self.crop_frames, self.features
        places = max(len(row.mel) - frames, 0) + 1
        start = int(torch.randint(places, (), generator=generator))
        mel = torch.full((frames, row.mel.shape[1]), math.log(spec.floor))
        found = row.mel[start : start + frames].astype(np.float32)
        low, high = GAIN_DECIBELS
        gain = 10 ** ((low + (high - low) * uniform(generator)) / 20)
        mel[: len(found)] = torch.from_numpy(found) + spec.power * math.log(gain)
        mel = mel.clamp(min=math.log(spec.floor))
        wave = gain * waves.crop(row.id, start * spec.hop, (frames - 1) * spec.hop)
        return Example(
            id=row.id, mel=spec.normalise(mel), phones=torch.zeros(1, dtype=torch.long),
            durations=torch.tensor([frames]), mask=torch.ones(1, dtype=torch.bool),
            unconditional=False, noise=torch.zeros(frames, 0), t=0.0, wave=torch.from_numpy(wave),
        )  # fmt: skip

    def _heard(self, mel: np.ndarray) -> Tensor:
        if self.task.name in ("duration", "duration_flow"):
            return torch.zeros(len(mel), 0)
        return self.features.normalise(torch.from_numpy(mel.astype(np.float32)))

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        frames, bands = shape
        columns = {"velocity": bands, "duration_flow": PHONE_NOISE}.get(self.task.name, 0)
        return torch.randn(frames, columns, generator=generator)


class ExampleDataset(torch.utils.data.Dataset[Example]):
    """Examples of a prepared folder, memory-mapped, indexed by (epoch, row)."""

    def __init__(self, prepared: Prepared, make: ExampleMaker) -> None:
        self.prepared = prepared
        self.make = make

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """The example of row `key[1]` in epoch `key[0]`."""
        epoch, row = key
        return self.make(epoch, self.prepared.framed(row))


def split(prepared: Prepared, n_validation: int) -> tuple[list[int], list[int]]:
    """Rows for training and rows held out, chosen by the hash of their ids.

    Where the data name validation speakers, rows held out are theirs, and training hears none of
    them; else at most a tenth of the rows is held out.
    """
    ids = prepared.index.ids
    order = sorted(range(len(ids)), key=lambda i: generator_for("split", ids[i]).initial_seed())
    if n_validation and (held := prepared.validation_speakers):
        speakers = prepared.index.speakers
        theirs = [i for i in order if speakers[i] in held]
        return sorted(set(order) - set(theirs)), sorted(theirs[:n_validation])
    n_validation = min(n_validation, len(ids) // 10)
    return sorted(order[n_validation:]), sorted(order[:n_validation])
