"""Of several samples, the one in which the words are heard best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voiceflow.alignment.types import Aligner, AlignmentError
from voiceflow.measures.words import WordRecogniser, edits


@dataclass(frozen=True)
class Rank:
    """How well a sample is understood: word errors of a free recogniser (fewer are better), and
    the alignment's score in nats a frame (more is better; None where the words could not be
    aligned)."""

    word_errors: int
    score: float | None

    @property
    def key(self) -> tuple[int, float]:
        """The least is the best."""
        return self.word_errors, np.inf if self.score is None else -self.score


def rank(
    waves: Sequence[np.ndarray], words: Sequence[str], aligner: Aligner
) -> tuple[int, list[Rank]]:
    """The number of the best sample, the first of equals, and how each ranks.

    waves: (n,) float32 mono at 16 kHz each; words: what all of them shall say.
    """
    recogniser = WordRecogniser()
    ranks = []
    for wave in waves:
        try:
            score = aligner.align(wave, list(words), "a candidate").score
        except AlignmentError:
            score = None
        heard = recogniser.recognise(wave).upper().split()
        ranks.append(Rank(edits(list(words), heard), score))
    return min(range(len(ranks)), key=lambda i: ranks[i].key), ranks
