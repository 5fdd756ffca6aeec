"""The least change between two texts: that it is one, and that there is no lesser."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.measures.words import longest_common
from voiceflow.text.diff import Edit, edits, joined

words = st.lists(st.sampled_from("ABCD"), max_size=12)
few_words = st.lists(st.sampled_from("ABC"), max_size=7)


def applied(old: Sequence[str], found: Sequence[Edit]) -> list[str]:
    out = list(old)
    for edit in reversed(found):
        out[edit.first : edit.last] = edit.words
    return out


def n_changed(found: Sequence[Edit]) -> int:
    return sum(edit.last - edit.first + len(edit.words) for edit in found)


def fewest_edits(old: tuple[str, ...], new: tuple[str, ...]) -> int:
    """Of all ways to keep as many words as can be, tried one by one."""

    @cache
    def best(i: int, j: int) -> tuple[int, int]:
        """Minus the words kept of old[i:] and new[j:], and the edits, the next one kept or none."""
        found = [(0, int(i < len(old) or j < len(new)))]
        for a in range(i, len(old)):
            for b in range(j, len(new)):
                if old[a] == new[b]:
                    kept, edits_after = best(a + 1, b + 1)
                    found.append((kept - 1, edits_after + int(a > i or b > j)))
        return min(found)

    return best(0, 0)[1]


@given(words, words)
def test_the_edits_make_the_new_text_of_the_old(old: list[str], new: list[str]) -> None:
    found = edits(old, new)
    assert applied(old, found) == new
    assert all(left.last < right.first for left, right in pairwise(found))
    assert (found == ()) == (old == new)


@given(words, words)
def test_as_many_words_as_can_be_are_kept(old: list[str], new: list[str]) -> None:
    kept = longest_common(old, new)
    assert n_changed(edits(old, new)) == len(old) + len(new) - 2 * kept


@given(few_words, few_words)
def test_no_way_to_keep_as_many_words_has_fewer_edits(old: list[str], new: list[str]) -> None:
    assert len(edits(old, new)) == fewest_edits(tuple(old), tuple(new))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("A B C", "A X C", [Edit(1, 2, ("X",))]),
        ("A B C", "A C", [Edit(1, 2, ())]),
        ("A C", "A B C", [Edit(1, 1, ("B",))]),
        ("A", "X A", [Edit(0, 0, ("X",))]),
        ("A", "A X", [Edit(1, 1, ("X",))]),
        ("A B", "X Y", [Edit(0, 2, ("X", "Y"))]),
        ("A B C D", "X B C", [Edit(0, 1, ("X",)), Edit(3, 4, ())]),
        # The last A of the new text is the kept one, so that one edit does.
        ("A X A", "A Y A Z A", [Edit(1, 2, ("Y", "A", "Z"))]),
        ("THE CAT", "THE THE CAT", [Edit(1, 1, ("THE",))]),
        ("", "A", [Edit(0, 0, ("A",))]),
        ("A", "", [Edit(0, 1, ())]),
    ],
)
def test_edits_by_hand(old: str, new: str, expected: list[Edit]) -> None:
    assert list(edits(old.split(), new.split())) == expected


def test_the_kind_of_an_edit() -> None:
    assert Edit(1, 1, ("A",)).kind == "insert"
    assert Edit(1, 2, ()).kind == "delete"
    assert Edit(1, 2, ("A",)).kind == "replace"


@pytest.mark.parametrize(("first", "last", "new"), [(1, 1, ()), (2, 1, ("A",)), (-1, 1, ())])
def test_an_edit_changes_something(first: int, last: int, new: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="changes nothing"):
        Edit(first, last, new)


@given(words, words, st.integers(0, 6))
def test_joined_edits_make_the_same_text(old: list[str], new: list[str], least: int) -> None:
    sizes = [1 + ord(word) - ord("A") for word in old]
    found = edits(old, new)
    together = joined(found, old, sizes, least)
    assert applied(old, together) == new
    assert all(sum(sizes[a.last : b.first]) >= least for a, b in pairwise(together))
    if least <= 1:
        assert together == found


def test_joining_by_hand() -> None:
    old = "A B C D E".split()
    found = (Edit(0, 1, ("X",)), Edit(2, 3, ()), Edit(4, 4, ("Y",)))
    assert joined(found, old, [1, 2, 3, 4, 5], 3) == (Edit(0, 3, ("X", "B")), Edit(4, 4, ("Y",)))
    assert joined(found, old, [1, 2, 3, 4, 5], 5) == (Edit(0, 4, ("X", "B", "D", "Y")),)


def test_an_hour_of_words_with_ten_changes() -> None:
    old = [f"W{i % 700}" for i in range(9000)]
    new, wanted = old[:], []
    for place in range(8100, 0, -900):  # from the end, so that places stay
        new[place : place + 2] = ["NEW", "ONES", "HERE"]
        wanted.append(Edit(place, place + 2, ("NEW", "ONES", "HERE")))
    assert edits(old, new) == tuple(reversed(wanted))
