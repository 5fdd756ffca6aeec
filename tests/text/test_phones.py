"""Word position, ghost silence and the phone table."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.config import UserError
from voiceflow.text.phones import (
    ARPABET,
    NONE,
    SILENCE,
    UNKNOWN,
    PhoneTable,
    base_of,
    positioned,
    unmarked,
    unplaced,
    with_ghost_silences,
)

# With and without stress; ones of other alphabets that look like places.
PHONES = st.sampled_from([*ARPABET, UNKNOWN, "AH0", "ER2", "_", "a_B", "E"])
WORDS = st.lists(PHONES, min_size=1, max_size=6)


def test_word_position() -> None:
    assert positioned(["HH", "AH", "L"]) == ["HH_B", "AH_I", "L_E"]
    assert positioned(["AH", "T"]) == ["AH_B", "T_E"]
    assert positioned(["AH"]) == ["AH_S"]


@pytest.mark.parametrize(
    ("phone", "stress", "place"),
    [("AH1_B", "AH0_B", "AH1_I"), ("OY2_S", "OY0_S", "OY2_I"), ("AH0_E", "AH0_E", "AH0_I"),
     ("T_E", "T_E", "T_I"), ("SIL", "SIL", "SIL"), ("<none>", "<none>", "<none>")],
)  # fmt: skip
def test_what_a_phone_does_not_tell(phone: str, stress: str, place: str) -> None:
    assert unmarked(phone) == stress
    assert unplaced(phone) == place


def test_ghost_silence_stands_between_words_and_at_both_ends() -> None:
    assert with_ghost_silences([["AH"], ["HH", "IY"]]) == [
        "SIL",
        "AH_S",
        "SIL",
        "HH_B",
        "IY_E",
        "SIL",
    ]
    assert with_ghost_silences([]) == ["SIL"]


@given(WORDS)
def test_places_tell_where_a_word_begins_and_ends(word: list[str]) -> None:
    placed = positioned(word)
    assert [base_of(phone) for phone in placed] == word
    places = "".join(phone[-1] for phone in placed)
    assert re.fullmatch("S|BI*E", places), places


@given(st.lists(WORDS, max_size=6))
def test_words_can_be_told_from_their_phones_alone(words: list[list[str]]) -> None:
    phones = with_ghost_silences(words)
    kinds = "".join("-" if phone == SILENCE else phone[-1] for phone in phones)
    assert re.fullmatch("-((S|BI*E)-)*", kinds), kinds  # one silence at each place, and no more
    found = re.finditer("[SBIE]+", kinds)
    assert [[base_of(p) for p in phones[m.start() : m.end()]] for m in found] == words


def test_the_english_table_knows_every_phone_in_every_position() -> None:
    assert len(ARPABET) == 39
    table = PhoneTable.english()
    words = [[a, b, a] for a in ARPABET for b in ARPABET[:1]] + [[a] for a in (*ARPABET, "SPN")]
    ids = table.ids(with_ghost_silences(words))
    assert table.symbols[0] == NONE and 0 not in ids
    assert [table.symbols[i] for i in ids] == with_ghost_silences(words)
    assert len(table) == 2 + 4 * 40
    assert len(PhoneTable.english(stress=True)) == 2 + 4 * (24 + 3 * 15 + 1)


def test_an_unknown_phone_is_named() -> None:
    with pytest.raises(UserError, match="AH0_S"):
        PhoneTable.english().ids(["SIL", "AH0_S"])


def test_round_trip_through_json(tmp_path: Path) -> None:
    table = PhoneTable.english(stress=True)
    table.save(tmp_path / "phones.json")
    assert PhoneTable.load(tmp_path / "phones.json") == table


@pytest.mark.parametrize(
    "content", ["{}", "[1]", "not json", '["A"]', '["<none>", "A", "A"]', "[]"]
)
def test_a_damaged_table_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "phones.json"
    path.write_text(content)
    with pytest.raises(UserError):
        PhoneTable.load(path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"phones\.json"):
        PhoneTable.load(tmp_path / "phones.json")
