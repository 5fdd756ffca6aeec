"""Forced alignment by pocketsphinx: words, phones and pauses from audio and its transcript."""

from __future__ import annotations

import math
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError, Phone, Word
from voiceflow.config import UserError
from voiceflow.text.lexicon import Lexicon
from voiceflow.text.phones import ARPABET

FRAME_SECONDS = 0.01
# The search expects silence at both ends, which a cut-out piece of speech may lack.
PAD_SECONDS = 0.2
# Frame i is a window of 25.6 ms that starts at i * 10 ms; the border ahead of it, half a hop before
# its centre, lies at i * 10 + 7.8 ms. Against MFA's borders the median is -10 ms without this.
BORDER_OFFSET_SECONDS = 0.01
# A search that prunes too much loses the path to the last word; each next one costs more time.
BEAMS = (1e-80, 1e-160, 1e-300)
NATS_PER_SCORE = 1024 * math.log(1.0001)  # pocketsphinx counts in 1024ths of log base 1.0001

_VARIANT = re.compile(r"\(\d+\)$")


class PocketsphinxAligner:
    """Aligns with the US English model that pocketsphinx carries.

    lexicon: English with rules and network where none is given. max_pronunciations: how many
    of a word's pronunciations compete. An aligner may be pickled; its decoders are made anew,
    once in each process that uses it. Threads may share one, and take their turns.
    """

    name = "pocketsphinx"

    def __init__(self, lexicon: Lexicon | None = None, max_pronunciations: int = 6):
        self._lexicon = lexicon
        self._max_pronunciations = max_pronunciations
        self._decoders: dict[bool, _Decoder] = {}
        self._turn = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoders": {}, "_turn": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turn=threading.Lock())

    def align(self, wave: np.ndarray, words: list[str], id: str = "") -> Alignment:
        """Borders of every word and phone, in the given order, and of the pauses between.

        wave: (n,) float32 mono at 16 kHz. words: upper-case, of A to Z and apostrophes.
        The alignment's score is the average over frames, in nats, relative to the likeliest of
        the sounds that compete there; to rank transcripts against each other use `score`.
        Raises AlignmentError, whose message holds the reason, where no search reaches the end.
        """
        with self._turn:
            return self._align(wave, words, id)

    def _align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        seconds = len(wave) / SAMPLE_RATE
        decoder = self._decoder(all_sounds=False)
        self._teach(decoder, words, id)
        audio = _padded(wave, id)
        for beam in BEAMS:
            entries = decoder.align(audio, words, beam)
            if entries is not None:
                return _alignment(entries, words, seconds, id)
        raise AlignmentError(
            f"{id}: the search did not reach the last of {len(words)} words in {seconds:.2f} s of "
            "audio, with any beam: the transcript is probably not what is said"
        )

    def score(self, wave: np.ndarray, words: list[str]) -> float:
        """How well the transcript fits, in nats per frame; ranks transcripts of the same audio.

        wave: (n,) float32 mono at 16 kHz. The likelihood is relative to the likeliest of all
        sounds of each frame. Minus infinity where even a wide search cannot fit the words.
        """
        with self._turn:
            decoder = self._decoder(all_sounds=True)
            try:
                self._teach(decoder, words, "score")
                audio = _padded(wave, "score")
            except AlignmentError:
                return -math.inf
            found = decoder.best_path(audio, words, BEAMS[1])
            return -math.inf if found is None else found

    def _decoder(self, all_sounds: bool) -> _Decoder:
        if all_sounds not in self._decoders:
            self._decoders[all_sounds] = _Decoder(all_sounds)
        return self._decoders[all_sounds]

    def _teach(self, decoder: _Decoder, words: list[str], id: str) -> None:
        if not words:
            raise AlignmentError(f"{id}: the transcript holds no word")
        lexicon = self._lexicon or english_lexicon()
        for word in words:
            try:
                said = lexicon.pronunciations(word)
            except UserError as error:
                raise AlignmentError(f"{id}: {error}") from None
            decoder.learn(word, said[: self._max_pronunciations])


class _Entry(NamedTuple):
    """A word or filler of the best path: its phones with first frame and the frame after."""

    text: str
    score: int
    phones: list[tuple[str, int, int]]

    def is_silence(self) -> bool:
        return all(name not in ARPABET for name, _, _ in self.phones)


class _Decoder:
    """pocketsphinx's decoder, its errors as None and its dictionary grown word by word."""

    def __init__(self, all_sounds: bool):
        import pocketsphinx

        # Best-path rescoring may open with a word of one frame, which holds no phone of three
        # states: the search for phones then fails. It is off.
        self._decoder = pocketsphinx.Decoder(
            lm=None, dict=None, loglevel="FATAL", bestpath=False, compallsen=all_sounds
        )
        self._known: set[str] = set()

    def learn(self, word: str, said: Sequence[tuple[str, ...]]) -> None:
        if word in self._known:
            return
        for i, phones in enumerate(said):
            name = word if i == 0 else f"{word}({i + 1})"
            self._decoder.add_word(name, " ".join(phones), False)
        self._known.add(word)

    def align(self, audio: bytes, words: list[str], beam: float) -> list[_Entry] | None:
        """Word entries with their phones: the best path first, then its phones within."""
        if self._search(audio, words, beam) is None:
            return None
        return self._attempt(audio, self._decoder.set_alignment, self._entries)

    def best_path(self, audio: bytes, words: list[str], beam: float) -> float | None:
        """Score of the best path per frame, in nats."""
        found = self._search(audio, words, beam)
        if found is None or found.score <= 0:
            return None
        units = math.log(found.score) / math.log(1.0001)
        return units * NATS_PER_SCORE / self._decoder.n_frames()

    def _search(self, audio: bytes, words: list[str], beam: float) -> Any:
        for name in ("beam", "pbeam", "wbeam"):
            self._decoder.config[name] = beam
        text = " ".join(words)
        return self._attempt(audio, lambda: self._decoder.set_align_text(text), self._decoder.hyp)

    def _attempt(
        self, audio: bytes, prepare: Callable[[], object], result: Callable[[], Any]
    ) -> Any:
        try:
            prepare()
            self._forget_noise()
            self._decoder.start_utt()
            try:
                self._decoder.process_raw(audio, full_utt=True)
            finally:
                self._decoder.end_utt()
            return result()
        except RuntimeError:  # pocketsphinx's one error, for whatever did not work out
            return None

    def _forget_noise(self) -> None:
        # The noise estimate lives on from one utterance to the next; a result must not depend on
        # what was aligned before. pocketsphinx calls this unnecessary; the scores say otherwise.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._decoder.start_stream()

    def _entries(self) -> list[_Entry]:
        # Copied while the alignment is held: its entries point into memory that it owns.
        alignment = self._decoder.get_alignment()
        return [
            _Entry(
                _VARIANT.sub("", word.name),
                word.score,
                [(phone.name, phone.start, phone.start + phone.duration) for phone in word],
            )
            for word in alignment
        ]


def _padded(wave: np.ndarray, id: str) -> bytes:
    """16-bit samples with silence at both ends."""
    if len(wave) < SAMPLE_RATE * FRAME_SECONDS:
        raise AlignmentError(f"{id}: {len(wave)} samples of audio are too few to hold a word")
    pad = np.zeros(round(PAD_SECONDS * SAMPLE_RATE), np.float32)
    samples = np.concatenate([pad, np.clip(wave, -1.0, 1.0), pad])
    return (samples * 32767).astype(np.int16).tobytes()


def _alignment(entries: list[_Entry], words: list[str], seconds: float, id: str) -> Alignment:
    """pocketsphinx's entries (frames of the padded audio) as seconds of the audio itself."""

    def at(frame: int) -> float:
        border = frame * FRAME_SECONDS + BORDER_OFFSET_SECONDS - PAD_SECONDS
        return round(min(max(border, 0.0), seconds), 6)

    spoken = [entry.text for entry in entries if not entry.is_silence()]
    if spoken != words:
        raise AlignmentError(f"{id}: the search gave the words {' '.join(spoken)}")
    made: list[Word] = []
    start = 0.0
    for i, entry in enumerate(entries):
        ends = [at(end) for _, _, end in entry.phones]
        if i == len(entries) - 1:
            ends[-1] = seconds
        if entry.is_silence():
            if made and not made[-1].text:
                start = made.pop().start
            made.append(Word.silence(start, ends[-1]))
        else:
            borders = pairwise([start, *ends])
            phones = (Phone(p[0], *b) for p, b in zip(entry.phones, borders, strict=True))
            made.append(Word(entry.text, start, ends[-1], tuple(phones)))
        start = ends[-1]
    total = sum(entry.score for entry in entries) * NATS_PER_SCORE
    return Alignment(tuple(made), seconds, total / entries[-1].phones[-1][2])
