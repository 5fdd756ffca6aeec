"""Text as F5-TTS has it: one symbol a frame from the first frame on, then nothing to the end.

What of a network's text is not aligned with its sound the network must align itself (Chen et al.
2024, section 3.1: characters padded with fillers to the length of the speech). For comparison with
aligned phones alone: such data have no durations, and recordings cannot be cut up with their text.
"""

from __future__ import annotations

from itertools import count

import numpy as np

from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError, Phone, Word
from voiceflow.config import UserError
from voiceflow.text.lexicon import Pronounces


class UnalignedAligner:
    """Gives every symbol of a word one frame, the filler (silence) all that is left; no score.

    hop_seconds: of a frame of the features that the alignment is for.
    """

    name = "unaligned"

    def __init__(self, lexicon: Pronounces, hop_seconds: float) -> None:
        self._lexicon = lexicon
        self._hop_seconds = hop_seconds

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        """wave: (n,) float32 mono at 16 kHz. Raises AlignmentError for a word without symbols and
        for more symbols than frames.
        """
        try:
            said = [self._lexicon.pronunciations(word)[0] for word in words]
        except UserError as error:
            raise AlignmentError(f"{id}: {error}") from None
        seconds, symbols = len(wave) / SAMPLE_RATE, sum(map(len, said))
        if symbols * self._hop_seconds > seconds:
            raise AlignmentError(
                f"{id}: {symbols} symbols do not fit into {seconds:.2f} s, one a frame of "
                f"{self._hop_seconds:g} s"
            )
        frames = count()
        made = []
        for word, some in zip(words, said, strict=True):
            timed = tuple(self._at(symbol, next(frames)) for symbol in some)
            made.append(Word(word, timed[0].start, timed[-1].end, timed))
        made.append(Word.silence(made[-1].end if made else 0.0, seconds))
        return Alignment(tuple(made), seconds)

    def _at(self, symbol: str, frame: int) -> Phone:
        return Phone(symbol, frame * self._hop_seconds, (frame + 1) * self._hop_seconds)
