"""The recordings behind prepared data, for what is trained on sound itself: the vocoder."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance, read_manifest
from voiceflow.data.recordings import at_speed

KEPT_SAMPLES = 400_000_000  # of decoded recordings, 16 bits each, that stay in memory: 7 hours


@dataclass
class Waves:
    """Recordings of utterances, by id. The last ones read stay in memory."""

    utterances: dict[str, Utterance]
    sample_rate: int
    most: int = KEPT_SAMPLES
    _kept: OrderedDict[str, np.ndarray] = field(default_factory=OrderedDict, repr=False)
    _held: int = 0

    @staticmethod
    def of(folder: Path, sample_rate: int) -> Waves:
        """Those that a prepared folder was made of; UserError where its manifest is missing."""
        manifest = folder / "manifest.jsonl"
        if not manifest.is_file():
            raise UserError(
                f"{folder} has no manifest.jsonl, which says where its recordings are: a vocoder "
                "is trained on those; prepare the corpus on this machine"
            )
        return Waves({u.id: u for u in read_manifest(manifest)}, sample_rate)

    def crop(self, id: str, first: int, count: int) -> np.ndarray:
        """(count,) float32 from sample `first` on, silence where the recording has ended."""
        part = self._wave(id)[first : first + count].astype(np.float32) / 32768
        return np.pad(part, (0, count - len(part)))

    def _wave(self, id: str) -> np.ndarray:
        if id in self._kept:
            self._kept.move_to_end(id)
            return self._kept[id]
        if id not in self.utterances:
            raise UserError(f"{id} is not in the manifest of the prepared data")
        utterance = self.utterances[id]
        wave = load_mono(utterance.audio, self.sample_rate)
        wave = at_speed(wave, utterance.speed)
        kept = np.round(wave.clip(-1, 32767 / 32768) * 32768).astype(np.int16)
        self._kept[id] = kept
        self._held += len(kept)
        while self._held > self.most and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._held -= len(oldest)
        return kept
