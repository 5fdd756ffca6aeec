"""A long text, cut where a reader breathes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from voiceflow.config import UserError
from voiceflow.text.normalise import words_of

MOST_WORDS = 40  # of a part: about 15 s
MOST_WORDS_OF_TEXT = 20_000  # two hours

# A stop ends a sentence where a capital, a figure or a quotation follows, but after these and
# after initials.
_SHORT = """Mr Mrs Ms Messrs Mme Mlle Dr Prof Rev Hon Gen Col Capt Lt Maj Sgt Cpl Pvt Adm Cmdr Gov
    Sen Rep Pres St Mt Ft No vs e.g i.e""".split()
_SENTENCE = re.compile(
    "".join(rf"(?<!\b{re.escape(short)}\.)" for short in _SHORT)
    + r"(?<!\b[A-HJ-Z]\.)"
    r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9])|\n\s*\n"
)
_CLAUSES = (re.compile(r"(?<=[;:])\s+"), re.compile(r"(?<=,)\s+"))


def parts_of(text: str, most: int = MOST_WORDS) -> list[str]:
    """Sentences, the long ones cut at clauses, then anywhere; each of at most `most` words
    (but for a figure that alone is read with more).

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
    if _count(text) <= most:
        return [text]
    for mark in _CLAUSES:
        pieces = mark.split(text)
        if len(pieces) > 1:
            return [part for piece in _joined(pieces, most) for part in _cut(piece, most)]
    return _joined(text.split(), most)


def _joined(pieces: Sequence[str], most: int) -> list[str]:
    """Neighbours put together as long as they have at most `most` words."""
    joined: list[str] = []
    words = 0
    for piece in pieces:
        count = _count(piece)
        if joined and words + count <= most:
            joined[-1], words = f"{joined[-1]} {piece}", words + count
        else:
            joined.append(piece)
            words = count
    return joined


def _count(text: str) -> int:
    try:
        return len(words_of(text))
    except UserError:
        return 0
