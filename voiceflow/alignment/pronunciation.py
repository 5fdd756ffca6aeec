"""The English lexicon with all its parts: dictionary, rules and the network that ships."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from voiceflow.text.lexicon import Lexicon, Pronunciation

GUESSES = 4


@cache
def english_lexicon(own: Path | None = None) -> Lexicon:
    """Pronounces any word of A to Z and apostrophes; made once a process.

    own: a dictionary of one's own, whose words it says as that tells; UserError where it cannot be
    read.
    """
    return Lexicon.english(_guess, own)


def _guess(word: str) -> list[Pronunciation]:
    from voiceflow.models.g2p import bundled_g2p

    return bundled_g2p().pronounce(word, GUESSES)
