"""The real-time factor of a voice: seconds of work for a second of new sound, and in which part.

Sentences are spoken end to end by `Voice.speak`, each preset in turn. The voice is loaded and warm.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from voiceflow.audio.io import read
from voiceflow.benchmark.machine import load_average, processor
from voiceflow.benchmark.sampling import threads_of
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.generated import Generated
from voiceflow.jobs import PRESETS
from voiceflow.model_folder import ModelFolder
from voiceflow.vocoders.choice import Vocodes, make_vocoder
from voiceflow.voice import Voice

OWN = "own"
SENTENCES = (
    "The harbour was quiet when the last of the fishing boats came home.",
    "She had promised to write every week, and for a whole year she kept her word.",
    "Nobody could say how long the old clock on the wall had been standing still.",
)
PROMPT_SECONDS = (3.0, 6.0)
HEADER = (
    "| preset | real-time factor | planning | sampling | vocoder | CPU seconds "
    "| seconds of new sound |",
    "|---|---|---|---|---|---|---|",
)


class Speaks(Protocol):
    """What is measured of a `Voice`."""

    def speak(
        self, text: str, *, prompt: Path | None, prompt_text: str | None, preset: str | None
    ) -> Generated: ...


class Timed:
    """A vocoder whose seconds are counted."""

    def __init__(self, vocoder: Vocodes) -> None:
        self.seconds = 0.0
        self._vocoder = vocoder

    def __call__(self, log_mel: Tensor) -> Tensor:
        """As the vocoder."""
        begun = time.perf_counter()
        wave = self._vocoder(log_mel)
        self.seconds += time.perf_counter() - begun
        return wave


@dataclass(frozen=True)
class Prompt:
    """A recording and what it says."""

    audio: Path
    text: str


@dataclass(frozen=True)
class Turn:
    """Seconds of work and of new sound, added up over what was spoken.

    planning: text, durations, and reading, analysing and aligning the prompt; sampling: all after
    that but the vocoder.
    """

    planning: float
    sampling: float
    vocoder: float
    sound: float
    cpu: float = 0.0  # of all threads, for all of it

    @property
    def factor(self) -> float:
        """Work over sound."""
        return (self.planning + self.sampling + self.vocoder) / self.sound


def take_turn(
    voice: Speaks, vocoder: Timed, texts: Sequence[str], prompts: Sequence[Prompt], preset: str
) -> Turn:
    """Each text spoken once, with the prompts one after the other where there are any."""
    planning = sampling = sound = 0.0
    vocoding, worked = vocoder.seconds, time.process_time()
    for number, text in enumerate(texts):
        prompt = prompts[number % len(prompts)] if prompts else None
        begun = time.perf_counter()
        made = voice.speak(
            text,
            prompt=None if prompt is None else prompt.audio,
            prompt_text=None if prompt is None else prompt.text,
            preset=None if preset == OWN else preset,
        )
        planning += time.perf_counter() - begun - made.seconds
        sampling += made.seconds
        sound += made.recording.seconds
    vocoding, worked = vocoder.seconds - vocoding, time.process_time() - worked
    return Turn(planning, sampling - vocoding, vocoding, sound, worked)


@dataclass(frozen=True)
class Row:
    """A preset's medians over rounds: seconds for a second of new sound.

    factor, lowest_factor, highest_factor: of everything, and in the best and worst round;
    cpu_factor: of all threads' CPU seconds, which other work on the machine changes less.
    """

    preset: str
    factor: float
    lowest_factor: float
    highest_factor: float
    planning: float
    sampling: float
    vocoder: float
    cpu_factor: float
    sound_seconds: float

    @staticmethod
    def of(preset: str, turns: Sequence[Turn]) -> Row:
        """turns: one a round."""
        factors = [turn.factor for turn in turns]
        return Row(
            preset,
            statistics.median(factors),
            min(factors),
            max(factors),
            statistics.median(turn.planning / turn.sound for turn in turns),
            statistics.median(turn.sampling / turn.sound for turn in turns),
            statistics.median(turn.vocoder / turn.sound for turn in turns),
            statistics.median(turn.cpu / turn.sound for turn in turns),
            statistics.median(turn.sound for turn in turns),
        )

    def as_text(self) -> str:
        """A row of the table."""
        return (
            f"| {self.preset} | **{self.factor:.2f}** ({self.lowest_factor:.2f} to "
            f"{self.highest_factor:.2f}) | {self.planning:.3f} | {self.sampling:.3f} "
            f"| {self.vocoder:.3f} | {self.cpu_factor:.2f} | {self.sound_seconds:.1f} |"
        )


def choose_prompts(utterances: Iterable[Utterance], count: int) -> list[Prompt]:
    """The first utterance of 3 to 6 s of each of the first speakers who have one.

    Raises UserError where there are fewer than `count`.
    """
    shortest, longest = PROMPT_SECONDS
    found: dict[str, Prompt] = {}
    for one in utterances:
        if len(found) == count:
            break
        if one.speaker in found:
            continue
        seconds = one.seconds or read(one.audio).seconds
        if shortest <= seconds <= longest:
            found[one.speaker] = Prompt(Path(one.audio), one.text)
    if len(found) < count:
        raise UserError(
            f"{count} speakers with an utterance of {shortest:g} to {longest:g} s are needed as "
            f"prompts, found {len(found)}: name another subset, or leave --data out"
        )
    return list(found.values())


def check_presets(presets: Sequence[str]) -> None:
    """UserError for one that is not known."""
    for preset in presets:
        if preset not in (OWN, *PRESETS):
            raise UserError(f"preset '{preset}' is not one of {', '.join((OWN, *PRESETS))}")


def compare(
    voice: Speaks,
    vocoder: Timed,
    texts: Sequence[str],
    prompts: Sequence[Prompt],
    presets: Sequence[str],
    rounds: int,
) -> list[Row]:
    """A row of each preset; a round before the first warms all up, and is not counted."""
    turns: dict[str, list[Turn]] = {preset: [] for preset in presets}
    for number in range(rounds + 1):
        for preset in presets:
            turn = take_turn(voice, vocoder, texts, prompts, preset)
            if number:
                turns[preset].append(turn)
    return [Row.of(preset, taken) for preset, taken in turns.items()]


def measure_real_time(
    name: str,
    presets: Sequence[str],
    *,
    texts: Sequence[str] = SENTENCES,
    prompts: Sequence[Prompt] = (),
    rounds: int = 3,
    threads: int | None = None,
) -> dict[str, Any]:
    """Speak with the voice `name`, print one table, and give the same for JSON.

    Raises UserError for a preset that is not known.
    """
    check_presets(presets)
    folder = ModelFolder.open(name)
    vocoder = Timed(make_vocoder(folder))
    loads = [load_average()]
    with threads_of(threads) as had:
        begun, worked = time.perf_counter(), time.process_time()
        rows = compare(Voice(folder, vocoder), vocoder, texts, prompts, presets, rounds)
        busy = (time.process_time() - worked) / (time.perf_counter() - begun) / had
    loads.append(load_average())
    print(
        f"{processor()}, {had} threads, torch {torch.__version__}; voice {name}, {len(texts)} "
        f"sentences {'each with a prompt' if prompts else 'without a prompt'}, {rounds} rounds; "
        f"load average {loads[0]:.1f} before and {loads[1]:.1f} after, {busy:.0%} of the threads' "
        "time was had",
        "",
        *HEADER,
        *(row.as_text() for row in rows),
        sep="\n",
        flush=True,
    )
    return {
        "machine": processor(),
        "torch": str(torch.__version__),
        "threads": had,
        "voice": name,
        "texts": list(texts),
        "prompts": [{"audio": p.audio.name, "text": p.text} for p in prompts],
        "rounds": rounds,
        "load_average": loads,
        "share_of_cpu_time": busy,
        "rows": [asdict(row) for row in rows],
    }
