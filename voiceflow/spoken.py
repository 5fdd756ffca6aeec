"""A text of any length, spoken part by part in one voice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voiceflow.audio.io import Recording
from voiceflow.generated import Generated, joined
from voiceflow.generation.pace import given, read_durations
from voiceflow.generation.plan import PredictDurations, Slot
from voiceflow.generation.prompt import Known, as_prompt
from voiceflow.generation.ranking import Rank
from voiceflow.generation.sentences import parts_of
from voiceflow.jobs import SampleOptions, check_candidates
from voiceflow.planner import Planner
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import SILENCE

# Between the parts of a long text, beside the silence at their edges.
PAUSE_SECONDS = 0.3


@dataclass(frozen=True)
class Part:
    """What is said in one go: words, their phones, and what tells the phones' durations."""

    words: list[str]
    phones: list[str]
    predict: PredictDurations


Say = Callable[[Part, Known, SampleOptions], Generated]
"""Speaks a part after what is known."""
RankSounds = Callable[[Sequence[Recording], Sequence[str]], tuple[int, list[Rank]]]
"""(sounds, what they should say) -> the number of the best, and all their ranks."""


def parts_to_speak(
    planner: Planner, text: str, begun: Known, speed: float, durations: Path | str | None
) -> list[Part]:
    """The parts of a text that is spoken after what is known, one where it is short.

    durations: a file that `save_durations` wrote; UserError where it is not of this text.
    """
    texts = [words_of(part) for part in parts_of(text)] or [words_of(text)]
    # Without a prompt, later parts come after the first, which ends in silence.
    after = begun[0] or [Slot(SILENCE, 0)]
    spoken = [
        planner.spoken_phones(words, after if number else begun[0])
        for number, words in enumerate(texts)
    ]
    predicts = [planner.paced(speed)] * len(texts)
    if durations is not None:
        every = [phone for phones in spoken for phone in phones]
        left = read_durations(Path(durations), every, planner.features.hop_seconds)
        for number, phones in enumerate(spoken):
            predicts[number], left = given(left[: len(phones)]), left[len(phones) :]
    return [Part(*one) for one in zip(texts, spoken, predicts, strict=True)]


def speak_parts(
    parts: Sequence[Part], begun: Known, asked: SampleOptions, say: Say, rank: RankSounds
) -> Generated:
    """All parts, with pauses, in the voice of what is known, or else of the first part.

    Each candidate is the whole text, so that one seed gives all of it.
    """
    if len(parts) == 1:
        return say(parts[0], begun, asked)
    seed, count = asked.get("seed", 0), asked.get("candidates", 1)
    check_candidates(count)
    made = [
        _joined_parts(parts, begun, {**asked, "seed": seed + k, "candidates": 1}, say)
        for k in range(count)
    ]
    if count == 1:
        return made[0]
    words = [word for part in parts for word in part.words]
    chosen, ranks = rank([one.recording for one in made], words)
    return replace(
        made[chosen], ranks=tuple(ranks), chosen=chosen, nfe=sum(m.nfe for m in made),
        network_passes=sum(m.network_passes for m in made), seconds=sum(m.seconds for m in made),
    )  # fmt: skip


def _joined_parts(parts: Sequence[Part], begun: Known, asked: SampleOptions, say: Say) -> Generated:
    made: list[Generated] = []
    for part in parts:
        made.append(say(part, begun, asked))
        begun = begun if begun[0] else as_prompt(made[0].plan, made[0].mel)
    return joined(made, PAUSE_SECONDS)
