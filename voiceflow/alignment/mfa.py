"""Alignments that the Montreal Forced Aligner made beforehand, read from its TextGrids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from voiceflow.alignment.textgrid import UNKNOWN_WORD, read_textgrid
from voiceflow.alignment.types import Alignment, AlignmentError, Phone, Word
from voiceflow.config import UserError

SAMPLE_RATE = 16_000
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
    spoken = [word.text for word in alignment.spoken()]
    same = len(spoken) == len(words) and all(
        there in (here, UNKNOWN_WORD) for here, there in zip(words, spoken, strict=True)
    )
    if not same:
        raise AlignmentError(f"{id}: the TextGrid's words are {' '.join(spoken)}")
    names = iter(words)
    renamed = (replace(w, text=next(names)) if w.text else w for w in alignment.words)
    return replace(alignment, words=tuple(renamed))


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
