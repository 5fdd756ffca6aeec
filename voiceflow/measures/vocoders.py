"""Copy synthesis: what their own features and a vocoder do to recordings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voiceflow import __version__
from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import load_mono, resample
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.files import write_json
from voiceflow.measures.bootstrap import bootstrap_interval
from voiceflow.measures.heard import PocketsphinxWords
from voiceflow.measures.pitch import Pitch
from voiceflow.measures.quality import Dnsmos, Intrusive
from voiceflow.measures.scorer import Estimate, Metric, Score, Scorer, Sound, estimate
from voiceflow.measures.subject import spread_over_speakers
from voiceflow.nn.spectral import SpectralDistance
from voiceflow.vocoders.choice import Vocodes
from voiceflow.vocoders.differences import DifferenceVocoder
from voiceflow.vocoders.neural import NeuralVocoder

ORIGINAL = "original"
COLUMNS = ("PESQ", "STOI", "STFT distance", "log-mel error", "F0 error (cents)", "voicing error",
           "DNSMOS (overall)", "WER (pocketsphinx)")  # fmt: skip
KINDS = ("quality", "distance", "pitch", "dnsmos", "words")
_TIMED_SECONDS = 30.0  # of speech that the real-time factor is measured on


class Distance:
    """A scorer: the multi-resolution STFT distance from the reference."""

    def __init__(self) -> None:
        self._distance = SpectralDistance()

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The mean over sounds."""
        return {"STFT distance": Metric.mean("stft_distance", "lower")}

    def settings(self) -> dict[str, Any]:
        """None that change."""
        return {"resolutions": "256 to 2048"}

    @torch.no_grad()
    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """None where there is no reference of the same length."""
        found: list[Score] = []
        for sound in sounds:
            other = sound.reference
            if other is None or len(other) != len(sound.wave) or len(other) < 2048:
                found.append({"stft_distance": None})
                continue
            a, b = (torch.from_numpy(wave)[None].float() for wave in (sound.wave, other))
            found.append({"stft_distance": float(self._distance(a, b))})
        return found


_SCORERS: dict[str, Callable[[], Scorer]] = {
    "quality": Intrusive, "distance": Distance, "pitch": Pitch, "dnsmos": Dnsmos,
    "words": PocketsphinxWords,
}  # fmt: skip


@dataclass(frozen=True)
class VocoderRow:
    """One vocoder's figures by name; speed: times real time by number of threads."""

    name: str
    parameters: int
    figures: dict[str, Estimate]
    speed: dict[int, float]

    def __str__(self) -> str:
        cells = []
        for name in COLUMNS:
            found = self.figures.get(name)
            percent = name in ("voicing error", "WER (pocketsphinx)")
            cells.append("-" if found is None else f"{100 * found.value:.1f} %" if percent
                         else f"{found.value:.3f}")  # fmt: skip
        speeds = [f"{value:.0f}" for value in self.speed.values()] or ["-"]
        size = f"{self.parameters / 1e6:.2f} M" if self.parameters else "-"
        return f"| {self.name} | " + " | ".join([*cells, " / ".join(speeds), size]) + " |"


def measure_vocoders(
    spec: FeatureSpec,
    vocoders: Mapping[str, Vocodes],
    utterances: Sequence[Utterance],
    *,
    per_speaker: int = 2,
    threads: Sequence[int] = (1, 2),
    kinds: Sequence[str] = KINDS,
    out: Path | None = None,
) -> list[VocoderRow]:
    """Print, for the originals and each vocoder, quality, words, pitch and speed.

    Under the table stands by how much each vocoder's WER is above the first one's, with an interval
    (paired by utterance, drawn by speaker). per_speaker: the first utterances of each speaker;
    kinds: of KINDS, what is measured. Raises UserError for no utterances, or an unknown kind.
    """
    from rich.progress import track

    chosen = spread_over_speakers(utterances, per_speaker)
    if not chosen:
        raise UserError("no utterances to vocode")
    log_mel = LogMel(spec)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"no measure '{unknown[0]}': there are {', '.join(KINDS)}")
    scorers: list[Scorer] = [_SCORERS[kind]() for kind in KINDS if kind in kinds]
    scores: dict[str, list[Score]] = {name: [] for name in (ORIGINAL, *vocoders)}
    mels: list[Tensor] = []
    for utterance in track(chosen, "utterances"):
        wave = load_mono(utterance.audio, spec.sample_rate)
        mels.append(log_mel(torch.from_numpy(wave)))
        original = resample(wave, spec.sample_rate, SAMPLE_RATE)
        for name in scores:
            made = original
            if name != ORIGINAL:
                made = resample(vocoders[name](mels[-1]).numpy(), spec.sample_rate, SAMPLE_RATE)
                made = np.pad(made, (0, max(len(original) - len(made), 0)))[: len(original)]
            sound = Sound(utterance.id, made, utterance.text, (0, len(made)), reference=original)
            score: Score = {}
            for scorer in scorers:
                score |= scorer.score([sound])[0]
            scores[name].append(score)
    metrics = {n: m for s in scorers for n, m in s.metrics.items() if isinstance(m, Metric)}
    speakers = [u.speaker for u in chosen]
    rows = [
        VocoderRow(
            name, _parameters(vocoders.get(name)),
            {n: e for n, m in metrics.items() if (e := estimate(m, found, speakers)) is not None},
            {} if name == ORIGINAL else {n: _speed(vocoders[name], mels, spec, n) for n in threads},
        )
        for name, found in scores.items()
    ]  # fmt: skip
    print(f"{len(chosen)} utterances of {len(set(speakers))} speakers; speed on "
          f"{' and '.join(map(str, threads))} threads, times real time")  # fmt: skip
    print(f"| vocoder | {' | '.join(COLUMNS)} | speed | parameters |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    print(*rows, sep="\n")
    if "words" in kinds:
        names = list(vocoders)
        for name in names[1:]:
            print(words_apart(scores[names[0]], scores[name], speakers, names[0], name))
    if out is not None:
        write_json(out, {
            "voiceflow": __version__, "features_fingerprint": spec.fingerprint(),
            "utterances": [u.id for u in chosen], "rows": [asdict(row) for row in rows],
            "scores": scores,
        })  # fmt: skip
    return rows


def words_apart(
    ours: Sequence[Score], others: Sequence[Score], speakers: Sequence[str], one: str, other: str
) -> str:
    """One line: the WER of `other` less that of `one`, paired, with its 95 % interval."""
    columns = ("word_errors", "words")
    values = np.array(
        [[float(s[c]) for s in pair for c in columns]  # type: ignore[arg-type]
         for pair in zip(ours, others, strict=True)]
    )  # fmt: skip

    def less(means: np.ndarray) -> np.ndarray:
        found: np.ndarray = means[:, 2] / means[:, 3] - means[:, 0] / means[:, 1]
        return found

    value = float(less(values.mean(0, keepdims=True))[0])
    low, high = bootstrap_interval(values, speakers, less)
    return (f"WER of {other} less that of {one}: {100 * value:+.1f} points "
            f"({100 * low:+.1f} to {100 * high:+.1f})")  # fmt: skip


def _parameters(vocoder: Vocodes | None) -> int:
    if not isinstance(vocoder, NeuralVocoder | DifferenceVocoder):
        return 0
    return sum(p.numel() for p in vocoder.network.parameters())


def _speed(vocoder: Vocodes, mels: Sequence[Tensor], spec: FeatureSpec, threads: int) -> float:
    """Seconds of speech a second, utterance by utterance; the first is not counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        vocoder(mels[0])
        frames, begun = 0, time.perf_counter()
        for mel in mels:
            vocoder(mel)
            frames += len(mel) - 1
            if frames * spec.hop_seconds > _TIMED_SECONDS:
                break
        return frames * spec.hop_seconds / (time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
