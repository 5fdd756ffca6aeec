"""A long text, cut where a reader breathes."""

from __future__ import annotations

import re

from voiceflow.config import UserError
from voiceflow.text.normalise import words_of

MOST_WORDS = 40  # of a part: about 15 s
MOST_WORDS_OF_TEXT = 20_000  # two hours

# A stop ends a sentence where a capital, a figure or a quotation follows, but for titles.
_SENTENCE = re.compile(
    r"(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bNo\.)(?<!\b[A-Z]\.)"
    r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9])|\n\s*\n"
)
_CLAUSES = (re.compile(r"(?<=[;:])\s+"), re.compile(r"(?<=,)\s+"))


def parts_of(text: str, most: int = MOST_WORDS) -> list[str]:
    """Sentences, the long ones cut at clauses, then anywhere; each of at most `most` words.

    Every part holds a word. Raises UserError where there is none, or too many to be meant.
    """
    n_words = len(words_of(text))
    if n_words > MOST_WORDS_OF_TEXT:
        raise UserError(
            f"a text of {n_words} words, expected at most {MOST_WORDS_OF_TEXT}: speak it in parts"
        )
    parts = [part for sentence in _SENTENCE.split(text) for part in _cut(sentence, most)]
    return [part for part in parts if _count(part) > 0]


def _cut(text: str, most: int) -> list[str]:
    for mark in _CLAUSES:
        if _count(text) <= most:
            return [text]
        pieces = mark.split(text)
        if len(pieces) > 1:
            joined: list[str] = []
            for piece in pieces:
                if joined and _count(joined[-1]) + _count(piece) <= most:
                    joined[-1] = f"{joined[-1]} {piece}"
                else:
                    joined.append(piece)
            return [part for piece in joined for part in _cut(piece, most)]
    tokens = text.split()
    if _count(text) <= most:
        return [text]
    return [" ".join(tokens[i : i + most]) for i in range(0, len(tokens), most)]


def _count(text: str) -> int:
    try:
        return len(words_of(text))
    except UserError:
        return 0
