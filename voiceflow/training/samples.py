"""What the ear and the eye can judge of a run: a filled gap and a spoken sentence of a voice, a
recording made anew by a vocoder, now and then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import Recording, write
from voiceflow.config import SampleConfig
from voiceflow.data.shards import Framed, Prepared
from voiceflow.data.waves import Waves
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import sample
from voiceflow.models.adversary import VocoderGame
from voiceflow.models.phases import PhaseLosses
from voiceflow.nn.spectral import SpectralDistance
from voiceflow.pictures.spectrogram import Panel, infill_picture
from voiceflow.text.phones import PhoneTable
from voiceflow.vocoders.choice import vocoder_of
from voiceflow.vocoders.griffin_lim import GriffinLim

SHOWN = ("velocity", "vocoder")  # the tasks that have samples
MOST_FRAMES = 600
SEED = 0


@dataclass(frozen=True)
class Shown:
    """A sample: its files, its sound, wave (n,) float32 at `sample_rate`, and figures by name."""

    name: str
    wave: np.ndarray
    sample_rate: int
    sound: Path
    picture: Path
    figures: dict[str, float] = field(default_factory=dict)


def samples(
    network: nn.Module, row: Framed, prepared: Prepared, settings: SampleConfig, folder: Path,
    update: int,
) -> Iterator[Shown]:  # fmt: skip
    """What a network in training makes of a held-out utterance, as files in `folder`."""
    if isinstance(network, PhaseLosses | VocoderGame):
        waves = Waves.of(Path(prepared.address), prepared.features.sample_rate)
        yield vocode_sample(network.vocoder, row, prepared.features, waves, folder, update)
    else:
        yield from draw_samples(
            network, row, prepared.features, prepared.phones, settings, folder, update
        )


def plans(row: Framed, features: FeatureSpec, phones: PhoneTable) -> dict[str, tuple[Plan, Tensor]]:
    """A held-out utterance's plans, each with its own log-mel (T, M): the middle third as a gap,
    and all of it, with the durations that it has; at most MOST_FRAMES of it."""
    edges = np.cumsum(row.durations)
    n_phones = max(1, int(np.searchsorted(edges, MOST_FRAMES, side="right")))
    durations = row.durations[:n_phones].clip(max=MOST_FRAMES)
    n_frames = int(durations.sum())
    mel = torch.from_numpy(row.mel[:n_frames].astype(np.float32))
    symbols = tuple(phones.symbols[p] for p in row.phones[:n_phones])
    borders = [0, *np.cumsum(durations).tolist()]
    inner = [min(borders, key=lambda b: abs(b - share * n_frames)) for share in (1 / 3, 2 / 3)]
    made = {}
    for name, (first, last) in {"gap": (inner[0], inner[1]), "sentence": (0, n_frames)}.items():
        mask = torch.zeros(n_frames, dtype=torch.bool)
        mask[first:last] = True
        context = features.normalise(mel).masked_fill(mask.unsqueeze(1), 0.0)
        plan = Plan(symbols, tuple(int(d) for d in durations), context, mask, ((first, last),))
        made[name] = (plan, mel)
    return made


def draw_samples(
    network: nn.Module,
    row: Framed,
    features: FeatureSpec,
    phones: PhoneTable,
    settings: SampleConfig,
    folder: Path,
    update: int,
) -> Iterator[Shown]:
    """Sample a velocity network (on the CPU) and write sound and picture of each plan.

    The seed is the same for ever, so that what one hears is the training's doing.
    """
    vocoder = GriffinLim(features)
    hop = features.hop_seconds
    for name, (plan, mel) in plans(row, features, phones).items():
        drawn = sample(network, plan, phones, settings, SEED).mel[0]
        made = torch.where(plan.mask.unsqueeze(1), features.denormalise(drawn), mel)
        wave = vocoder(made).numpy()
        sound = folder / f"{update:08d}-{name}.wav"
        folder.mkdir(parents=True, exist_ok=True)
        write(sound, Recording.from_mono(wave, features.sample_rate))
        edges = np.concatenate([[0], np.cumsum(plan.durations)]) * hop
        timed = list(zip(plan.phones, edges[:-1].tolist(), edges[1:].tolist(), strict=True))
        spans = [(a * hop, b * hop) for a, b in plan.gaps]
        picture = sound.with_suffix(".png")
        infill_picture(
            picture,
            [
                Panel("original", mel.numpy(), timed, spans),
                Panel("generated", made.numpy(), timed, spans),
            ],
            features,
            f"{row.id}, update {update}: {name}",
        )
        yield Shown(name, wave, features.sample_rate, sound, picture)


def vocode_sample(
    network: nn.Module, row: Framed, features: FeatureSpec, waves: Waves, folder: Path, update: int
) -> Shown:
    """A held-out recording made anew from its features: sound, picture, and how near it comes.

    figures: the multi-resolution STFT distance and, where the package pesq is installed and the
    rate allows, PESQ.
    """
    mel = torch.from_numpy(row.mel[:MOST_FRAMES].astype(np.float32))
    original = waves.crop(row.id, 0, (len(mel) - 1) * features.hop)
    made = vocoder_of(network, features)(mel)
    name = "resynthesis"
    sound = folder / f"{update:08d}-{name}.wav"
    folder.mkdir(parents=True, exist_ok=True)
    write(sound, Recording.from_mono(made.numpy(), features.sample_rate))
    found = LogMel(features)(made)
    picture = sound.with_suffix(".png")
    infill_picture(
        picture,
        [Panel("original", mel.numpy()), Panel("made anew", found.numpy())],
        features,
        f"{row.id}, update {update}",
    )
    with torch.no_grad():
        apart = SpectralDistance()(made[None], torch.from_numpy(original)[None])
    figures = {"stft_distance": float(apart)}
    with suppress(ImportError):
        from pesq import PesqError, pesq

        if features.sample_rate == 16000:
            with suppress(PesqError):  # nothing is said in it
                figures["pesq"] = float(pesq(16000, original, made.numpy(), "wb"))
    return Shown(name, made.numpy(), features.sample_rate, sound, picture, figures)
