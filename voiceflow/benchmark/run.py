"""A benchmark from the list of trials to the result, in stages that go on where they stopped.

    OUT/trials.jsonl, trials.sha256    what is to be generated, written first
    OUT/benchmark.json                 what it is generated with; another voice needs another OUT
    OUT/audio/SYSTEM/TRIAL.wav, .json  the sounds (16 kHz) and what they cost
    OUT/scores/SCORER/SYSTEM/N.json    what a scorer told, eight trials a file
    OUT/scores/likelihood/SYSTEM/TRIAL.json
    OUT/results.json, results.md, report.html

Generating and scoring are apart: another scorer is added without generating again. Work is cut
into parts of eight trials, which processes of this machine, a Ray cluster, or the ranks of torchrun
take; a part's files are written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError
from voiceflow.audio.io import load_mono
from voiceflow.benchmark.likelihood import draw_pairs, runs_of
from voiceflow.benchmark.protocols import (
    EDIT,
    INFILL,
    KEPT_AROUND,
    LIKELIHOOD,
    NOISE_SHARES,
    SILENT,
    SPEED,
    Trial,
    make_trials,
    read_trials,
    sha256_of,
    write_trials,
)
from voiceflow.benchmark.systems import (
    CALIBRATION,
    GRIFFIN_LIM,
    NOISY,
    ORIGINAL,
    PROMPT,
    RESYNTHESIS,
    Corpus,
    Folder,
    Noisy,
    Originals,
    Prompts,
    Resynthesis,
    System,
    VoiceSystem,
)
from voiceflow.config import BenchmarkConfig, SampleConfig, UserError
from voiceflow.data.manifest import Utterance, read_manifest, write_manifest
from voiceflow.files import read_json, write_json
from voiceflow.measures.infill import Gap, choose_gap
from voiceflow.measures.subject import recipe
from voiceflow.text.normalise import words_of
from voiceflow.vocoders.griffin_lim import GriffinLim
from voiceflow.voice import Voice

PROMPT_RESYNTHESIS = "prompt-resynthesis"
TRIALS, SETUP, UTTERANCES = "trials.jsonl", "benchmark.json", "utterances.jsonl"


@dataclass(frozen=True)
class Benchmark:
    """What is asked: plain values, so that every worker can be handed it.

    out: the folder; voice: a name or folder; settings: how it samples; outputs: a folder of a
    foreign system's sounds to be scored in the voice's place, "" for none; seed: of lists and of
    the first sample; seeds: samples of each trial; device: of the voice's network and of the
    scorers.
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
            if not isinstance(voice_of(self.voice, self.device).vocoder, GriffinLim):
                found.append(GRIFFIN_LIM)
            if any(t.task in NOISE_SHARES for t in trials):
                found.append(NOISY)
        elif any(t.task in KEPT_AROUND for t in trials):
            found = [ORIGINAL]
        prompts = [PROMPT, PROMPT_RESYNTHESIS] if any(t.prompt for t in trials) else []
        return [*found, *prompts, *self.tested()]

    def scored(self, trials: Sequence[Trial]) -> list[str]:
        """Those of `systems` that have rows: calibration where it is asked for, what is tested."""
        rows = [*(CALIBRATION if self.calibrate else ()), *self.tested()]
        return [system for system in self.systems(trials) if system in rows]

    def takes_part(self, system: str, trial: Trial) -> bool:
        """Whether a system makes a sound of a trial."""
        if trial.task in SILENT:
            return False
        if trial.task == SPEED:
            return system in self.tested() and not self.outputs
        if system == NOISY:
            return trial.task in NOISE_SHARES
        return bool(trial.prompt) if system in (PROMPT, PROMPT_RESYNTHESIS) else True

    def system(self, name: str) -> System:
        """One of `systems`."""
        corpus = Corpus(utterances_of(self.out))
        if name == ORIGINAL:
            return Originals(corpus)
        if name == NOISY:
            return Noisy(corpus)
        if name == PROMPT:
            return Prompts(corpus)
        voice = voice_of(self.voice, self.device)
        if name in self.tested():
            if self.outputs:
                return Folder(Path(self.outputs))
            return VoiceSystem(corpus, voice, self.settings, self.tested()[name])
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

    def likelihoods(self, trial: str) -> Path:
        """Where those of a trial, named by its id, lie: of one seed, for no sample is drawn."""
        return self.out / "scores" / LIKELIHOOD / f"{self.name}-{self.seed}" / f"{trial}.json"


@cache
def voice_of(name: str, device: str = "cpu") -> Voice:
    """A voice, loaded once in each process."""
    return Voice.load(name, device=device)


@cache
def utterances_of(out: Path) -> dict[str, Utterance]:
    """The utterances of a benchmark's folder, read once in each process."""
    return {u.id: u for u in read_manifest(out / UTTERANCES)}


@cache
def trials_of(out: Path) -> tuple[Trial, ...]:
    """The trials of a benchmark's folder, read once in each process."""
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
    if benchmark.name in (*CALIBRATION, PROMPT, PROMPT_RESYNTHESIS):
        raise UserError(
            f"--outputs {benchmark.outputs}: '{benchmark.name}' is the name of a row of the "
            "result: call the folder otherwise"
        )
    voice = voice_of(benchmark.voice, benchmark.device)
    needs_durations = [t for t in protocol.tasks if t != INFILL]
    if voice.folder.config.duration is None and not benchmark.outputs:
        raise UserError(
            f"{voice.folder.path} has no duration network, which "
            f"{', '.join(needs_durations) or 'filling a gap'} needs: train one, task=duration"
        )
    hears_noise = [t for t in protocol.tasks if t in NOISE_SHARES]
    if hears_noise and voice.folder.config.aligner is None and not benchmark.outputs:
        raise UserError(
            f"{voice.folder.path} has no aligner, which {', '.join(hears_noise)} needs: train one, "
            "task=aligner"
        )
    setup, path = benchmark.out / SETUP, benchmark.out / TRIALS
    before = read_json(setup) if setup.exists() else None
    places: _Aligned | _Listed = _Aligned(voice, benchmark.seed)
    # An alignment of every recording takes its time: what a list says of it is not asked again.
    if before is not None and {INFILL, EDIT, LIKELIHOOD} & set(protocol.tasks):
        wanted = {"protocol": asdict(protocol), "seed": benchmark.seed, "limit": limit}
        old = read_trials(path)
        differing = [name for name, value in wanted.items() if before.get(name) != value]
        if not {t.utterance for t in old} <= {u.id for u in every}:
            differing.append("utterances")
        if differing:
            raise _another(benchmark.out, ", ".join(differing))
        places = _Listed(old)
    trials = make_trials(
        protocol, every, seed=benchmark.seed, limit=limit, listed=listed,
        find_gap=places.gap, find_word=places.word, find_pairs=places.pairs,
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
    if before is not None:
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


class _Aligned:
    """Gaps and words of utterances, each of whose recordings is aligned once."""

    def __init__(self, voice: Voice, seed: int) -> None:
        self.voice, self.seed = voice, seed
        self._found: dict[str, Alignment | None] = {}

    def gap(self, utterance: Utterance) -> Gap | None:
        """What an infill takes out."""
        alignment = self._alignment(utterance)
        return None if alignment is None else choose_gap(alignment, self.seed, utterance.id)

    def word(self, utterance: Utterance, number: int) -> tuple[float, float] | None:
        """When a word is said."""
        alignment = self._alignment(utterance)
        if alignment is None:
            return None
        word = alignment.spoken()[number]
        return word.start, word.end

    def pairs(
        self, utterance: Utterance, pool: Sequence[Utterance], every: Sequence[Utterance]
    ) -> Trial | None:
        """What is scored, and what it is made wrong with."""
        return draw_pairs(utterance, pool, every, self._runs, self.seed)

    def _runs(self, utterance: Utterance) -> list[Gap]:
        alignment = self._alignment(utterance)
        return [] if alignment is None else runs_of(alignment)

    def _alignment(self, utterance: Utterance) -> Alignment | None:
        if utterance.id not in self._found:
            wave, words = load_mono(utterance.audio, SAMPLE_RATE), words_of(utterance.text)
            try:
                self._found[utterance.id] = self.voice.aligner.align(wave, words, utterance.id)
            except AlignmentError:
                self._found[utterance.id] = None
        return self._found[utterance.id]


class _Listed:
    """The gaps and words that stand in a list of trials."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._of = {(t.task, t.utterance): t for t in trials}

    def gap(self, utterance: Utterance) -> Gap | None:
        """What an infill takes out."""
        trial = self._of.get((INFILL, utterance.id))
        if trial is None:
            return None
        return Gap(trial.span_start, trial.span_end, tuple(trial.words.split()), ())

    def word(self, utterance: Utterance, number: int) -> tuple[float, float] | None:
        """When a word is said."""
        trial = self._of.get((EDIT, utterance.id))
        return None if trial is None else (trial.span_start, trial.span_end)

    def pairs(
        self, utterance: Utterance, pool: Sequence[Utterance], every: Sequence[Utterance]
    ) -> Trial | None:
        """What is scored, and what it is made wrong with."""
        return self._of.get((LIKELIHOOD, utterance.id))
