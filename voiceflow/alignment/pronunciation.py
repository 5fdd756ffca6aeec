"""The English lexicon with all its parts: dictionary, rules and the network that ships."""

from __future__ import annotations

from functools import cache

from voiceflow.text.lexicon import Lexicon, Pronunciation

GUESSES = 4


@cache
def english_lexicon() -> Lexicon:
    """Pronounces any word of A to Z and apostrophes; made once a process."""
    return Lexicon.english(_guess)


def _guess(word: str) -> list[Pronunciation]:
    from voiceflow.models.g2p import bundled_g2p

    return bundled_g2p().pronounce(word, GUESSES)
