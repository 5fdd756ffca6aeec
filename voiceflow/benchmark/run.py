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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

from voiceflow.alignment.types import SAMPLE_RATE, AlignmentError
from voiceflow.audio.io import load_mono
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
