"""A benchmark from the list of trials to the result, in stages that go on where they stopped.

    OUT/trials.jsonl, trials.sha256    what is to be generated, written first
    OUT/benchmark.json                 what it is generated with; another voice needs another OUT
    OUT/audio/SYSTEM/TRIAL.wav, .json  the sounds (16 kHz) and what they cost
    OUT/scores/SCORER/SYSTEM/N.json    what a scorer told, eight trials a file
    OUT/results.json, results.md, report.html

Generating and scoring are apart: another scorer is added without generating again. Work is cut
into parts of eight trials, which processes of this machine, a Ray cluster, or the ranks of torchrun
take; a part's files are written whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE, AlignmentError
from voiceflow.audio.io import Recording, load_mono, write
from voiceflow.benchmark.protocols import (
    DURATIONS,
    INFILL,
    SPEED,
    Trial,
    make_trials,
    read_trials,
    sha256_of,
    write_trials,
)
from voiceflow.benchmark.scorers import OF_THE_WHOLE, Asked, Setting, make_scorers
from voiceflow.benchmark.systems import (
    CALIBRATION,
    GRIFFIN_LIM,
    ORIGINAL,
    PROMPT,
    RESYNTHESIS,
    Corpus,
    Folder,
    Originals,
    Prompts,
    Resynthesis,
    System,
    VoiceSystem,
)
from voiceflow.config import BenchmarkConfig, SampleConfig, UserError
from voiceflow.data.executors import Executor
from voiceflow.data.manifest import Utterance, read_manifest, write_manifest
from voiceflow.files import read_json, write_json
from voiceflow.measures.infill import Gap, choose_gap
from voiceflow.measures.scorer import Score, Scorer, Sound
from voiceflow.measures.speech import N_OTHERS, nearest
from voiceflow.measures.subject import recipe
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import base_of
from voiceflow.vocoders.griffin_lim import GriffinLim
from voiceflow.voice import Voice

PART = 8  # trials that one worker takes at a time
PROMPT_RESYNTHESIS = "prompt-resynthesis"
TRIALS, SETUP, UTTERANCES = "trials.jsonl", "benchmark.json", "utterances.jsonl"


@dataclass(frozen=True)
class Benchmark:
    """What is asked: plain values, so that every worker can be handed it.

    out: the folder; voice: a name or folder; settings: how it samples; outputs: a folder of a
    foreign system's sounds to be scored in the voice's place, "" for none; seed: of lists and of
    the first sample; seeds: samples of each trial; device: of the scorers.
    """

    out: Path
    voice: str
    settings: SampleConfig
    outputs: str = ""
    seed: int = 0
    seeds: int = 1
    calibrate: bool = True
    device: str = "cpu"

    @property
    def name(self) -> str:
        """What the system under test is called."""
        return Path(self.outputs or self.voice).name

    def tested(self) -> dict[str, int]:
        """The system under test, once for each seed."""
        if self.outputs:
            return {self.name: self.seed}
        return {f"{self.name}-{seed}": seed for seed in range(self.seed, self.seed + self.seeds)}

    def systems(self, trials: Sequence[Trial]) -> list[str]:
        """All that make sounds: calibration first, then what is tested, and the prompts."""
        found = []
        if self.calibrate:
            found = [ORIGINAL, RESYNTHESIS]
            if not isinstance(voice_of(self.voice).vocoder, GriffinLim):
                found.append(GRIFFIN_LIM)
        elif any(t.task == INFILL for t in trials):
            found = [ORIGINAL]
        prompts = [PROMPT, PROMPT_RESYNTHESIS] if any(t.prompt for t in trials) else []
        return [*found, *prompts, *self.tested()]

    def takes_part(self, system: str, trial: Trial) -> bool:
        """Whether a system makes a sound of a trial."""
        if trial.task == DURATIONS:
            return False
        if trial.task == SPEED:
            return system in self.tested() and not self.outputs
        return bool(trial.prompt) if system in (PROMPT, PROMPT_RESYNTHESIS) else True

    def system(self, name: str) -> System:
        """One of `systems`."""
        corpus = Corpus(utterances_of(self.out))
        if name == ORIGINAL:
            return Originals(corpus)
        if name == PROMPT:
            return Prompts(corpus)
        if name in self.tested():
            if self.outputs:
                return Folder(Path(self.outputs))
            return VoiceSystem(corpus, voice_of(self.voice), self.settings, self.tested()[name])
        voice = voice_of(self.voice)
        if name == PROMPT_RESYNTHESIS:
            return Prompts(corpus, Resynthesis(corpus, voice))
        other = GriffinLim(voice.features) if name == GRIFFIN_LIM else None
        return Resynthesis(corpus, voice, other)

    def sound(self, system: str, trial: Trial) -> Path:
        """Where a trial's sound lies."""
        return self.out / "audio" / system / f"{trial.id}.wav"

    def scores(self, scorer: str, system: str, number: int) -> Path:
        """Where the scores of a part lie."""
        return self.out / "scores" / scorer / system / f"{number:05d}.json"


@cache
def voice_of(name: str) -> Voice:
    """A voice, loaded once in each process."""
    return Voice.load(name)


@cache
def utterances_of(out: Path) -> dict[str, Utterance]:
    """The utterances of a benchmark's folder, read once in each process."""
    return {u.id: u for u in read_manifest(out / UTTERANCES)}


@cache
def _trials(out: Path) -> tuple[Trial, ...]:
    return tuple(read_trials(out / TRIALS))


def set_up(
    benchmark: Benchmark,
    protocol: BenchmarkConfig,
    utterances: Iterable[Utterance],
    *,
    corpus: Mapping[str, str] | None = None,
    limit: int | None = None,
    listed: Path | None = None,
) -> list[Trial]:
    """Write the list of trials and what it is generated with, or find that they are there already.

    Raises UserError before anything is generated: where the folder holds another benchmark, a
    voice lacks what the protocol needs, or a foreign system's sounds are not complete.
    """
    every = list(utterances)
    voice = voice_of(benchmark.voice)
    needs_durations = [t for t in protocol.tasks if t != INFILL]
    if voice.folder.config.duration is None and not benchmark.outputs:
        raise UserError(
            f"{voice.folder.path} has no duration network, which "
            f"{', '.join(needs_durations) or 'filling a gap'} needs: train one, task=duration"
        )
    # Gaps are chosen by an alignment of every recording: those of a list written before stay.
    path = benchmark.out / TRIALS
    if path.exists() and protocol.tasks == [INFILL]:
        trials = read_trials(path)
        ids = {t.utterance for t in make_trials(
            BenchmarkConfig(protocol.name, [SPEED], protocol.min_seconds, protocol.max_seconds),
            every, seed=benchmark.seed, limit=limit)}  # fmt: skip
        if {t.task for t in trials} != {INFILL} or not {t.utterance for t in trials} <= ids:
            raise _another(benchmark.out, "another list of trials")
    else:
        trials = make_trials(
            protocol, every, seed=benchmark.seed, limit=limit, listed=listed,
            find_gap=partial(_gap, voice, benchmark.seed),
        )  # fmt: skip
    if benchmark.outputs and (missing := Folder(Path(benchmark.outputs)).missing(
            [t for t in trials if benchmark.takes_part(benchmark.name, t)])):  # fmt: skip
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UserError(
            f"{benchmark.outputs} lacks sounds of {len(missing)} of {len(trials)} trials "
            f"({', '.join(missing[:5])}{more}): each is expected as TRIAL.wav"
        )
    asked = {
        **recipe(voice, benchmark.settings, benchmark.seed),
        "protocol": asdict(protocol),
        "seeds": benchmark.seeds,
        "limit": limit,
        "corpus": dict(corpus or {}),
        "outputs": benchmark.outputs,
        "sha256": sha256_of(trials),
    }
    setup = benchmark.out / SETUP
    if setup.exists():
        before = read_json(setup)
        same = ("voice_fingerprint", "settings", "seed", "protocol", "seeds", "outputs", "sha256")
        if differing := [name for name in same if before.get(name) != asked[name]]:
            raise _another(benchmark.out, ", ".join(differing))
        return trials
    write_manifest(benchmark.out / UTTERANCES, sorted(every, key=lambda u: u.id))
    write_trials(path, trials)
    write_json(setup, asked)
    return trials


def _another(out: Path, what: str) -> UserError:
    return UserError(f"{out} holds another benchmark (other: {what}): choose another --out")


def _gap(voice: Voice, seed: int, utterance: Utterance) -> Gap | None:
    try:
        wave = load_mono(utterance.audio, SAMPLE_RATE)
        alignment = voice.aligner.align(wave, words_of(utterance.text), utterance.id)
    except AlignmentError:
        return None
    return choose_gap(alignment, seed, utterance.id)


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
            for t in dict(parts(_trials(b.out)))[number]
            if b.takes_part(system, t)
        )

    def __call__(self, unit: tuple[str, int]) -> None:
        """Make the part's sounds; a trial that cannot be made says why, and stops no other."""
        system, number = unit
        b = self.benchmark
        maker = b.system(system)
        for trial in dict(parts(_trials(b.out)))[number]:
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
    scorers: tuple[Asked, ...]

    def units(self, trials: Sequence[Trial]) -> list[tuple[str, str, int]]:
        """All that is to be done: (scorer, system, number of part)."""
        b = self.benchmark
        systems = [s for s in b.systems(trials) if s in (*CALIBRATION, *b.tested())]
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
            for t in dict(parts(_trials(b.out)))[number]
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
            for number, part in parts(_trials(b.out)):
                twins = [
                    t for t in part
                    if t.id != trial.id and (t.utterance, t.text) == (trial.utterance, trial.text)
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
        transcripts = tuple(dict.fromkeys(t.text for t in _trials(self.benchmark.out)))
        return Setting(transcripts, "mini", self.benchmark.device)

    def scorer(self, name: str) -> Scorer:
        """One of them, made once in each process."""
        [asked] = [one for one in self.scorers if one.name == name]
        return _scorer(asked, self.setting())

    def heard(self, system: str, trial: Trial) -> Sound:
        """A trial's sound with all that scorers compare it with."""
        b = self.benchmark
        wave = load_mono(b.sound(system, trial), SAMPLE_RATE)
        first, last = read_json(b.sound(system, trial).with_suffix(".json"))["generated"]
        gap = trial.task == INFILL
        lexicon = english_lexicon()
        return Sound(
            id=trial.id, wave=wave, text=trial.text, generated=(first, last),
            prompt=_loaded(b.sound(PROMPT, trial)) if trial.prompt else None,
            prompt_resynthesis=(
                _loaded(b.sound(PROMPT_RESYNTHESIS, trial)) if trial.prompt else None
            ),
            reference=_alike(_loaded(b.sound(ORIGINAL, trial)), wave)
            if gap or system in (RESYNTHESIS, GRIFFIN_LIM) else None,
            phones=tuple(
                base_of(p) for w in words_of(trial.words) for p in lexicon.pronunciations(w)[0]
            ) if gap else (),
            rivals=_rivals(b.out, trial),
        )  # fmt: skip


@cache
def _scorer(asked: Asked, setting: Setting) -> Scorer:
    return make_scorers([asked], setting)[asked.name]


def _loaded(path: Path) -> np.ndarray | None:
    return load_mono(path, SAMPLE_RATE) if path.exists() else None


def _alike(reference: np.ndarray | None, wave: np.ndarray) -> np.ndarray | None:
    """A reference as long as the wave; a sample more or less comes of two rates."""
    if reference is None or abs(len(reference) - len(wave)) > 1:
        return None
    return np.pad(reference, (0, max(len(wave) - len(reference), 0)))[: len(wave)]


def _rivals(out: Path, trial: Trial) -> tuple[tuple[str, ...], ...]:
    others = [u.text for u in utterances_of(out).values() if u.id != trial.utterance]
    found = nearest(trial.text, others)
    return tuple(map(tuple, found)) if len(found) == N_OTHERS else ()


def _plain(score: Score) -> Score:
    """Numbers that JSON has: what is not finite is told of nothing."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in score.items()
    }


def require_same(benchmark: Benchmark, scorers: Mapping[str, Scorer]) -> None:
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
    work: Generate | Judge, units: Sequence[Any], executor: Executor | None, what: str
) -> None:
    """Do what is left of all units: by an executor, as a rank of torchrun, or here.

    A rank's share is of all, not of what is left: another rank may have begun already.
    """
    from rich.progress import track

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    mine = [unit for unit in list(units)[rank::world] if not work.done(unit)]
    done: Iterator[Any] = executor.run(work, mine) if executor and mine else map(work, mine)
    for _ in track(done, what, total=len(mine), disable=rank > 0):
        pass
    if world > 1:
        from accelerate import PartialState

        PartialState(cpu=not torch.accelerator.is_available()).wait_for_everyone()


def leads() -> bool:
    """Whether this process writes the result."""
    return int(os.environ.get("RANK", 0)) == 0

