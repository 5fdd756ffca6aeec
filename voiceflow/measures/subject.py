"""The voice under test as the measures see it, and what a figure was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import metadata
from itertools import chain, groupby, zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from voiceflow import __version__
from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.types import Alignment
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import Recording
from voiceflow.config import SampleConfig
from voiceflow.data.manifest import Utterance
from voiceflow.generation.infill import Layout
from voiceflow.generation.plan import Plan
from voiceflow.generation.spans import Span
from voiceflow.model_folder import ModelFolder

LIBRARIES = ("torch", "pocketsphinx", "jiwer", "whisper-normalizer", "Resemblyzer")
_WEIGHED = ("*.safetensors", "*.json", "*.yaml")
ALIGNER = ("aligner.safetensors", "features.json", "phones.json")
"""The files of a model folder that what its aligner hears depends on."""


class Spoken(Protocol):
    """What a voice said; see `voiceflow.voice.Generated`."""

    @property
    def recording(self) -> Recording:
        """The sound."""


class Subject(Protocol):
    """What the measures ask of a voice; see `voiceflow.voice.Voice`."""

    @property
    def folder(self) -> ModelFolder:
        """Where it came from."""

    @property
    def features(self) -> FeatureSpec:
        """Its front end."""

    @property
    def log_mel(self) -> LogMel:
        """Its front end, at work."""

    @property
    def velocity(self) -> nn.Module:
        """Its velocity network."""

    @property
    def aligner(self) -> PocketsphinxAligner:
        """Its aligner."""

    def settings(
        self, *, steps: int | None, guidance: float | None, solver: str | None
    ) -> SampleConfig:
        """Its preset with what was asked for instead."""

    def align(self, audio: Recording, text: str) -> Alignment:
        """When each word is said."""

    def plan_infill(
        self, recording: Recording, text: str, spans: Sequence[Span]
    ) -> tuple[Layout, Plan]:
        """What is to be generated in spans of a recording, and the recording as it was found."""

    def speak(
        self, text: str, *, seed: int, steps: int | None, guidance: float | None,
        solver: str | None,
    ) -> Spoken:  # fmt: skip
        """Speak a text."""

    def vocode(self, mel: Tensor) -> np.ndarray:
        """Waveform of a log-mel (T, M)."""

    def render(self, recording: Recording, layout: Layout, plan: Plan, mel: Tensor) -> Recording:
        """The recording with the gaps of a log-mel (T, M) put in."""


def recipe(voice: Subject, settings: SampleConfig, seed: int) -> dict[str, Any]:
    """What figures depend on: the voice, how it was asked, and the versions of what measured."""
    return {
        "voiceflow": __version__,
        "voice": str(voice.folder.path),
        "voice_fingerprint": fingerprint(voice.folder.path),
        "features_fingerprint": voice.features.fingerprint(),
        "settings": asdict(settings),
        "seed": seed,
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def fingerprint(folder: Path, *parts: str) -> str:
    """Sixteen hexadecimal digits of a model folder's weights, tables and configuration.

    parts: names or patterns of the files that count, if not all of these.
    """
    digest = hashlib.sha256()
    for path in sorted(chain.from_iterable(folder.glob(part) for part in parts or _WEIGHED)):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def spread_over_speakers(
    utterances: Iterable[Utterance], per_speaker: int | None = None
) -> list[Utterance]:
    """The first utterance of each speaker, then the second of each, and so on, by their ids.

    per_speaker: how many of each at most.
    """

    def by_speaker(utterance: Utterance) -> tuple[str, str]:
        return utterance.speaker, utterance.id

    ordered = sorted(utterances, key=by_speaker)
    groups = [list(g)[:per_speaker] for _, g in groupby(ordered, key=lambda u: u.speaker)]
    return [u for rank in zip_longest(*groups) for u in rank if u is not None]
