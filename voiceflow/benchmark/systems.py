"""Systems under test: each makes the sound of a trial; some are there to calibrate the scorers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.effects import rms
from voiceflow.audio.io import Recording, read, resample
from voiceflow.benchmark.protocols import (
    CONTINUATION,
    DIVERSE,
    EDIT,
    INFILL,
    KEPT_AROUND,
    NOISE_SHARES,
    SPEED,
    STYLE,
    Trial,
)
from voiceflow.config import SampleConfig, UserError
from voiceflow.data.manifest import Utterance
from voiceflow.data.masking import generator_for
from voiceflow.generation.spans import Span
from voiceflow.measures.infill import silenced
from voiceflow.vocoders.choice import Vocodes
from voiceflow.voice import Generated, Voice

ORIGINAL, RESYNTHESIS, GRIFFIN_LIM, PROMPT = "original", "resynthesis", "griffin-lim", "prompt"
NOISY = "noisy"
CALIBRATION = (ORIGINAL, RESYNTHESIS, GRIFFIN_LIM, NOISY)
NOISE_SNR_DB = -10.0  # over the span alone


@dataclass(frozen=True, eq=False)
class Made:
    """A trial's sound: wave (n,) float32 mono at 16 kHz; generated: first and last sample of what
    was generated; cost: what is told of the making (seconds, nfe, network_passes), as JSON.
    """

    wave: np.ndarray
    generated: tuple[int, int]
    cost: Mapping[str, Any]


class System(Protocol):
    """Makes sounds. `make` raises UserError where it cannot."""

    def make(self, trial: Trial) -> Made:
        """The sound of a trial."""


class Corpus:
    """The recordings of a subset, by utterance."""

    def __init__(self, utterances: Mapping[str, Utterance]) -> None:
        self.utterances = utterances

    def recording(self, id: str) -> Recording:
        """An utterance's sound. UserError for one that is not there."""
        if id not in self.utterances:
            raise UserError(f"{id} is not in the subset")
        return read(Path(self.utterances[id].audio))

    def wave(self, id: str, rate: int = SAMPLE_RATE) -> np.ndarray:
        """(n,) float32 mono."""
        recording = self.recording(id)
        return resample(recording.mono(), recording.sample_rate, rate)

    def prompt(self, trial: Trial) -> np.ndarray | None:
        """(n,) float32 mono at 16 kHz: the sound whose voice is to be taken."""
        if not trial.prompt:
            return None
        if trial.task in KEPT_AROUND:
            wave = self.wave(trial.prompt)
            first, last = (round(s * SAMPLE_RATE) for s in (trial.span_start, trial.span_end))
            return np.concatenate([wave[:first], wave[last:]])
        first, last = (round(s * SAMPLE_RATE) for s in (trial.prompt_start, trial.prompt_end))
        return self.wave(trial.prompt)[first:last]


def stretch(trial: Trial, n: int) -> tuple[int, int]:
    """Which samples of n are a trial's own, of a system that does not say.

    Of an edit all that is not as long as in the recording is taken for the new word.
    """
    seconds = n / SAMPLE_RATE
    first, last = 0.0, seconds
    if trial.task == CONTINUATION:
        first = trial.prompt_end
    elif trial.task in KEPT_AROUND:
        first, last = trial.span_start, trial.span_end
    if trial.task == EDIT:
        last = max(seconds - (trial.seconds - trial.span_end), first)
    return min(round(first * SAMPLE_RATE), n), min(round(last * SAMPLE_RATE), n)


def with_noise(
    recording: Recording, trial: Trial, snr_db: float = NOISE_SNR_DB
) -> Recording:
    """The recording, mono, with white Gaussian noise over a trial's span at that SNR there.

    The noise is drawn by the trial's id and span. What exceeds full scale is clipped, as in a file.
    """
    wave = recording.mono()
    first, last = (round(s * recording.sample_rate) for s in (trial.span_start, trial.span_end))
    speech = wave[first:last]
    generator = generator_for("noise", trial.id, f"{trial.span_start:.2f}")
    noise = torch.randn(len(speech), generator=generator).numpy()
    noise *= rms(speech) / max(rms(noise), 1e-9) * 10 ** (-snr_db / 20)
    wave[first:last] += noise
    made = Recording.from_mono(wave, recording.sample_rate, recording.subtype)
    return replace(made, path=recording.path)


@dataclass(frozen=True)
class Originals:
    """What the speaker said."""

    corpus: Corpus

    def make(self, trial: Trial) -> Made:
        """The recording itself."""
        wave = self.corpus.wave(trial.utterance)
        return Made(wave, stretch(trial, len(wave)), {})


class Resynthesis:
    """What the speaker said, through a voice's own features and a vocoder."""

    def __init__(self, corpus: Corpus, voice: Voice, vocoder: Vocodes | None = None) -> None:
        self.corpus, self.voice = corpus, voice
        self.vocoder = vocoder or voice.vocoder

    def of(self, wave: np.ndarray) -> np.ndarray:
        """(n,) float32 at 16 kHz to the same length."""
        rate = self.voice.features.sample_rate
        mel = self.voice.log_mel(torch.from_numpy(resample(wave, SAMPLE_RATE, rate)))
        made = resample(self.vocoder(mel).numpy(), rate, SAMPLE_RATE)
        return np.pad(made, (0, max(len(wave) - len(made), 0)))[: len(wave)]

    def make(self, trial: Trial) -> Made:
        """All of the recording but, where a span is made anew, what lies outside it."""
        original = self.corpus.wave(trial.utterance)
        wave, (first, last) = self.of(original), stretch(trial, len(original))
        if trial.task in KEPT_AROUND:
            wave[:first], wave[last:] = original[:first], original[last:]
        return Made(wave, (first, last), {})


@dataclass(frozen=True)
class Noisy:
    """What a voice is to take the noise out of."""

    corpus: Corpus

    def make(self, trial: Trial) -> Made:
        """The recording with its noise."""
        noisy = with_noise(self.corpus.recording(trial.utterance), trial)
        wave = resample(noisy.mono(), noisy.sample_rate, SAMPLE_RATE)
        return Made(wave, stretch(trial, len(wave)), {})


@dataclass(frozen=True)
class Prompts:
    """The prompts themselves, or through a voice's features and vocoder."""

    corpus: Corpus
    through: Resynthesis | None = None

    def make(self, trial: Trial) -> Made:
        """The sound whose voice is to be taken."""
        wave = self.corpus.prompt(trial)
        if wave is None:
            raise UserError(f"{trial.id} has no prompt")
        if self.through is not None:
            wave = self.through.of(wave)
        return Made(wave, (0, len(wave)), {})


@dataclass(frozen=True)
class VoiceSystem:
    """A voice of ours, asked as its users ask; settings: its preset, or what is tried instead."""

    corpus: Corpus
    voice: Voice
    settings: SampleConfig
    seed: int

    def make(self, trial: Trial) -> Made:
        """Do what the trial's task asks for."""
        begun = time.perf_counter()
        made = self._generate(trial, {"seed": self.seed, "settings": self.settings})
        seconds = time.perf_counter() - begun
        rate = made.recording.sample_rate
        wave = resample(made.recording.mono(), rate, SAMPLE_RATE)
        (first, last), = made.spans()
        first = round(first * SAMPLE_RATE / rate)
        last = min(round(last * SAMPLE_RATE / rate), len(wave))
        generated = first, len(wave) if trial.task == CONTINUATION else last
        frames = sum(last - first for first, last in made.plan.gaps)
        new_seconds = frames * self.voice.features.hop_seconds
        return Made(wave, generated, {
            "seconds": seconds, "generated_seconds": new_seconds, "nfe": made.nfe,
            "network_passes": made.network_passes,
        })  # fmt: skip

    def _generate(self, trial: Trial, asked: dict[str, Any]) -> Generated:
        if trial.task == INFILL:
            gap = silenced(self.corpus.recording(trial.utterance), trial.span_start, trial.span_end)
            span = Span(trial.span_start, trial.span_end, trial.words)
            return self.voice.infill(gap, trial.text, [span], **asked)
        if trial.task == CONTINUATION:
            # The recording's end is cut away: its length shall tell nothing.
            recording = self.corpus.recording(trial.utterance)
            span = Span(trial.prompt_end, recording.seconds)
            return self.voice.infill(recording, trial.text, [span], keep_length=False, **asked)
        if trial.task == EDIT:
            old = self.corpus.utterances[trial.utterance].text
            recording = self.corpus.recording(trial.utterance)
            return self.voice.edit(recording, old, trial.text, **asked)
        if trial.task in NOISE_SHARES:
            noisy = with_noise(self.corpus.recording(trial.utterance), trial)
            spans = [(trial.span_start, trial.span_end)]
            return self.voice.denoise(noisy, trial.text, spans, **asked)
        if trial.task == STYLE:
            return self.voice.style_transfer(
                self.corpus.recording(trial.utterance), trial.text,
                self.corpus.recording(trial.prompt), trial.prompt_text, **asked,
            )  # fmt: skip
        if trial.task == DIVERSE:
            return self.voice.sample(trial.text, 1, **asked)[0]
        if trial.task == SPEED or not trial.prompt:
            return self.voice.speak(trial.text, **asked)
        return self.voice.speak(
            trial.text, prompt=self.corpus.recording(trial.prompt), prompt_text=trial.prompt_text,
            prompt_span=(trial.prompt_start, trial.prompt_end), **asked,
        )  # fmt: skip


@dataclass(frozen=True)
class Folder:
    """A foreign system's sounds: DIR/<trial>.wav (or .flac)."""

    path: Path

    def make(self, trial: Trial) -> Made:
        """Read the sound, at any rate and of any number of channels."""
        recording = read(self.file(trial))
        wave = resample(recording.mono(), recording.sample_rate, SAMPLE_RATE)
        return Made(wave, stretch(trial, len(wave)), {})

    def file(self, trial: Trial) -> Path:
        """Where a trial's sound is; UserError where it is not."""
        for ending in (".wav", ".flac"):
            if (path := self.path / f"{trial.id}{ending}").is_file():
                return path
        raise UserError(f"{self.path} has no {trial.id}.wav")

    def missing(self, trials: list[Trial]) -> list[str]:
        """Ids of trials that have no sound."""
        def there(trial: Trial) -> bool:
            return any((self.path / f"{trial.id}{e}").is_file() for e in (".wav", ".flac"))

        return [trial.id for trial in trials if not there(trial)]
