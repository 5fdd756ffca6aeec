"""The plan of an edit: what is said gives way to other words, and the rest stays as it is.

The recording is aligned whole, with the words that are said (the heard way of an infill), and the
new text is set against them word by word. Each difference becomes one gap:

* replaced words: their phones, widened by nothing (whole phones are masked, Le et al. 2023). A
  pause beside them stays; where there is none, its ghost silence is the gap's.
* inserted words: no sound but the pause between their neighbours, if there is one. At an end of the
  recording the silence there stays, and the words stand between it and their neighbour.
* deleted words: neighbours that never met now do. One that stood beside a pause keeps its sound,
  and so does the pause; of one that ran into the deleted words the nearest phone is generated anew.
  Where both stood beside pauses, one pause is generated, as long as the longer of the two.

With `keep_length` a gap lasts as long as what it takes the place of: deleted words become a pause,
and words inserted at an end take the silence there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from voiceflow.alignment.frames import FramedAlignment, to_frames
from voiceflow.alignment.types import Alignment
from voiceflow.audio.features import LogMel
from voiceflow.config import UserError
from voiceflow.generation.infill import Layout, border_sample, check_score
from voiceflow.generation.plan import Gap, Slot, known_slots
from voiceflow.text.diff import Edit, edits, joined
from voiceflow.text.lexicon import Pronounces
from voiceflow.text.phones import SILENCE, with_ghost_silences

# A shorter silence is none that neighbours begin and end at; an aligner's are 0.1 s and more.
PAUSE_SECONDS = 0.05

Phones = tuple[str, ...]


@dataclass(frozen=True)
class _Change:
    """Slots first:last of the recording give way to `phones`; n_frames as in Gap."""

    first: int
    last: int
    phones: Phones
    n_frames: int | None = None


def lay_out_edit(
    wave: np.ndarray,
    alignment: Alignment,
    new: Sequence[str],
    lexicon: Pronounces,
    log_mel: LogMel,
    name: str,
    keep_length: bool = False,
    beside: int = 0,
    least_kept: int = 0,
) -> Layout:
    """Place a gap for every difference between what is said and `new`.

    wave: (n,) mono at the features' rate; alignment: of all of it, with the words that are said;
    new: the words as they shall be, one or more. beside: so many phones of each neighbour that no
    pause parts from a change are generated with it. least_kept: differences with fewer phones kept
    between them become one.

    Raises UserError when the aligned words are not what is said, when nothing changes or nothing
    would stay, when a new word has no pronunciation or, with keep_length, no time.
    """
    check_score(alignment.score, name)
    spec = log_mel.spec
    old = [word.text for word in alignment.spoken()]
    found = edits(old, new)
    if not found:
        raise UserError(
            f"{name}: nothing to change, the two texts have the same words: '{' '.join(old)}'"
        )
    n_frames = spec.n_frames(len(wave))
    framed = to_frames(alignment, n_frames, spec.hop_seconds)
    found = joined(found, old, [word.n_phones for word in framed.words], least_kept)
    row = _Row(framed, max(round(PAUSE_SECONDS / spec.hop_seconds), 1))
    changes = _apart([row.change(edit, lexicon, keep_length, beside) for edit in found])
    slots, gaps = _cut(known_slots(framed), changes, keep_length)
    if not any(s.gap is None and s.frames > 0 and s.phone != SILENCE for s in slots):
        raise UserError(
            f"{name}: none of what is said would stay, expected at least one word: to say "
            "something else in this voice, use speak with the recording as its prompt"
        )
    if keep_length:
        _check_room(slots, gaps, spec.hop_seconds, name)
    cuts = [
        (border_sample(gap.first, n_frames, spec.hop, len(wave)),
         border_sample(gap.last, n_frames, spec.hop, len(wave)))
        for gap in gaps
    ]
    return Layout(slots, gaps, log_mel(torch.from_numpy(wave)), cuts)


@dataclass(frozen=True)
class _Row:
    """The recording's phones; silence number w is the one before word w, the last one after all.

    pause: frames from which on a silence is a pause.
    """

    framed: FramedAlignment
    pause: int

    def change(self, edit: Edit, lexicon: Pronounces, keep_length: bool, beside: int) -> _Change:
        """What an edit does to the slots."""
        if not edit.words:
            return self._deletion(edit.first, edit.last, keep_length, max(beside, 1))
        said = with_ghost_silences(lexicon.pronunciations(word)[0] for word in edit.words)
        new = tuple(said[1:-1])
        first, last = self._silence(edit.first) + 1, self._silence(edit.last)
        takes_left = takes_right = edit.kind == "insert"
        if edit.kind == "insert" and not keep_length:
            takes_left, takes_right = edit.first > 0, edit.last < len(self.framed.words)
        if takes_left or self._is_open(edit.first, beside):
            first, before = self._before(edit.first, beside)
            new = (*before, SILENCE, *new)
        if takes_right or self._is_open(edit.last, beside):
            last, after = self._after(edit.last, beside)
            new = (*new, SILENCE, *after)
        return _Change(first, last, new)

    def _deletion(self, first_word: int, last_word: int, keep_length: bool, beside: int) -> _Change:
        a, b = self._silence(first_word), self._silence(last_word)
        if keep_length:
            return _Change(a, b + 1, (SILENCE,))
        first, before = self._before(first_word, beside)
        last, after = self._after(last_word, beside)
        if self._is_pause(first_word) and after:
            return _Change(a + 1, last, after)
        if self._is_pause(last_word) and before:
            return _Change(first, b, before)
        pause = max(self.framed.durations[a], self.framed.durations[b])
        return _Change(first, last, (*before, SILENCE, *after),
                      None if before or after else pause)

    def _silence(self, word: int) -> int:
        """The slot of a silence."""
        words = self.framed.words
        return words[word].first_phone - 1 if word < len(words) else len(self.framed.phones) - 1

    def _is_pause(self, word: int) -> bool:
        return self.framed.durations[self._silence(word)] >= self.pause

    def _is_open(self, word: int, beside: int) -> bool:
        """Whether a silence beside replaced words belongs to their gap."""
        if beside > 0:
            return not self._is_pause(word)
        return self.framed.durations[self._silence(word)] == 0

    def _before(self, word: int, n: int) -> tuple[int, Phones]:
        """The last n phones of the word before a silence, with their slot; none before a pause."""
        last = self._silence(word)
        some = word > 0 and not self._is_pause(word)
        first = last - min(n, self.framed.words[word - 1].n_phones) if some else last
        return first, self.framed.phones[first:last]

    def _after(self, word: int, n: int) -> tuple[int, Phones]:
        """The first n phones of the word after a silence, and the slot after; none at a pause."""
        first = self._silence(word) + 1
        some = word < len(self.framed.words) and not self._is_pause(word)
        last = first + min(n, self.framed.words[word].n_phones) if some else first
        return last, self.framed.phones[first:last]


def _apart(changes: Sequence[_Change]) -> list[_Change]:
    """The changes in order, in which those that touch or share phones of a word have become one.

    What they share is kept of the text, so both say it: the last of one, the first of the next.
    """
    out: list[_Change] = []
    for change in changes:
        if out and change.first <= out[-1].last:
            left = out.pop()
            shared = left.last - change.first
            change = _Change(left.first, change.last, (*left.phones, *change.phones[shared:]))
        out.append(change)
    return out


def _cut(
    slots: Sequence[Slot], changes: Sequence[_Change], keep_length: bool
) -> tuple[list[Slot], list[Gap]]:
    """The slots with the changes as gaps, whose frames are those of the slots that give way."""
    edges = np.concatenate([[0], np.cumsum([slot.frames for slot in slots])]).tolist()
    out: list[Slot] = []
    gaps: list[Gap] = []
    done = 0
    for number, change in enumerate(changes):
        first, last = edges[change.first], edges[change.last]
        out += [*slots[done : change.first], *(Slot(p, 0, number) for p in change.phones)]
        gaps.append(Gap(first, last, last - first if keep_length else change.n_frames))
        done = change.last
    return [*out, *slots[done:]], gaps


def _check_room(slots: Sequence[Slot], gaps: Sequence[Gap], hop_seconds: float, name: str) -> None:
    """UserError where a gap of given length has fewer frames than phones."""
    for number, gap in enumerate(gaps):
        spoken = sum(1 for s in slots if s.gap == number and s.phone != SILENCE)
        if (gap.n_frames or 0) < spoken:
            raise UserError(
                f"{name}: {(gap.last - gap.first) * hop_seconds:.2f} s of sound at "
                f"{gap.first * hop_seconds:.2f} s cannot hold the {spoken} phones that shall stand "
                "there: let the length change, or use fewer words"
            )
