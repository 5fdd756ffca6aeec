"""What a scorer is: it hears sounds, and tells numbers of each; figures are made of them.

Scorers know nothing of voices, protocols or files. What they tell of a sound is kept (a benchmark
goes on where it stopped, and other figures can be made of it later), so it is JSON: numbers, texts,
and lists of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from voiceflow.measures.bootstrap import bootstrap_interval

Score = dict[str, float | str | list[float] | None]
"""What a scorer tells of one sound, by name; None where it cannot be told of this one."""


@dataclass(frozen=True, eq=False)
class Sound:
    """One sound to be scored, mono at 16 kHz.

    id: of its trial; wave: (n,) float32; text: what is to be said in it; generated: first and last
    sample of what was generated, of the rest of the wave nothing was. prompt: (m,) the sound whose
    voice was to be taken; prompt_resynthesis: the same through the voice's own features and
    vocoder; reference: (n,) what was there before, sample beside sample; phones: symbols that are
    to be heard in `generated` (ARPAbet without stress); rivals: other transcripts, as words, of
    like length. None, or empty, where a trial has no such thing.
    """

    id: str
    wave: np.ndarray
    text: str
    generated: tuple[int, int]
    prompt: np.ndarray | None = None
    prompt_resynthesis: np.ndarray | None = None
    reference: np.ndarray | None = None
    phones: tuple[str, ...] = ()
    rivals: tuple[tuple[str, ...], ...] = ()

    @property
    def part(self) -> np.ndarray:
        """(k,) what was generated."""
        first, last = self.generated
        return self.wave[first:last]


@dataclass(frozen=True)
class Metric:
    """A figure over many sounds.

    columns: the numbers of each sound that it is made of, by a scorer's names; figure: their means
    (draws, K) to the figure (draws,); unit: "%" for shares, which are told times 100; better:
    "lower" or "higher".
    """

    columns: tuple[str, ...]
    figure: Callable[[np.ndarray], np.ndarray]
    better: str
    unit: str = ""

    @staticmethod
    def mean(column: str, better: str, unit: str = "") -> Metric:
        """The mean of one number."""
        return Metric((column,), lambda means: means[:, 0], better, unit)

    @staticmethod
    def ratio(above: str, below: str, better: str, unit: str = "%") -> Metric:
        """A sum over a sum, all sounds together: errors over words."""
        return Metric((above, below), lambda means: means[:, 0] / means[:, 1], better, unit)


@dataclass(frozen=True)
class SetMetric:
    """How far two sets of sounds are apart: a figure of vectors, that of the originals' beside it.

    column: the list of numbers (D) of each sound; distance: of (n, D) and (m, D).
    """

    column: str
    distance: Callable[[np.ndarray, np.ndarray], float]
    better: str = "lower"
    unit: str = ""


class Scorer(Protocol):
    """Hears sounds. Making one loads what it needs, or raises UserError with the install line."""

    @property
    def metrics(self) -> Mapping[str, Metric | SetMetric]:
        """Its figures, by the names that stand in a table: `WER (pocketsphinx)`."""

    def settings(self) -> dict[str, Any]:
        """Everything its numbers depend on, as JSON: model, version, decoding, normalisation."""

    def score(self, sounds: Sequence[Sound]) -> list[Score]:
        """What it tells of each sound, in their order; a sound's does not depend on the others."""


@dataclass(frozen=True)
class Estimate:
    """A figure; low, high: its 95 % interval over speakers, if it has one; count: of how many."""

    value: float
    low: float | None
    high: float | None
    count: int


def estimate(
    metric: Metric, scores: Sequence[Score], speakers: Sequence[str]
) -> Estimate | None:
    """A figure over sounds and its interval; None where it can be told of no sound.

    Sounds of which a number is None are left out: `count` says how many were not.
    """
    rows, theirs = [], []
    for score, speaker in zip(scores, speakers, strict=True):
        numbers = [score.get(column) for column in metric.columns]
        if all(isinstance(number, int | float) for number in numbers):
            rows.append(numbers)
            theirs.append(speaker)
    if not rows:
        return None
    values = np.array(rows, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(metric.figure(values.mean(0, keepdims=True))[0])
        low, high = bootstrap_interval(values, theirs, metric.figure)
    return Estimate(value, low, high, len(rows))


def set_distance(
    metric: SetMetric, made: Sequence[Score], original: Sequence[Score]
) -> Estimate | None:
    """A figure of two sets; None where there are fewer than two vectors of either."""
    sets = [
        np.array([s[metric.column] for s in scores if s.get(metric.column) is not None], float)
        for scores in (made, original)
    ]
    if min(map(len, sets)) < 2:
        return None
    return Estimate(metric.distance(*sets), None, None, len(sets[0]))
