"""Whether a voice finds real speech likelier than the same speech made wrong.

Of each utterance a span of whole words is scored given the rest (`generation.likelihood.score`),
as it is and made wrong:

    swapped words          The same sound, but the text says in the span words of another
                           utterance: as many, with as many phones, none of which is said there.
    other speaker          The same sound with its words, but in another speaker's recording, in the
                           place of whole words that took as long.
    other speaker's sound  What was in that place instead of the sound, with the words said there.
    noise                  White Gaussian noise over the span, at 0 dB; the text is the real one.

In the first two pairs the same frames are scored, which alone makes scores comparable: a density is
of its sound, and some sound is denser than other in any voice (a low noise floor, long vowels). So
`other speaker` asks not whether this sound or that is the likelier, but in whose recording this one
is. What tells is all that a recording has in common: voice, room, pace, and how the span joins the
rest. `other speaker's sound` compares sounds, and says how much that matters. Both recordings are
brought to where span and stretch are equally loud.

All else is the same for both of a pair: how many frames are masked and are context, the noise of
the context and the probes. Nothing of the span is listened to but what is scored: the context's
spectrogram is made without the span's samples, and the times of the span's phones are predicted,
of right words and wrong ones alike, so that neither text gains by an alignment with the sound.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
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
from voiceflow.config import SampleConfig, UserNote
from voiceflow.data.manifest import Utterance
from voiceflow.data.masking import generator_for
from voiceflow.generation.likelihood import Scored, score
from voiceflow.generation.plan import Plan
from voiceflow.generation.spans import Span
from voiceflow.measures.infill import LONGEST_SECONDS, SHORTEST_SECONDS, Gap
from voiceflow.measures.scorer import Metric, Score, estimate
from voiceflow.text.normalise import words_of
from voiceflow.voice import Voice

REAL = "real"
SWAPPED, OTHER, OTHER_SOUND, NOISE = (
    "swapped words", "other speaker", "other speaker's sound", "noise",
)  # fmt: skip
WAYS = (SWAPPED, OTHER, OTHER_SOUND, NOISE)
SNR_DB = 0.0
PROBES, STEPS, SOLVER, CONTEXT_FRAMES = 2, 8, "midpoint", 100
ASKED = {"spans": "0.4 to 1.0 s", "snr_db": SNR_DB, "probes": PROBES, "steps": STEPS,
         "solver": SOLVER, "context_frames": CONTEXT_FRAMES}  # fmt: skip
"""What the scores depend on beside the voice and the seed, as JSON."""

Runs = Callable[[Utterance], list[Gap]]
"""The runs of whole words of an utterance; none where it cannot be aligned."""


def runs_of(alignment: Alignment) -> list[Gap]:
    """Every run of whole words that lasts as an infill's, with a word left on either side."""
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
    """A run as long of the first utterance, in an order that is drawn, that has such.

    Each in the other's place stands once in the text, so that it is clear where it is said.
    """
    for number in torch.randperm(len(others), generator=generator).tolist():
        said = words_of(others[number].text)
        fitting = [
            run
            for run in runs(others[number])
            if _steps(run) == _steps(gap)
            and _places(run.words, said) == 1
            and _places(gap.words, _with(said, run.words, gap.words)) == 1
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


def said_in_span(trial: Trial, words: Sequence[str]) -> list[str]:
    """What is said in a trial's span; words: of the utterance's own text."""
    # As many words stand there in the trial's text, none of which is said.
    pairs = zip(words, words_of(trial.text), strict=True)
    first = next(place for place, (old, new) in enumerate(pairs) if old != new)
    return list(words[first : first + len(words_of(trial.words))])


@dataclass(frozen=True)
class Weigher:
    """Scores the pairs of a trial; settings: the voice's, of which only the path counts."""

    corpus: Corpus
    voice: Voice
    settings: SampleConfig
    seed: int

    def weigh(self, trial: Trial) -> Score:
        """Bits per dimension that real speech has less than each wrong one.

        Of each way WAY: `WAY`, the bits saved, and `WAY, error`, their standard error over probes;
        beside them `real`, the real speech's own bits per dimension, and `frames`, those scored.
        Raises UserError where a text and its sound do not fit together.
        """
        own = self.corpus.recording(trial.utterance)
        words = words_of(self.corpus.utterances[trial.utterance].text)
        right, swapped = said_in_span(trial, words), words_of(trial.words)
        span = trial.span_start, trial.span_end
        plan = self._plan(own, words, right, right, span)
        mel = self._mel(own)

        # The other recording, as loud, with a span at its stretch of exactly as many frames.
        theirs = self._as_loud(own, trial)
        (first, last), = plan.gaps
        spec = self.voice.features
        begin = math.ceil(round(trial.prompt_start * spec.sample_rate) / spec.hop)
        stretch = trial.prompt_start, (begin + last - first) * spec.hop / spec.sample_rate
        their_words = words_of(self.corpus.utterances[trial.prompt].text)
        said = words_of(trial.prompt_text)
        their_plan = self._plan(theirs, their_words, said, right, stretch)
        their_mel = self._mel(theirs)
        (their_first, their_last), = their_plan.gaps
        moved, replaced = their_mel.clone(), mel.clone()
        moved[their_first:their_last] = mel[first:last]
        replaced[first:last] = their_mel[their_first:their_last]

        # As much context on either side in both recordings: the same draws for both of a pair.
        before = min(CONTEXT_FRAMES, first, their_first)
        after = min(CONTEXT_FRAMES, len(mel) - last, len(their_mel) - their_last)
        found = {
            way: self._score(*around(its_plan, x, before, after))
            for way, its_plan, x in (
                (REAL, plan, mel),
                (SWAPPED, self._plan(own, words, right, swapped, span), mel),
                (OTHER, their_plan, moved),
                (OTHER_SOUND, self._plan(own, words, right, said, span), replaced),
                (NOISE, plan, self._mel(with_noise(own, trial, SNR_DB))),
            )
        }
        told: Score = {REAL: found[REAL].bits_per_dimension, "frames": last - first}
        for way in WAYS:
            told[way], told[f"{way}, error"] = found[REAL].saved_over(found[way])
        return told

    def _plan(
        self,
        recording: Recording,
        words: Sequence[str],
        old: Sequence[str],
        new: Sequence[str],
        span: tuple[float, float],
    ) -> Plan:
        """A span unheard, in which `new` is said in the place of `old`."""
        whole = " ".join(_with(words, old, new))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserNote)  # wrong words need not suit the span
            return self.voice.plan_infill(recording, whole, [Span(*span, " ".join(new))])[1]

    def _as_loud(self, own: Recording, trial: Trial) -> Recording:
        """The other recording, its stretch as loud as the span."""
        theirs = self.corpus.recording(trial.prompt)
        span = _cut(own, trial.span_start, trial.span_end)
        stretch = _cut(theirs, trial.prompt_start, trial.prompt_end)
        gain = rms(span) / max(rms(stretch), 1e-9)
        made = Recording.from_mono(theirs.mono() * gain, theirs.sample_rate, "FLOAT")
        return replace(made, path=theirs.path)

    def _mel(self, recording: Recording) -> Tensor:
        """(T, M) normalised."""
        rate = self.voice.features.sample_rate
        wave = resample(recording.mono(), recording.sample_rate, rate)
        return self.voice.features.normalise(self.voice.log_mel(torch.from_numpy(wave)))

    def _score(self, plan: Plan, mel: Tensor) -> Scored:
        settings = replace(self.settings, context_frames=CONTEXT_FRAMES)
        return score(self.voice.velocity, plan, mel, self.voice.folder.phones, settings,
                     seed=self.seed, probes=PROBES, steps=STEPS, solver=SOLVER)  # fmt: skip


def paired_metrics() -> dict[str, Metric]:
    """What two voices are compared by, trial by trial: figures of `with_order`'s numbers."""
    return {
        f"{figure}, {way}": metric
        for way in WAYS
        for figure, metric in (
            ("pairs in order", Metric.mean(f"{way}, in order", "higher", "%")),
            ("bits saved", Metric.mean(way, "higher")),
        )
    }


def with_order(told: Score) -> Score:
    """A trial's numbers, and for each way whether the real speech is the likelier: 1 or 0."""
    saved = {way: told[way] for way in WAYS}
    order = {f"{w}, in order": float(bits > 0) for w, bits in saved.items() if type(bits) is float}
    return {**told, **order}


def around(plan: Plan, mel: Tensor, before: int, after: int) -> tuple[Plan, Tensor]:
    """A plan of one gap, and its log-mel (T, M), with so many frames of context left of it."""
    (first, last), = plan.gaps
    low, high = first - before, last + after
    edges = [min(max(edge, low), high) for edge in accumulate(plan.durations, initial=0)]
    durations = tuple(end - start for start, end in pairwise(edges))
    cut = Plan(plan.phones, durations, plan.context[low:high], plan.mask[low:high],
               ((before, before + last - first),))  # fmt: skip
    return cut, mel[low:high]


def _cut(recording: Recording, start: float, end: float) -> np.ndarray:
    first, last = (round(s * recording.sample_rate) for s in (start, end))
    return recording.mono()[first:last]


def figures_of(
    way: str, scores: Sequence[Score], speakers: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The figures of a way over trials (as `Weigher.weigh` tells them), as a result has them.

    pairs in order: the share in which the real speech scores higher; bits saved: the mean, both
    with intervals over speakers; error of the probes: the mean of the pairs' own
    standard errors; standard error: of the mean bits, over the pairs.
    """
    kept = [
        (saved, s[f"{way}, error"], speaker)
        for s, speaker in zip(scores, speakers, strict=True)
        if isinstance(saved := s[way], float)
    ]
    rows: list[Score] = [
        {"in order": float(saved > 0), "saved": saved, "error": error} for saved, error, _ in kept
    ]
    metrics = {
        "pairs in order": Metric.mean("in order", "higher", "%"),
        "bits saved": Metric.mean("saved", "higher"),
        "error of the probes": Metric.mean("error", "lower"),
    }
    found = {
        name: {**asdict(told), "unit": metric.unit, "better": metric.better}
        for name, metric in metrics.items()
        if (told := estimate(metric, rows, [speaker for *_, speaker in kept])) is not None
    }
    if len(kept) > 1:
        error = float(np.std([saved for saved, *_ in kept], ddof=1)) / math.sqrt(len(kept))
        found["standard error"] = {"value": error, "low": None, "high": None, "count": len(kept),
                                   "unit": "", "better": "lower"}  # fmt: skip
    return found
