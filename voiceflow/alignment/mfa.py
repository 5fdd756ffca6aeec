"""Alignments that the Montreal Forced Aligner made beforehand, read from its TextGrids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from voiceflow.alignment.textgrid import UNKNOWN_WORD, read_textgrid
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError, Phone, Word
from voiceflow.config import UserError

MOST_SECONDS_APART = 0.05


class MfaAligner:
    """Finds each utterance's TextGrid by its id, anywhere under `folder`.

    stress: whether vowels keep their stress digit. Raises UserError where the folder is missing
    or holds no TextGrid.
    """

    name = "mfa"

    def __init__(self, folder: Path | str, stress: bool = False):
        self._stress = stress
        self._folder = Path(folder)
        self._paths = {path.stem: path for path in sorted(self._folder.rglob("*.TextGrid"))}
        if not self._paths:
            raise UserError(f"{folder}: expected a folder of TextGrids, found none there")

    def __contains__(self, id: str) -> bool:
        """Whether the utterance has a TextGrid."""
        return id in self._paths

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        """The TextGrid's borders under the given words.

        wave: (n,) float32 mono at 16 kHz. Raises AlignmentError where the utterance has no
        TextGrid, or one of other words or of another length than the audio.
        """
        if id not in self._paths:
            raise AlignmentError(f"{id}: no {id}.TextGrid under {self._folder}")
        found = read_textgrid(self._paths[id], self._stress)
        seconds = len(wave) / SAMPLE_RATE
        if abs(found.seconds - seconds) > MOST_SECONDS_APART:
            raise AlignmentError(
                f"{id}: the TextGrid ends at {found.seconds:.2f} s, the audio at {seconds:.2f} s"
            )
        return _fit(_rename(found, words, id), seconds)


def _rename(alignment: Alignment, words: list[str], id: str) -> Alignment:
    """The alignment under the transcript's own words."""
    spoken = alignment.spoken()
    made: list[Word] = []
    names = list(reversed(words))
    left = list(reversed(alignment.words))
    while left:
        word = left.pop()
        if word.text:
            name = names.pop() if names else ""
            while word.text not in (name, UNKNOWN_WORD) and left and _begins(word, left[-1], name):
                word = _joined(word, left.pop())
            if not name or word.text not in (name, name.replace("'", ""), UNKNOWN_WORD):
                raise AlignmentError(
                    f"{id}: the TextGrid's words are {' '.join(w.text for w in spoken)}"
                )
            word = replace(word, text=name)
        made.append(word)
    if names:
        raise AlignmentError(f"{id}: the TextGrid ends before the word {names[-1]}")
    return replace(alignment, words=tuple(made))


def _begins(word: Word, following: Word, name: str) -> bool:
    """Whether the two are pieces of one word, as MFA cuts COSETTE'S into COSETTE and S."""
    pieces = word.text + following.text
    return bool(following.text) and name.replace("'", "").startswith(pieces.replace("'", ""))


def _joined(word: Word, following: Word) -> Word:
    text, phones = word.text + following.text, word.phones + following.phones
    return Word(text, word.start, following.end, phones)


def _fit(alignment: Alignment, seconds: float) -> Alignment:
    """Every border within the audio, the last one at its end."""
    last = alignment.seconds

    def at(border: float) -> float:
        return seconds if border >= last else min(border, seconds)

    words = tuple(
        Word(
            word.text,
            at(word.start),
            at(word.end),
            tuple(Phone(p.symbol, at(p.start), at(p.end)) for p in word.phones),
        )
        for word in alignment.words
    )
    return Alignment(words, seconds, alignment.score)
