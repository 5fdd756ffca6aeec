"""What a recogniser that knows nothing of the voice hears: phones, and words."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

import numpy as np

from voiceflow.alignment.pocketsphinx import BORDER_OFFSET_SECONDS, FRAME_SECONDS, PAD_SECONDS
from voiceflow.alignment.types import SAMPLE_RATE, Phone
from voiceflow.audio.io import from_float
from voiceflow.text.phones import ARPABET

# The weight of the phones' trigram model against the sound: at 1 it gives about as many phones as
# are said (on test-clean 0.93 of them, and finds 57 % in order); pocketsphinx's default of 6.5
# drops every second.
PHONE_MODEL_WEIGHT = 1.0
PHONE_BEAM = 1e-20
# Two recognisers may put the same phone's centre this far apart.
TOLERANCE_SECONDS = 0.03


class PhoneRecogniser:
    """pocketsphinx's decoder of phones: US English sounds and which phone follows which."""

    def __init__(self) -> None:
        import pocketsphinx

        self._decoder = pocketsphinx.Decoder(
            allphone=pocketsphinx.get_model_path("en-us/en-us-phone.lm.bin"),
            lm=None,
            dict=None,
            lw=PHONE_MODEL_WEIGHT,
            beam=PHONE_BEAM,
            pbeam=PHONE_BEAM,
            loglevel="FATAL",
        )

    def recognise(self, wave: np.ndarray) -> list[Phone]:
        """The phones heard, without silence and noise; wave: (n,) float mono at 16 kHz."""
        _listen(self._decoder, wave)
        found = self._decoder.seg() or ()

        def at(frame: int) -> float:
            return frame * FRAME_SECONDS + BORDER_OFFSET_SECONDS - PAD_SECONDS

        return [
            Phone(s.word, at(s.start_frame), at(s.end_frame + 1))
            for s in found
            if s.word in ARPABET
        ]


class WordRecogniser:
    """pocketsphinx's own recogniser: its US English sounds, dictionary and language model.

    model, dictionary: files of another language model (ARPA) and its words; read when it is made.
    """

    def __init__(self, model: str | None = None, dictionary: str | None = None) -> None:
        import pocketsphinx

        other = {} if model is None else {"lm": model, "dict": dictionary}
        self._decoder = pocketsphinx.Decoder(loglevel="FATAL", **other)

    def recognise(self, wave: np.ndarray) -> str:
        """The words heard, maybe none; wave: (n,) float mono at 16 kHz."""
        _listen(self._decoder, wave)
        found = self._decoder.hyp()
        return "" if found is None else str(found.hypstr)


def _listen(decoder: Any, wave: np.ndarray) -> None:
    """Run a decoder over a wave, as if it had heard nothing before."""
    padded = np.pad(wave, round(PAD_SECONDS * SAMPLE_RATE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        decoder.start_stream()
    decoder.start_utt()
    decoder.process_raw(from_float(padded, "PCM_16").tobytes(), full_utt=True)
    decoder.end_utt()


def phones_within(phones: Sequence[Phone], start: float, end: float) -> list[str]:
    """Symbols of the phones whose centre lies in start:end (seconds), give or take 30 ms."""
    low, high = start - TOLERANCE_SECONDS, end + TOLERANCE_SECONDS
    return [phone.symbol for phone in phones if low <= (phone.start + phone.end) / 2 <= high]


def longest_common(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence: how much of each stands in the other, in order."""
    best = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b):
            above = best[j + 1]
            best[j + 1] = diagonal + 1 if x == y else max(above, best[j])
            diagonal = above
    return best[-1]


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Substitutions, deletions and insertions, and the number of words that were said.

    Both texts go through Whisper's English normaliser (case, spelling, numbers, contractions).
    """
    reference, hypothesis = normalised(said).split(), normalised(heard).split()
    return edits(reference, hypothesis), len(reference)


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Substitutions, deletions and insertions between two rows of words, phones or letters."""
    import jiwer

    if not said or not heard:
        return len(said) + len(heard)
    # jiwer counts words: each thing is one, whatever it looks like.
    number = {thing: str(i) for i, thing in enumerate(dict.fromkeys([*said, *heard]))}
    reference, hypothesis = (" ".join(number[x] for x in row) for row in (said, heard))
    counted = jiwer.process_words(reference, hypothesis)
    return int(counted.substitutions + counted.deletions + counted.insertions)


def normalised(text: str) -> str:
    """A text as Whisper's English normaliser has it."""
    found: str = _normaliser()(text)
    return found


@cache
def _normaliser() -> Any:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()
