"""Alignment of recordings of any length, window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from voiceflow.alignment.ctc import CtcAligner
from voiceflow.alignment.types import SAMPLE_RATE, Aligner, Alignment, AlignmentError, Word

# Up to here a recording is aligned as a whole; pocketsphinx takes a gigabyte a minute.
LONGEST_SECONDS = 60.0
WINDOW_SECONDS = 45.0
# A window is cut within this part of it, so that what its end cuts in two decides nothing.
CUT_FROM, CUT_TO = 0.5, 0.9
PAUSE_SECONDS = 0.2
MOST_WORDS_PER_SECOND = 6.0
# Nats a frame of a window. Of ten minutes of right text the lowest has -0.13, of wrong text the
# highest has -3.5; a window with 20 words left out of its text has -0.9.
LEAST_SCORE = -0.8


class LongAligner:
    """Aligns short recordings by one aligner, and longer ones by the phone recogniser alone.

    Of a long recording a window is aligned with as many words of the transcript as are said in it,
    which the best path tells; it is cut at a pause, and the next begins there. Time is linear in
    the length, memory that of a window. short: for up to a minute; recogniser: asked for when a
    longer one comes.
    """

    def __init__(self, short: Aligner, recogniser: Callable[[], CtcAligner]) -> None:
        self._short, self._recogniser = short, recogniser
        self.name = short.name

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        """As `Aligner.align`; of a long recording without a score.

        Raises AlignmentError where a window's words are not what is said, and names the time.
        """
        if len(wave) <= LONGEST_SECONDS * SAMPLE_RATE:
            return self._short.align(wave, words, id)
        recogniser = self._recogniser()
        made: list[Word] = []
        start, position = 0, 0  # samples and words that are done
        while len(wave) - start > LONGEST_SECONDS * SAMPLE_RATE:
            window = wave[start : start + round(WINDOW_SECONDS * SAMPLE_RATE)]
            some = words[position : position + round(MOST_WORDS_PER_SECOND * WINDOW_SECONDS)]
            if not some:
                raise AlignmentError(
                    f"{id}: the text ends at {_clock(start)} of {_clock(len(wave))}: it is to be "
                    "all that is said"
                )
            found = recogniser.align(window, some, id, open_end=True)
            self._check(found, start, some, id)
            kept = _until_pause(found)
            _append(made, kept, start / SAMPLE_RATE)
            start += round(kept[-1].end * SAMPLE_RATE)
            position += sum(1 for word in kept if word.text)
        rest = words[position:]
        if not rest:
            raise AlignmentError(
                f"{id}: the text ends at {_clock(start)} of {_clock(len(wave))}: it is to be all "
                "that is said"
            )
        found = recogniser.align(wave[start:], rest, id)
        self._check(found, start, rest, id)
        _append(made, list(found.words), start / SAMPLE_RATE)
        seconds = len(wave) / SAMPLE_RATE
        made[-1] = _ending(made[-1], seconds)
        return Alignment(tuple(made), seconds, None)

    def _check(self, found: Alignment, start: int, words: list[str], id: str) -> None:
        if found.score is not None and found.score < LEAST_SCORE:
            raise AlignmentError(
                f"{id}: from {_clock(start)} on the text ('{' '.join(words[:6])} ...') does not "
                f"seem to be what is said (alignment score {found.score:.2f}, expected "
                f"{LEAST_SCORE:g} or more)"
            )


def _until_pause(found: Alignment) -> list[Word]:
    """The words of a window up to the middle of its last good pause, or else to a word's end."""
    first, last = CUT_FROM * found.seconds, CUT_TO * found.seconds
    inside = [
        (word, i) for i, word in enumerate(found.words) if i > 0 and first <= word.start <= last
    ]
    pauses = [(word, i) for word, i in inside if not word.text]
    if pauses:
        long = [(w, i) for w, i in pauses if w.end - w.start >= PAUSE_SECONDS]
        pause, i = long[-1] if long else max(pauses, key=lambda one: one[0].end - one[0].start)
        middle = (pause.start + pause.end) / 2
        # Whole samples, where the next window begins.
        middle = max(round(middle * SAMPLE_RATE), 1) / SAMPLE_RATE
        return [*found.words[:i], Word.silence(pause.start, max(middle, pause.start))]
    if inside:
        word, i = inside[-1]
        return [*found.words[:i], Word.silence(word.start, word.start)]
    return list(found.words)  # one sound from the half on


def _append(made: list[Word], words: list[Word], by: float) -> None:
    """Put a window's words after those of the last, `by` seconds later; two silences become one."""
    for word in words:
        moved = replace(
            word, start=word.start + by, end=word.end + by,
            phones=tuple(replace(p, start=p.start + by, end=p.end + by) for p in word.phones),
        )  # fmt: skip
        if made:  # what is rounded to samples meets again
            begin = made[-1].end
            phones = (replace(moved.phones[0], start=begin), *moved.phones[1:])
            moved = replace(moved, start=begin, phones=phones)
        if made and not made[-1].text and not moved.text:
            moved = Word.silence(made.pop().start, moved.end)
        made.append(moved)


def _ending(word: Word, seconds: float) -> Word:
    """The last word, ending with the recording."""
    phones = (*word.phones[:-1], replace(word.phones[-1], end=seconds))
    return replace(word, end=seconds, phones=phones)


def _clock(samples: int) -> str:
    seconds = samples // SAMPLE_RATE
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
