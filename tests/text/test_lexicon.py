"""Pronunciations by dictionary and by rule, on words that the shared corpora hold."""

from pathlib import Path

import pytest

from voiceflow.config import UserError
from voiceflow.text.lexicon import Lexicon, read_dictionary, with_d, with_s


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.english()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("COSETTE'S", "K AH S EH T S"),
        ("BEAVER'S", "B IY V ER Z"),
        ("DUCHESS'S", "D AH CH AH S IH Z"),
        ("ENTREATIES'", "EH N T R IY T IY Z"),
        ("BRUTES", "B R UW T S"),
        ("LIVERIES", "L IH V ER IY Z"),
        ("BUFFALOES", "B AH F AH L OW Z"),
        ("EMPRESSES", "EH M P R EH S IH Z"),
        ("BLANCHED", "B L AE N CH T"),
        ("DIVINED", "D IH V AY N D"),
        ("QUITTED", "K W IH T IH D"),
        ("EMERG'D", "IH M ER JH D"),
        ("ABOMINABLY", "AH B AA M AH N AH B L IY"),
        ("ABJECTLY", "AE B JH EH K T L IY"),
        ("GIDDINESS", "G IH D IY N AH S"),
        ("CLASPING", "K L AE S P IH NG"),
        ("SPIRITUALISING", "S P IH R IH CH UW AH L IY Z IH NG"),
        ("ENDEAVOURED", "IH N D EH V ER D"),
        ("HUMOUROUS", "HH Y UW M ER AH S"),
        ("EQUALLED", "IY K W AH L D"),
        ("CALIBRE", "K AE L AH B ER"),
        ("FULNESS", "F UH L N AH S"),
        ("UNREADY", "AH N R EH D IY"),
        ("TAIN'T", "T AY N T"),
    ],
)
def test_rules(lexicon: Lexicon, word: str, said: str) -> None:
    assert lexicon.source(word) == "rule"
    assert tuple(said.split()) in lexicon.pronunciations(word)


def test_the_dictionary_comes_first(lexicon: Lexicon) -> None:
    assert lexicon.source("THE") == "dictionary"
    assert set(lexicon.pronunciations("THE")) >= {("DH", "AH"), ("DH", "IY")}


def test_compounds_and_guesses_are_offered_together() -> None:
    def guess(word: str) -> list[tuple[str, ...]]:
        return [("F", "UW", "T")]

    lexicon = Lexicon({"FOOT": [("F", "UH", "T")], "STOOL": [("S", "T", "UW", "L")]}, guess)
    said = [("F", "UH", "T", "S", "T", "UW", "L"), ("F", "UW", "T")]
    assert lexicon.pronunciations("FOOTSTOOL") == said
    assert lexicon.source("FOOTSTOOL") == "g2p"
    assert lexicon.pronunciations("ZOOF'S") == [("F", "UW", "T", "S")]


@pytest.mark.parametrize("word", ["", "'", "HALF-WAY", "lower", "ZZYQX"])
def test_a_word_that_cannot_be_said_is_named(lexicon: Lexicon, word: str) -> None:
    with pytest.raises(UserError, match="no pronunciation"):
        lexicon.pronunciations(word)


def test_endings_follow_the_last_sound() -> None:
    assert [with_s((p,))[-1] for p in ("T", "TH", "D", "AH", "S", "JH")] == list("SSZZZZ")
    assert [len(with_s((p,))) for p in ("T", "D", "S", "CH")] == [2, 2, 3, 3]
    assert [with_d((p,))[-1] for p in ("K", "SH", "G", "AH", "T", "D")] == list("TTDDDD")
    assert [len(with_d((p,))) for p in ("K", "G", "T", "D")] == [2, 2, 3, 3]


def test_variants_of_a_dictionary_file(tmp_path: Path) -> None:
    path = tmp_path / "words.dict"
    path.write_text("a AH\na(2) EY\nat AE T\nat(2) AE T\n\n")
    assert read_dictionary(path) == {"A": [("AH",), ("EY",)], "AT": [("AE", "T")]}
    with pytest.raises(UserError, match=r"absent\.dict"):
        read_dictionary(tmp_path / "absent.dict")


def test_ones_own_words_come_first(tmp_path: Path) -> None:
    own = tmp_path / "own.dict"
    own.write_text("tomato T AH0 M AA1 T OW2\ntomato(2) T AH M EY T OW\nvoicebox V OY S B AA K S\n")
    lexicon = Lexicon.english(own=own)
    assert lexicon.pronunciations("TOMATO") == [
        tuple("T AH M AA T OW".split()), tuple("T AH M EY T OW".split()),
    ]  # fmt: skip
    assert lexicon.pronunciations("VOICEBOX") == [tuple("V OY S B AA K S".split())]
    assert lexicon.source("VOICEBOX") == "dictionary"
    assert lexicon.pronunciations("CAT") == Lexicon.english().pronunciations("CAT")


def test_ones_own_words_in_other_phones_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.dict"
    own.write_text("tomato T QQ M\n")
    with pytest.raises(UserError, match=r"own\.dict: TOMATO has the phone QQ, expected ARPAbet"):
        Lexicon.english(own=own)
    with pytest.raises(UserError, match="no readable pronunciation dictionary"):
        Lexicon.english(own=tmp_path / "none.dict")
