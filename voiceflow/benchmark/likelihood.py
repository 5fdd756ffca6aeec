"""Whether a voice finds real speech likelier than the same speech made wrong.

Of each utterance a span of whole words is scored given the rest (`generation.likelihood.score`),
once as it is and once in each of three ways made wrong:

    swapped words   the real sound; the text says words of another utterance in the span, as many
                    and with as many phones, none of which is said there
    other speaker   a stretch of another speaker's recording in the span's place, whole words, as
                    many frames, as loud as the span; the text says there what that speaker says
    noise           white Gaussian noise over the span's own sound, at 0 dB; the real text

All else is the same for both of a pair: masked frames, context, the noise of the context and the
probes. Nothing of the span is listened to but what is scored: the context's spectrogram is made
without the span's samples, and the times of the span's phones are predicted, of right words and of
wrong ones, so that neither text gains by an alignment with the sound. The other speaker's stretch
has a text of its own since it is the voice that is to be wrong: with the original's text every
stretch would be unlikely for its words. What is left is the voice, the room, and how the stretch
follows on from what is before it; and that a density is of other sound, of which some is likelier
than other in any voice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import Alignment
from voiceflow.audio.effects import rms
from voiceflow.audio.io import Recording, resample
from voiceflow.benchmark.protocols import (
    LIKELIHOOD,
    STEP_SECONDS,
    Trial,
    dictionary,
    drawn,
    trial_for,
)
from voiceflow.benchmark.systems import Corpus, with_noise
from voiceflow.config import SampleConfig
from voiceflow.data.manifest import Utterance
from voiceflow.data.masking import generator_for
from voiceflow.generation.likelihood import Scored, score
from voiceflow.generation.plan import Plan
from voiceflow.generation.spans import Span
from voiceflow.measures.infill import Gap
from voiceflow.measures.scorer import Score
from voiceflow.text.normalise import words_of
from voiceflow.voice import Voice

SWAPPED, OTHER, NOISE = "swapped words", "other speaker", "noise"
WAYS = (SWAPPED, OTHER, NOISE)
SHORTEST_SECONDS, LONGEST_SECONDS = 0.4, 1.0  # of a span
SNR_DB = 0.0
PROBES, STEPS, SOLVER, CONTEXT_FRAMES = 2, 8, "midpoint", 200

Runs = Callable[[Utterance], list[Gap]]
"""The runs of whole words of an utterance; none where it cannot be aligned."""


def runs_of(alignment: Alignment) -> list[Gap]:
    """Every run of whole words of 1 to 2 s with a word left on either side."""
    words = alignment.spoken()
    return [
        Gap(run[0].start, run[-1].end, tuple(w.text for w in run),
            tuple(p.symbol for w in run for p in w.phones))
        for i in range(1, len(words) - 1)
        for j in range(i + 1, len(words))
        if SHORTEST_SECONDS <= words[j - 1].end - words[i].start <= LONGEST_SECONDS
        for run in [words[i:j]]
    ]  # fmt: skip


def draw_pairs(
    utterance: Utterance,
    pool: Sequence[Utterance],
    every: Sequence[Utterance],
    runs: Runs,
    seed: int,
) -> Trial | None:
    """The span of an utterance and what it is made wrong with, by seed and id.

    pool: utterances that another speaker's stretch may come of; every: those that words may. None
    where no span has both.
    """
    words = words_of(utterance.text)
    own = [run for run in runs(utterance) if _places(run.words, words) == 1]
    generator = generator_for(LIKELIHOOD, seed, utterance.id)
    for number in torch.randperm(len(own), generator=generator).tolist():
        gap = own[number]
        swapped = _swapped(gap, words, [u for u in every if u.id != utterance.id], generator)
        others = [u for u in pool if u.speaker != utterance.speaker]
        found = _stretch(gap, words, others, runs, generator)
        if swapped is None or found is None:
            continue
        other, stretch = found
        return trial_for(
            LIKELIHOOD, utterance, text=" ".join(_with(words, gap.words, swapped)),
            words=" ".join(swapped), span_start=round(gap.start, 4), span_end=round(gap.end, 4),
            prompt=other.id, prompt_start=round(stretch.start, 4),
            prompt_end=round(stretch.end, 4), prompt_text=" ".join(stretch.words),
        )  # fmt: skip
    return None


def _swapped(
    gap: Gap, words: Sequence[str], others: Sequence[Utterance], generator: torch.Generator
) -> tuple[str, ...] | None:
    """Words of the first utterance, in an order that is drawn, that has such."""
    wanted = _n_phones(gap.words)
    for number in torch.randperm(len(others), generator=generator).tolist():
        said = words_of(others[number].text)
        fitting = [
            run
            for i in range(len(said) - len(gap.words) + 1)
            for run in [tuple(said[i : i + len(gap.words)])]
            if not set(run) & set(gap.words)
            and dictionary() >= set(run)
            and _n_phones(run) == wanted
            and _places(run, _with(words, gap.words, run)) == 1
        ]
        if fitting:
            return drawn(fitting, generator)
    return None


def _stretch(
    gap: Gap,
    words: Sequence[str],
    others: Sequence[Utterance],
    runs: Runs,
    generator: torch.Generator,
) -> tuple[Utterance, Gap] | None:
    """A run as long of the first utterance, in an order that is drawn, that has such."""
    for number in torch.randperm(len(others), generator=generator).tolist():
        fitting = [
            run
            for run in runs(others[number])
            if _steps(run) == _steps(gap)
            and _places(run.words, _with(words, gap.words, run.words)) == 1
        ]
        if fitting:
            return others[number], drawn(fitting, generator)
    return None


def _steps(gap: Gap) -> int:
    return round((gap.end - gap.start) / STEP_SECONDS)


def _n_phones(words: Sequence[str]) -> int:
    lexicon = english_lexicon()
    return sum(len(lexicon.pronunciations(word)[0]) for word in words)


def _places(run: Sequence[str], words: Sequence[str]) -> int:
    """How often a run of words stands in a text."""
    return sum(list(words[i : i + len(run)]) == list(run) for i in range(len(words)))


def _with(words: Sequence[str], old: Sequence[str], new: Sequence[str]) -> list[str]:
    """A text with a run of its words, which stands in it once, replaced."""
    place = next(i for i in range(len(words)) if list(words[i : i + len(old)]) == list(old))
    return [*words[:place], *new, *words[place + len(old) :]]


def said_in_span(trial: Trial, text: str) -> list[str]:
    """What an utterance whose text is `text` says in a trial's span."""
    old, new = words_of(text), words_of(trial.text)
    count = len(words_of(trial.words))
    # As many words stand in the place, none of which is said there.
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
    return old[first : first + count]


@dataclass(frozen=True)
class Weigher:
    """Scores the pairs of a trial; settings: the voice's, of which only the path counts."""

    corpus: Corpus
    voice: Voice
    settings: SampleConfig
    seed: int

    @staticmethod
    def told() -> dict[str, Any]:
        """What the scores depend on beside the voice and the seed, as JSON."""
        return {"probes": PROBES, "steps": STEPS, "solver": SOLVER,
                "context_frames": CONTEXT_FRAMES, "snr_db": SNR_DB}  # fmt: skip

    def weigh(self, trial: Trial) -> Score:
        """Bits per dimension that the real speech has less than each wrong one.

        Of each way WAY: `WAY`, the bits saved; `WAY, error`, their standard error over probes;
        beside them `real`, the bits per dimension of the real speech, `frames`, those scored, and
        `seconds`, what it took. Raises UserError where text and sound do not fit together.
        """
        begun = time.perf_counter()
        recording = self.corpus.recording(trial.utterance)
        text = self.corpus.utterances[trial.utterance].text
        rate = recording.sample_rate
        mel = self._mel(recording.mono(), rate)
        right = said_in_span(trial, text)
        plan = self._plan(recording, trial, text, right)
        real = self._score(plan, mel)
        wrong = {
            SWAPPED: (words_of(trial.words), mel),
            OTHER: (words_of(trial.prompt_text), self._other(trial, plan, mel, recording)),
            NOISE: (right, self._mel(with_noise(recording, trial, SNR_DB).mono(), rate)),
        }
        found: Score = {"real": real.bits_per_dimension, "frames": int(plan.mask.sum())}
        for way, (words, x) in wrong.items():
            its = plan if words == right else self._plan(recording, trial, text, right, words)
            saved, error = real.saved_over(self._score(its, x))
            found |= {way: saved, f"{way}, error": error}
        found["seconds"] = time.perf_counter() - begun
        return found

    def _plan(
        self,
        recording: Recording,
        trial: Trial,
        text: str,
        right: Sequence[str],
        words: Sequence[str] | None = None,
    ) -> Plan:
        """The span unheard, with the right words or others; its context has nothing of the span."""
        words = right if words is None else words
        whole = " ".join(_with(words_of(text), right, words))
        span = Span(trial.span_start, trial.span_end, " ".join(words))
        return self.voice.plan_infill(recording, whole, [span])[1]

    def _other(self, trial: Trial, plan: Plan, mel: Tensor, recording: Recording) -> Tensor:
        """The real log-mel (T, M) with another speaker's in the span, as loud as the span was."""
        theirs = self.corpus.recording(trial.prompt)
        span = _cut(recording, trial.span_start, trial.span_end)
        stretch = _cut(theirs, trial.prompt_start, trial.prompt_end)
        gain = rms(span) / max(rms(stretch), 1e-9)
        their_mel = self._mel(theirs.mono() * gain, theirs.sample_rate)
        (first, last), = plan.gaps
        spec = self.voice.features
        begin = math.ceil(round(trial.prompt_start * spec.sample_rate) / spec.hop)
        begin = min(begin, len(their_mel) - (last - first))
        found = mel.clone()
        found[first:last] = their_mel[begin : begin + last - first]
        return found

    def _mel(self, wave: np.ndarray, rate: int) -> Tensor:
        """(T, M) normalised, of (n,) at any rate."""
        wave = resample(wave, rate, self.voice.features.sample_rate)
        return self.voice.features.normalise(self.voice.log_mel(torch.from_numpy(wave)))

    def _score(self, plan: Plan, mel: Tensor) -> Scored:
        settings = replace(self.settings, context_frames=CONTEXT_FRAMES)
        return score(self.voice.velocity, plan, mel, self.voice.folder.phones, settings,
                     seed=self.seed, probes=PROBES, steps=STEPS, solver=SOLVER)  # fmt: skip


def _cut(recording: Recording, start: float, end: float) -> np.ndarray:
    first, last = (round(s * recording.sample_rate) for s in (start, end))
    return recording.mono()[first:last]
