"""The whole lexicon: every word of letters has a pronunciation in ARPAbet."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.text.phones import ARPABET


@settings(max_examples=60)
@given(st.from_regex(r"'?[A-Z][A-Z']{0,14}", fullmatch=True))
def test_any_word_can_be_said(word: str) -> None:
    said = english_lexicon().pronunciations(word)
    assert said and all(phones and set(phones) <= set(ARPABET) for phones in said)


@pytest.mark.parametrize("word", ["FAUCHELEVENT", "DIOVOLACCIO", "TIMASCHEFF'S", "SQUIRL"])
def test_names_are_guessed(word: str) -> None:
    assert english_lexicon().source(word) == "g2p"
