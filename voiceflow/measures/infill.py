"""Gaps in real speech, filled unheard, and how near the fill comes to what was there.

No figure is enough alone (a blurred fill wins on error, a lively one on variance), so four stand
together, on the mel itself and again on the mel of the sound: error, variance, phones, voice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voiceflow.alignment.types import SAMPLE_RATE, Alignment
from voiceflow.audio.io import Recording, read, resample
from voiceflow.config import SampleConfig, UserError
from voiceflow.data.manifest import Utterance
from voiceflow.data.masking import generator_for
from voiceflow.files import write_json
from voiceflow.generation.sample import sample
from voiceflow.generation.spans import Span
from voiceflow.measures.bootstrap import bootstrap_interval
from voiceflow.measures.speaker import INSTALL, SpeakerLikeness, speaker_likeness
from voiceflow.measures.spectral import (
    TrainingMeans,
    interpolate,
    log_mel_error,
    log_mel_variance,
)
from voiceflow.measures.subject import Subject, recipe, spread_over_speakers
from voiceflow.measures.words import PhoneRecogniser, longest_common, phones_within

SHORTEST_SECONDS, LONGEST_SECONDS = 0.4, 1.0
ORIGINAL, RESYNTHESIS = "original", "resynthesis"
ONE_SAMPLE, INTERPOLATION = "one sample", "interpolation"
PHONE_MEANS, MEAN_FRAME = "phone means", "mean frame"


@dataclass(frozen=True)
class Gap:
    """Whole words of an utterance that are to be taken out: seconds, words and phones."""

    start: float
    end: float
    words: tuple[str, ...]
    phones: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """What one way to fill one gap gave; a figure that does not apply is None.

    mel_error, wave_error: mean absolute log-mel difference inside the gap, of the mel itself and
    of the mel of the spliced sound. mel_variance, wave_variance: over time and bands inside it.
    phones_found: share of the gap's phones that a recogniser finds in order. likeness: cosine of
    the voice with the rest of the recording.
    """

    mel_error: float | None
    mel_variance: float | None
    wave_error: float
    wave_variance: float
    phones_found: float
    likeness: float | None


def choose_gap(alignment: Alignment, seed: int, id: str) -> Gap | None:
    """A run of whole words of 0.4 to 1.0 s with a word left on either side, by seed and id.

    None where the utterance has no such run.
    """
    words = alignment.spoken()
    runs = [
        words[i:j]
        for i in range(1, len(words) - 1)
        for j in range(i + 1, len(words))
        if SHORTEST_SECONDS <= words[j - 1].end - words[i].start <= LONGEST_SECONDS
    ]
    if not runs:
        return None
    generator = generator_for("gap", seed, id)
    chosen = runs[int(torch.randint(len(runs), (), generator=generator))]
    return Gap(
        chosen[0].start,
        chosen[-1].end,
        tuple(word.text for word in chosen),
        tuple(phone.symbol for word in chosen for phone in word.phones),
    )


def silenced(recording: Recording, start: float, end: float) -> Recording:
    """The recording with nothing in start:end (seconds)."""
    samples = recording.samples.copy()
    first, last = (round(s * recording.sample_rate) for s in (start, end))
    samples[first:last] = 0
    return replace(recording, samples=samples)


class InfillTrial:
    """One gap, filled in every way, and the figures of each."""

    def __init__(
        self, voice: Subject, utterance: Utterance, gap: Gap, settings: SampleConfig, seed: int
    ) -> None:
        self.voice, self.gap = voice, gap
        self.original = read(utterance.audio)
        self.silenced = silenced(self.original, gap.start, gap.end)
        span = Span(gap.start, gap.end, " ".join(gap.words))
        self.layout, self.plan = voice.plan_infill(self.silenced, utterance.text, [span])
        self.seed = seed
        self.settings = settings
        (self.first, self.last), = self.plan.gaps
        self.mel = voice.log_mel(torch.from_numpy(self._wave(self.original)))

    def samples(self, count: int) -> Tensor:
        """(K, T, M) un-normalised log-mels of seeds seed, seed + 1, ..."""
        voice = self.voice
        drawn = sample(
            voice.velocity, self.plan, voice.folder.phones, self.settings, self.seed, count
        )
        return self.voice.features.denormalise(drawn.mel)

    def fills(self, count: int, means: TrainingMeans | None) -> dict[str, Tensor]:
        """Each way's content of the gap, (T_gap, M) or, for one sample, (K, T_gap, M)."""
        gap = slice(self.first, self.last)
        drawn = self.samples(count)[:, gap]
        known = self.layout.mel
        after = known[min(self.last, len(known) - 1)]
        found = {
            RESYNTHESIS: self.mel[gap],
            ONE_SAMPLE: drawn,
            f"mean of {count}": drawn.mean(0),
            INTERPOLATION: interpolate(known[self.first - 1], after, self.last - self.first),
        }
        if means is not None:
            spread = means.spread(self.plan.phones, self.plan.durations)[gap]
            found |= {PHONE_MEANS: spread, MEAN_FRAME: means.frame.expand_as(spread)}
        return found

    def figures(
        self, fill: Tensor | None, recogniser: PhoneRecogniser, likeness: SpeakerLikeness | None
    ) -> Figures:
        """Of one way to fill the gap; None stands for the original sound."""
        target = self.mel[self.first : self.last]
        if fill is None:
            recording = self.original
            error = variance = None
        else:
            each = fill if fill.ndim == 3 else fill[None]
            error = float(np.mean([log_mel_error(one, target) for one in each]))
            variance = float(np.mean([log_mel_variance(one) for one in each]))
            whole = self.layout.mel.clone()
            whole[self.first : self.last] = each[0]
            recording = self.voice.render(self.silenced, self.layout, self.plan, whole)
        wave = self._wave(recording)
        heard = self.voice.log_mel(torch.from_numpy(wave))[self.first : self.last]
        rate = self.voice.features.sample_rate
        listened = resample(wave, rate, SAMPLE_RATE)
        phones = phones_within(recogniser.recognise(listened), self.gap.start, self.gap.end)
        alike = None
        if likeness is not None:
            reference = resample(self._wave(self.original), rate, SAMPLE_RATE)
            alike = likeness.of_span(listened, reference, self.gap.start, self.gap.end)
        return Figures(
            error,
            variance,
            log_mel_error(heard, target),
            log_mel_variance(heard),
            longest_common(self.gap.phones, phones) / len(self.gap.phones),
            alike,
        )

    def _wave(self, recording: Recording) -> np.ndarray:
        rate = self.voice.features.sample_rate
        return resample(recording.mono(), recording.sample_rate, rate)


@dataclass(frozen=True)
class Row:
    """The means of one way's figures over all gaps; variances as ratios to the original's."""

    way: str
    mel_error: float | None
    wave_error: float
    mel_variance_ratio: float | None
    wave_variance_ratio: float
    phones_found: float
    likeness: float | None

    def __str__(self) -> str:
        def shown(value: float | None) -> str:
            return "     -" if value is None else f"{value:6.3f}"

        values = (
            self.mel_error, self.wave_error, self.mel_variance_ratio, self.wave_variance_ratio,
            self.phones_found, self.likeness,
        )  # fmt: skip
        return f"{self.way:<14}" + "".join(f"{shown(v):>12}" for v in values)


HEADER = f"{'':<14}" + "".join(
    f"{name:>12}" for name in ("error mel", "sound", "variance mel", "sound", "phones", "likeness")
)


def rows_of(trials: Sequence[dict[str, Figures]]) -> list[Row]:
    """Means over trials, each of which holds the figures of the same ways."""

    def mean(way: str, name: str) -> float | None:
        values = [getattr(trial[way], name) for trial in trials]
        return None if None in values else float(np.mean(values))

    def known(value: float | None) -> float:
        assert value is not None
        return value

    real = known(mean(ORIGINAL, "wave_variance"))
    found = []
    for way in trials[0]:
        variance = mean(way, "mel_variance")
        found.append(
            Row(
                way,
                mean(way, "mel_error"),
                known(mean(way, "wave_error")),
                None if variance is None else variance / real,
                known(mean(way, "wave_variance")) / real,
                known(mean(way, "phones_found")),
                mean(way, "likeness"),
            )
        )
    return found


def gain(
    trials: Sequence[dict[str, Figures]], speakers: Sequence[str], way: str
) -> tuple[float, float, float]:
    """How far a way's mel error lies below interpolation's, as a share; with its 95 % interval."""
    pairs = np.array([[t[way].mel_error, t[INTERPOLATION].mel_error] for t in trials], float)
    mean = pairs.mean(0)
    low, high = bootstrap_interval(pairs, speakers, lambda means: 1 - means[:, 0] / means[:, 1])
    return float(1 - mean[0] / mean[1]), low, high


def measure_infill(
    voice: Subject,
    utterances: Sequence[Utterance],
    *,
    means: TrainingMeans | None = None,
    per_speaker: int = 2,
    samples: int = 8,
    limit: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    solver: str | None = None,
    out: Path | None = None,
) -> list[Row]:
    """Take words out of each speaker's first utterances, fill the gaps unheard, print figures.

    means: of the training data, for the two rows that stand on it. out: where to write all
    figures, gap by gap, as JSON. The figures of the sound are those of the seed's own sample,
    those of the mel the mean over `samples` samples. Raises UserError where no gap is found.
    """
    from rich.progress import track

    settings = voice.settings(steps=steps, guidance=guidance, solver=solver)
    chosen = spread_over_speakers(utterances, per_speaker)[:limit]
    recogniser, likeness = PhoneRecogniser(), speaker_likeness()
    trials: list[dict[str, Figures]] = []
    gaps: list[tuple[Utterance, Gap]] = []
    left_out: list[str] = []
    for utterance in track(chosen, "gaps"):
        try:
            gap = choose_gap(voice.align(read(utterance.audio), utterance.text), seed, utterance.id)
            if gap is None:
                left_out.append(f"{utterance.id}: no run of whole words of 0.4 to 1.0 s")
                continue
            trial = InfillTrial(voice, utterance, gap, settings, seed)
        except UserError as error:
            left_out.append(f"{utterance.id}: {error}")
            continue
        ways: dict[str, Tensor | None] = {ORIGINAL: None, **trial.fills(samples, means)}
        trials.append({w: trial.figures(fill, recogniser, likeness) for w, fill in ways.items()})
        gaps.append((utterance, gap))
    if not trials:
        raise UserError(f"no gap could be measured ({'; '.join(left_out[:3]) or 'no utterances'})")
    rows = rows_of(trials)
    speakers = [utterance.speaker for utterance, _ in gaps]
    gains = {way: gain(trials, speakers, way) for way in (ONE_SAMPLE, f"mean of {samples}")}
    seconds = [gap.end - gap.start for _, gap in gaps]
    print(
        f"{len(trials)} gaps of {len(set(speakers))} speakers, {np.mean(seconds):.2f} s on average "
        f"({min(seconds):.2f} to {max(seconds):.2f}), unheard; {len(left_out)} left out"
    )
    print(HEADER, *rows, *left_out, sep="\n")
    if likeness is None:
        print(f"the likeness of voices was not measured: {INSTALL}")
    for way, (value, low, high) in gains.items():
        print(
            f"{way}: log-mel error {100 * value:.1f} % below interpolation "
            f"(95 % interval over speakers {100 * low:.1f} to {100 * high:.1f} %)"
        )
    if out is not None:
        write_json(out, _record(voice, settings, seed, means, rows, gains, gaps, trials, left_out))
    return rows


def _record(
    voice: Subject,
    settings: SampleConfig,
    seed: int,
    means: TrainingMeans | None,
    rows: Sequence[Row],
    gains: dict[str, tuple[float, float, float]],
    gaps: Sequence[tuple[Utterance, Gap]],
    trials: Sequence[dict[str, Figures]],
    left_out: Sequence[str],
) -> dict[str, Any]:
    return {
        **recipe(voice, settings, seed),
        "training_means": None if means is None else means.data,
        "rows": [asdict(row) for row in rows],
        "error_below_interpolation": {
            way: dict(zip(("share", "low", "high"), values, strict=True))
            for way, values in gains.items()
        },
        "gaps": [
            {"id": utterance.id, **asdict(gap), "figures": {w: asdict(f) for w, f in t.items()}}
            for (utterance, gap), t in zip(gaps, trials, strict=True)
        ],
        "left_out": list(left_out),
    }
