"""Speaking on: what a recording already says of a text, and where the new sound begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.types import SAMPLE_RATE, Aligner, Alignment, AlignmentError
from voiceflow.audio.features import LogMel
from voiceflow.audio.io import resample
from voiceflow.config import UserError
from voiceflow.generation.infill import Layout, border_sample
from voiceflow.generation.plan import Gap, Slot, known_slots
from voiceflow.text.lexicon import Lexicon
from voiceflow.text.phones import SILENCE, with_ghost_silences

# Words a second that any reader keeps to, over a whole recording.
SLOWEST, FASTEST = 0.3, 6.0
# Below this score (nats a frame, against all sounds) no beginning of the text is said: of 20 right
# beginnings from test-clean the lowest had -4.1, of 12 wrong texts at their best the highest -7.3.
LEAST_RANKED = -5.7
# Of speech in what is kept: less tells no voice.
LEAST_SECONDS = 0.1


class Ranks(Aligner, Protocol):
    """An aligner that also tells which of several texts a recording says."""

    def score(self, wave: np.ndarray, words: list[str]) -> float:
        """Nats a frame against the likeliest of all sounds; -inf where the words do not fit."""
        ...


def said_of(
    wave: np.ndarray, words: Sequence[str], aligner: Ranks, name: str
) -> tuple[int, Alignment]:
    """How many of the text's words a recording says, from the first on, and when.

    wave: (n,) mono at 16 kHz. The number with the best score; whether it is all of them is tried
    first. Raises UserError where no beginning of the text is said.
    """
    seconds = len(wave) / SAMPLE_RATE
    most = min(len(words), int(FASTEST * seconds) + 1)
    fewest = min(max(1, int(SLOWEST * seconds)), most)
    scores: dict[int, float] = {}

    def score(count: int) -> float:
        if count not in scores:
            scores[count] = aligner.score(wave, list(words[:count]))
        return scores[count]

    count = len(words)
    if most < count or score(count) < LEAST_RANKED or (
        count > 1 and score(count - 1) > score(count)
    ):
        count = _peak(score, fewest, most)
    if score(count) >= LEAST_RANKED:
        try:
            return count, aligner.align(wave, list(words[:count]), name)
        except AlignmentError:
            pass
    raise UserError(
        f"{name}: no beginning of the text seems to be what its {seconds:.2f} s of sound say "
        f"(score {score(count):.2f}, expected {LEAST_RANKED:g} or more): give the whole text from "
        "the first word that is heard"
    )


def _peak(score: Callable[[int], float], first: int, last: int) -> int:
    """The number in first..last of the best score, of equals the last.

    Scores fall on both sides of it, so every few numbers are tried first, then those around.
    """
    step = max((last - first) // 8, 1)
    while True:
        best = max({*range(first, last + 1, step), last}, key=lambda n: (score(n), n))
        if step == 1:
            return best
        first, last = max(first, best - step), min(last, best + step)
        step = max(step // 3, 1)


def lay_out_continuation(
    wave: np.ndarray,
    words: Sequence[str],
    prefix: float | None,
    aligner: Ranks,
    lexicon: Lexicon,
    log_mel: LogMel,
    name: str,
) -> Layout:
    """A prefix as it is, to the phone edge next to `prefix` seconds, then the rest of the text.

    wave: (n,) mono at the features' rate; words: the whole text, of which the recording says the
    beginning or all; prefix: None for all of the recording. The one gap replaces what comes after
    the prefix and is as long as its words take. Raises UserError where the text does not fit, no
    context or nothing to say is left.
    """
    spec = log_mel.spec
    listened = resample(wave, spec.sample_rate, SAMPLE_RATE)
    seconds = len(wave) / spec.sample_rate
    if prefix is not None and not 0 < prefix <= seconds + 1e-6:
        raise UserError(
            f"{name}: a prefix of {prefix:g} s is not within the recording's {seconds:.2f} s"
        )
    count, alignment = said_of(listened, words, aligner, name)
    mel = log_mel(torch.from_numpy(wave))
    n_frames = len(mel)
    known = known_slots(to_frames(alignment, n_frames, spec.hop_seconds))
    wanted = n_frames if prefix is None else round(prefix / spec.hop_seconds)
    kept, end = _up_to(known, wanted)
    speech = sum(s.frames for s in kept if s.phone != SILENCE) * spec.hop_seconds
    if speech < LEAST_SECONDS:
        raise UserError(
            f"{name}: the first {wanted * spec.hop_seconds:.2f} s hold {speech:.2f} s of speech in "
            f"whole phones, expected at least {LEAST_SECONDS:g} s to speak on from: "
            "take a longer prefix"
        )
    rest = [slot.phone for slot in known[len(kept) :]]
    ahead = with_ghost_silences(lexicon.pronunciations(w)[0] for w in words[count:])
    after = rest + ahead[1:] if rest else ahead[1:] if kept[-1].phone == SILENCE else ahead
    if all(phone == SILENCE for phone in after):
        raise UserError(
            f"{name}: the recording already says the whole text ({len(words)} words): give the "
            "text that shall come after it too, or a shorter --prefix"
        )
    slots = [*kept, *(Slot(phone, 0, 0) for phone in after)]
    cut = border_sample(end, n_frames, spec.hop, len(wave))
    return Layout(slots, [Gap(end, n_frames, None)], mel, [(cut, len(wave))])


def _up_to(slots: Sequence[Slot], wanted: int) -> tuple[list[Slot], int]:
    """The slots up to the edge that is nearest to frame `wanted`, and that edge."""
    edges = np.cumsum([0, *(slot.frames for slot in slots)])
    # Of edges at one place the last: phones of no frames there belong to what is kept.
    nearest = int(len(edges) - 1 - np.abs(edges[::-1] - wanted).argmin())
    return list(slots[:nearest]), int(edges[nearest])
