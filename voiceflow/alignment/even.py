"""No alignment at all: the transcript's phones, spread evenly.

What a ctc aligner is first trained from where nothing else can align: it learns from which phones
are said, in which order, and not from where these borders stand.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError, Phone, Word
from voiceflow.config import UserError
from voiceflow.text.lexicon import Pronounces


class EvenAligner:
    """Gives every phone of the first pronunciations as much time as any other; has no score."""

    name = "even"

    def __init__(self, lexicon: Pronounces) -> None:
        self._lexicon = lexicon

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        """wave: (n,) float32 mono at 16 kHz. Raises AlignmentError for a word without phones."""
        try:
            said = [self._lexicon.pronunciations(word)[0] for word in words]
        except UserError as error:
            raise AlignmentError(f"{id}: {error}") from None
        seconds = len(wave) / SAMPLE_RATE
        borders = iter(pairwise(np.linspace(0.0, seconds, sum(map(len, said)) + 1).tolist()))
        made = []
        for word, phones in zip(words, said, strict=True):
            timed = tuple(Phone(p, *next(borders)) for p in phones)
            made.append(Word(word, timed[0].start, timed[-1].end, timed))
        return Alignment(tuple(made), seconds)
