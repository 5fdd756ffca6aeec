"""Prepared data with features that a voice made: what its vocoder hears in use."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from voiceflow.config import SampleConfig, UserError
from voiceflow.data.inspect import read_rows, shard_files
from voiceflow.data.masking import generator_for
from voiceflow.data.shards import PreparedUtterance, open_prepared, write_index, write_shard
from voiceflow.files import read_json, write_json
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import Near, sample
from voiceflow.model_folder import ModelFolder
from voiceflow.text.phones import PhoneTable

STRETCH_SECONDS = 1.0
_KEPT_FILES = ("features.json", "phones.json", "split.json", "manifest.jsonl")


def every_other_stretch(durations: Sequence[int], length: int, first: bool) -> Tensor:
    """(T,) True in every other stretch of whole phones, each `length` frames or a little more.

    first: whether the first is True.
    """
    mask: list[bool] = []
    begun, inside = 0, first
    for frames in durations:
        if len(mask) - begun >= length:
            begun, inside = len(mask), not inside
        mask += [inside] * frames
    return torch.tensor(mask, dtype=torch.bool)


def regenerated(
    network: nn.Module, phones: PhoneTable, row: PreparedUtterance, mel: Tensor,
    settings: SampleConfig, t: float, length: int,
) -> Tensor:  # fmt: skip
    """mel (T, M), normalised, with every other stretch filled by a velocity network.

    Its phones, durations and context are the recording's. It begins at the recording as it is at
    time t of the path: so pitch and timing stay, and the sound still goes with the features.
    """
    generator = generator_for("regenerate", row.utterance.id)
    first = bool(torch.rand((), generator=generator) < 0.5)
    mask = every_other_stretch(row.alignment.durations, length, first)
    edges = torch.diff(mask.int(), prepend=torch.zeros(1), append=torch.zeros(1)).nonzero()
    gaps = tuple((a, b) for a, b in list(pairwise(edges.flatten().tolist()))[::2])
    if not gaps:
        return mel
    context = mel.masked_fill(mask.unsqueeze(1), 0.0)
    plan = Plan(row.alignment.phones, row.alignment.durations, context, mask, gaps)
    seed = int(torch.randint(2**31, (), generator=generator))
    return sample(network, plan, phones, settings, seed, near=Near(mel, t)).mel[0]


def regenerate(
    source: Path, voice: ModelFolder, out: Path, *, t: float = 0.5, steps: int = 4,
    every: int = 1, device: torch.device | str = "cpu",
) -> int:  # fmt: skip
    """Copy prepared data, half of whose frames a voice makes anew; returns the utterances.

    t: where on the path it begins (`regenerated`); steps: of the voice's solver, from there on;
    every: 2 for every second utterance of a shard, and so on; device: of the network. Shards that
    are there already are kept, so a run that was stopped goes on. Raises UserError for data of
    another front end or other phones than the voice's, and for a folder with data regenerated
    otherwise.
    """
    prepared = open_prepared(source)
    spec = voice.features
    same = prepared.features.with_statistics(spec.mean, spec.std)
    spec.require(same, str(voice.path), str(source))
    if prepared.phones != voice.phones:
        raise UserError(f"{source} has another phone table than {voice.path}")
    settings = replace(voice.config.sample, steps=steps)
    request = {
        "regenerated_from": prepared.info.get("fingerprint", ""),
        "voice": _digest(voice.path / "velocity.safetensors"), "t": t, "every": every,
        "settings": asdict(settings),
    }  # fmt: skip
    if (out / "request.json").is_file() and read_json(out / "request.json") != request:
        raise UserError(f"{out} holds data regenerated otherwise: choose another --out")
    write_json(out / "request.json", request)
    network = voice.load("velocity").to(device)
    length = round(STRETCH_SECONDS / spec.hop_seconds)
    count = frames = 0
    for path in _shown(shard_files(source)):
        target = out / "shards" / path.name
        if not target.is_file():
            rows = []
            for row in islice(read_rows(path, spec.n_mels), 0, None, every):
                mel = spec.normalise(torch.from_numpy(row.mel.astype(np.float32)))
                made = regenerated(network, voice.phones, row, mel, settings, t, length)
                half = spec.denormalise(made).numpy().astype(np.float16)
                rows.append(replace(row, mel=half))
            write_shard(target, rows)
        for row in read_rows(target, spec.n_mels):
            count, frames = count + 1, frames + len(row.mel)
    for name in _KEPT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    write_index(out)
    write_json(out / "info.json", {
        **prepared.info, **request, "utterances": count, "frames": frames,
        "hours": frames * spec.hop_seconds / 3600,
        "fingerprint": f"{prepared.info.get('fingerprint', '')}+{request['voice']}",
    })  # fmt: skip
    return count


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _shown(paths: Sequence[Path]) -> Iterator[Path]:
    from rich.progress import track

    yield from track(paths, "shards")
