"""Speaking on: what a recording already says of a text, and where the new sound begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.types import SAMPLE_RATE, Aligner, Alignment, AlignmentError
from voiceflow.audio.features import LogMel
from voiceflow.audio.io import resample
from voiceflow.config import UserError
from voiceflow.generation.infill import LEAST_SCORE, Layout, border_sample, check_score
from voiceflow.generation.plan import Gap, Slot, known_slots
from voiceflow.text.lexicon import Lexicon
from voiceflow.text.phones import SILENCE, with_ghost_silences

# Words a second that any reader keeps to, over a whole recording.
SLOWEST, FASTEST = 0.7, 6.0


def said_of(
    wave: np.ndarray, words: Sequence[str], aligner: Aligner, name: str
) -> tuple[int, Alignment]:
    """How many of the text's words a recording says, from the first on, and when.

    wave: (n,) mono at 16 kHz. Every number of words that fits the length is aligned, and the best
    score taken; of equal ones the most words. Raises UserError where none fits.
    """
    seconds = len(wave) / SAMPLE_RATE
    most = min(len(words), int(FASTEST * seconds) + 1)
    fewest = min(max(1, int(SLOWEST * seconds) - 1), most)
    best: tuple[float, int, Alignment] | None = None
    for count in range(fewest, most + 1):
        try:
            found = aligner.align(wave, list(words[:count]), name)
        except AlignmentError:
            continue
        score = -np.inf if found.score is None else found.score
        if best is None or score >= best[0]:
            best = score, count, found
    if best is None:
        raise UserError(
            f"{name}: no beginning of the text fits its {seconds:.2f} s of sound, expected the "
            "recording to say the text's first words: check --text"
        )
    check_score(best[0], name)
    return best[1], best[2]


def lay_out_continuation(
    wave: np.ndarray,
    words: Sequence[str],
    prefix: float | None,
    aligner: Aligner,
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
    count, alignment = len(words), None
    if prefix is not None:  # often the recording says the whole text
        try:
            alignment = aligner.align(listened, list(words), name)
        except AlignmentError:
            alignment = None
        if alignment is not None and (alignment.score or 0.0) < LEAST_SCORE:
            alignment = None
    if alignment is None:
        count, alignment = said_of(listened, words, aligner, name)
    mel = log_mel(torch.from_numpy(wave))
    n_frames = len(mel)
    known = known_slots(to_frames(alignment, n_frames, spec.hop_seconds))
    wanted = n_frames if prefix is None else round(prefix / spec.hop_seconds)
    kept, end = _up_to(known, wanted)
    if all(slot.phone == SILENCE for slot in kept):
        raise UserError(
            f"{name}: the prefix of {wanted * spec.hop_seconds:.2f} s holds no whole phone: "
            "take a longer one"
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
