"""An alignment covers its audio, and survives JSON."""

import json

import pytest

from voiceflow.alignment.types import Alignment, Phone, Word

HE = Word("HE", 0.5, 1.0, (Phone("HH", 0.5, 0.7), Phone("IY", 0.7, 1.0)))


def test_json_round_trip() -> None:
    alignment = Alignment((Word.silence(0, 0.5), HE), 1.0, -1.5)
    assert Alignment.from_dict(json.loads(json.dumps(alignment.to_dict()))) == alignment
    assert alignment.spoken() == (HE,)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ((HE,), 1.0),
        ((Word.silence(0, 0.4), HE), 1.0),
        ((Word.silence(0, 0.6), HE), 1.0),
        ((Word.silence(0, 0.5), HE), 1.2),
        ((), 1.0),
        ((Word.silence(0, float("nan")),), 1.0),
        ((Word.silence(0, 2), Word.silence(2, 1)), 1.0),
        ((Word("A", 0, 1, ()),), 1.0),
        ((Word("A", 0, 1, (Phone("AH", 0, 0.5),)),), 1.0),
        ((Word("A", 0, 1, (Phone("SIL", 0, 1),)),), 1.0),
        ((Word("", 0, 1, (Phone("AH", 0, 1),)),), 1.0),
    ],
)
def test_gaps_overlaps_and_empty_words_are_refused(words: tuple[Word, ...], seconds: float) -> None:
    with pytest.raises(ValueError, match=r"gap|covers|after|silence"):
        Alignment(words, seconds)
