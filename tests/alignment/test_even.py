"""Phones spread evenly: whole, in order, and without a claim to borders."""

from pathlib import Path

import numpy as np
import pytest

from voiceflow.alignment.even import EvenAligner
from voiceflow.alignment.types import AlignmentError
from voiceflow.text.lexicon import ClosedLexicon


@pytest.fixture()
def lexicon(tmp_path: Path) -> ClosedLexicon:
    (tmp_path / "words.dict").write_text("été e t e\nété(2) ɛ t e\nau o\n", "utf-8")
    return ClosedLexicon(tmp_path / "words.dict")


def test_every_phone_gets_as_much_time(lexicon: ClosedLexicon) -> None:
    found = EvenAligner(lexicon).align(np.zeros(16000, np.float32), ["AU", "ÉTÉ"], "u")
    assert [(w.text, w.start, w.end) for w in found.words] == [
        ("AU", 0.0, 0.25), ("ÉTÉ", 0.25, 1.0)
    ]  # fmt: skip
    assert [(p.symbol, p.start) for p in found.words[1].phones] == [
        ("e", 0.25), ("t", 0.5), ("e", 0.75)
    ]  # fmt: skip
    assert found.score is None


def test_a_word_that_the_lexicon_lacks(lexicon: ClosedLexicon) -> None:
    with pytest.raises(AlignmentError, match=r"u: no pronunciation for 'HIVER': .*words.dict"):
        EvenAligner(lexicon).align(np.zeros(16000, np.float32), ["AU", "HIVER"], "u")


def test_a_closed_lexicon_is_its_file(lexicon: ClosedLexicon, tmp_path: Path) -> None:
    assert lexicon.pronunciations("ÉTÉ") == [("e", "t", "e"), ("ɛ", "t", "e")]
    assert lexicon.phones() == ["e", "o", "t", "ɛ"]
    (tmp_path / "empty.dict").write_text("\n")
    with pytest.raises(Exception, match="expected lines of a word and its phones, found none"):
        ClosedLexicon(tmp_path / "empty.dict")
