"""The work of a benchmark, in parts that are done whole or not at all: sounds, then scores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.io import Recording, load_mono, write
from voiceflow.benchmark.likelihood import ASKED, Weigher
from voiceflow.benchmark.protocols import EDIT, INFILL, LIKELIHOOD, NOISE_SHARES, SPEED, Trial
from voiceflow.benchmark.run import (
    PROMPT_RESYNTHESIS,
    Benchmark,
    trials_of,
    utterances_of,
    voice_of,
)
from voiceflow.benchmark.scorers import OF_THE_WHOLE, ScorerRequest, Setting, make_scorers
from voiceflow.benchmark.systems import (
    CALIBRATION,
    GRIFFIN_LIM,
    ORIGINAL,
    PROMPT,
    RESYNTHESIS,
    Corpus,
)
from voiceflow.config import UserError
from voiceflow.data.executors import Executor, rank_and_world, wait_for_all_ranks
from voiceflow.files import read_json, write_json
from voiceflow.measures.scorer import Score, Scorer, Sound
from voiceflow.measures.speech import N_OTHERS, nearest
from voiceflow.text.diff import edits
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import base_of

PART = 8  # trials that one worker takes at a time


class Work(Protocol):
    """Something to be done unit by unit, in any order and by any process."""

    def done(self, unit: Any) -> bool:
        """Whether a unit's files are there."""

    def __call__(self, unit: Any) -> None:
        """Do a unit."""


class Settled(Protocol):
    """A scorer, or another that tells scores."""

    def settings(self) -> dict[str, Any]:
        """Everything its numbers depend on, as JSON."""


def parts(trials: Sequence[Trial]) -> list[tuple[int, list[Trial]]]:
    """The trials in parts, each with its number."""
    return [(i // PART, list(trials[i : i + PART])) for i in range(0, len(trials), PART)]


@dataclass(frozen=True)
class Generate:
    """Work: the sounds of a part of the trials of a system."""

    benchmark: Benchmark

    def units(self, trials: Sequence[Trial]) -> list[tuple[str, int]]:
        """All that is to be done: (system, number of part)."""
        numbers = [number for number, _ in parts(trials)]
        return [(system, n) for system in self.benchmark.systems(trials) for n in numbers]

    def done(self, unit: tuple[str, int]) -> bool:
        """Whether its sounds are there."""
        system, number = unit
        b = self.benchmark
        return all(
            b.sound(system, t).with_suffix(".json").exists()
            for t in dict(parts(trials_of(b.out)))[number]
            if b.takes_part(system, t)
        )

    def __call__(self, unit: tuple[str, int]) -> None:
        """Make the part's sounds; a trial that cannot be made says why, and stops no other."""
        system, number = unit
        b = self.benchmark
        maker = b.system(system)
        for trial in dict(parts(trials_of(b.out)))[number]:
            path = b.sound(system, trial)
            if not b.takes_part(system, trial) or path.with_suffix(".json").exists():
                continue
            try:
                made = maker.make(trial)
            except UserError as error:
                write_json(path.with_suffix(".json"), {"failed": str(error)})
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, Recording.from_mono(made.wave, SAMPLE_RATE))
            write_json(path.with_suffix(".json"), {"generated": list(made.generated), **made.cost})


@dataclass(frozen=True)
class Judge:
    """Work: what a scorer tells of a part of the trials of a system."""

    benchmark: Benchmark
    scorers: tuple[ScorerRequest, ...]

    def units(self, trials: Sequence[Trial]) -> list[tuple[str, str, int]]:
        """All that is to be done: (scorer, system, number of part)."""
        b = self.benchmark
        systems = b.scored(trials)
        return [
            (scorer.name, system, number)
            for scorer in self.scorers
            for system in systems
            for number, part in parts(trials)
            if any(b.takes_part(system, t) and t.task != SPEED for t in part)
        ]

    def done(self, unit: tuple[str, str, int]) -> bool:
        """Whether its scores are there."""
        return self.benchmark.scores(*unit).exists()

    def __call__(self, unit: tuple[str, str, int]) -> None:
        """Score the part's sounds."""
        name, system, number = unit
        b = self.benchmark
        scorer = self.scorer(name)
        trials = [
            t
            for t in dict(parts(trials_of(b.out)))[number]
            if b.takes_part(system, t) and t.task != SPEED and b.sound(system, t).exists()
        ]
        scores = self.known(name, system, trials)
        new = [t for t in trials if t.id not in scores]
        told = scorer.score([self.heard(system, trial) for trial in new])
        scores |= {t.id: _plain(score) for t, score in zip(new, told, strict=True)}
        path = b.scores(name, system, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, scores)

    def known(self, name: str, system: str, trials: Sequence[Trial]) -> dict[str, Score]:
        """Scores of the same sounds with the same texts: originals stand in several tasks."""
        b = self.benchmark
        if name not in OF_THE_WHOLE or system not in CALIBRATION:
            return {}
        found: dict[str, Score] = {}
        for trial in trials:
            for number, part in parts(trials_of(b.out)):
                twins = [
                    t for t in part
                    if t.id != trial.id and t.utterance == trial.utterance
                    and self.told(system, t) == self.told(system, trial)
                ]  # fmt: skip
                path = b.scores(name, system, number)
                if not twins or not path.exists():
                    continue
                sound = b.sound(system, trial).read_bytes()
                for twin in twins:
                    score = read_json(path).get(twin.id)
                    if score is not None and b.sound(system, twin).read_bytes() == sound:
                        found[trial.id] = score
        return found

    def setting(self) -> Setting:
        """What the scorers are made with."""
        trials = trials_of(self.benchmark.out)
        texts = [*(t.text for t in trials), *(self.told(ORIGINAL, t) for t in trials)]
        transcripts = tuple(dict.fromkeys(texts))
        return Setting(transcripts, "mini", self.benchmark.device)

    def scorer(self, name: str) -> Scorer:
        """One of them, made once in each process."""
        [asked] = [one for one in self.scorers if one.name == name]
        return _scorer(asked, self.setting())

    def told(self, system: str, trial: Trial) -> str:
        """The text that a system's sound is held against: of an edit the recording says the old."""
        if trial.task == EDIT and system in CALIBRATION:
            return utterances_of(self.benchmark.out)[trial.utterance].text
        return trial.text

    def words(self, system: str, trial: Trial) -> list[str]:
        """What a system says in the gap of an infill or an edit, [] of other tasks."""
        if trial.task == EDIT and system in CALIBRATION:
            old = words_of(self.told(system, trial))
            return [w for e in edits(old, words_of(trial.text)) for w in old[e.first : e.last]]
        return words_of(trial.words) if trial.task in (INFILL, EDIT) else []

    def heard(self, system: str, trial: Trial) -> Sound:
        """A trial's sound with all that scorers compare it with."""
        b = self.benchmark
        wave = load_mono(b.sound(system, trial), SAMPLE_RATE)
        first, last = read_json(b.sound(system, trial).with_suffix(".json"))["generated"]
        beside = trial.task == INFILL or trial.task in NOISE_SHARES
        lexicon, text = english_lexicon(), self.told(system, trial)
        return Sound(
            id=trial.id, wave=wave, text=text, generated=(first, last),
            prompt=_loaded(b.sound(PROMPT, trial)) if trial.prompt else None,
            prompt_resynthesis=(
                _loaded(b.sound(PROMPT_RESYNTHESIS, trial)) if trial.prompt else None
            ),
            reference=_alike(_loaded(b.sound(ORIGINAL, trial)), wave)
            if beside or system in (RESYNTHESIS, GRIFFIN_LIM) else None,
            phones=tuple(
                base_of(p)
                for w in self.words(system, trial) for p in lexicon.pronunciations(w)[0]
            ),
            rivals=_rivals(b.out, trial, text),
        )  # fmt: skip


@dataclass(frozen=True)
class Weigh:
    """Work: the likelihoods of a trial's real speech and of what is made wrong of it."""

    benchmark: Benchmark

    def units(self, trials: Sequence[Trial]) -> list[str]:
        """All that is to be done: trials, by their ids."""
        return [t.id for t in trials if t.task == LIKELIHOOD]

    def done(self, unit: str) -> bool:
        """Whether its scores are there."""
        return self.benchmark.likelihoods(unit).exists()

    def __call__(self, unit: str) -> None:
        """Score the trial; one that cannot be scored says why, and stops no other."""
        b = self.benchmark
        trial = next(t for t in trials_of(b.out) if t.id == unit)
        voice = voice_of(b.voice, b.device)
        weigher = Weigher(Corpus(utterances_of(b.out)), voice, b.settings, b.seed)
        begun = time.perf_counter()
        try:
            told: dict[str, Any] = _plain(weigher.weigh(trial))
        except UserError as error:
            told = {"failed": str(error)}
        path = b.likelihoods(unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**told, "seconds": time.perf_counter() - begun})

    def settings(self) -> dict[str, Any]:
        """What the scores depend on beside the voice and the seed, as JSON."""
        return dict(ASKED)


@cache
def _scorer(asked: ScorerRequest, setting: Setting) -> Scorer:
    return make_scorers([asked], setting)[asked.name]


def _loaded(path: Path) -> np.ndarray | None:
    return load_mono(path, SAMPLE_RATE) if path.exists() else None


def _alike(reference: np.ndarray | None, wave: np.ndarray) -> np.ndarray | None:
    """A reference as long as the wave; a sample more or less comes of two rates."""
    if reference is None or abs(len(reference) - len(wave)) > 1:
        return None
    return np.pad(reference, (0, max(len(wave) - len(reference), 0)))[: len(wave)]


def _rivals(out: Path, trial: Trial, text: str) -> tuple[tuple[str, ...], ...]:
    others = [u.text for u in utterances_of(out).values() if u.id != trial.utterance]
    found = nearest(text, others)
    return tuple(map(tuple, found)) if len(found) == N_OTHERS else ()


def _plain(score: Score) -> Score:
    """Numbers that JSON has: what is not finite is told of nothing."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in score.items()
    }


def require_same(benchmark: Benchmark, scorers: Mapping[str, Settled]) -> None:
    """Write down what each scorer is; UserError where another one's scores lie there."""
    for name, scorer in scorers.items():
        path = benchmark.out / "scores" / name / "scorer.json"
        settings = scorer.settings()
        if path.exists() and (before := read_json(path)) != settings:
            keys = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
            raise UserError(
                f"{path.parent} holds what another {name} told (other: {', '.join(keys)}): remove "
                "that folder, and it is scored again"
            )
        if leads():
            write_json(path, settings)


def work_off(
    work: Work, units: Sequence[Any], executor: Executor | None, what: str
) -> None:
    """Do what is left of all units: by an executor, as a rank of torchrun, or here.

    A rank's share is of all, not of what is left: another rank may have begun already.
    """
    from rich.progress import track

    rank, world = rank_and_world()
    mine = [unit for unit in list(units)[rank::world] if not work.done(unit)]
    done: Iterator[Any] = executor.run(work, mine) if executor and mine else map(work, mine)
    for _ in track(done, what, total=len(mine), disable=rank > 0):
        pass
    wait_for_all_ranks()


def leads() -> bool:
    """Whether this process writes the result."""
    return rank_and_world()[0] == 0

