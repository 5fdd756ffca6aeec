"""Where a long text is cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow.config import UserError
from voiceflow.generation.sentences import MOST_WORDS, MOST_WORDS_OF_TEXT, parts_of
from voiceflow.text.normalise import words_of


@pytest.mark.parametrize(
    "parts",
    [
        ["One sentence."],
        ["no stop at all"],
        ["A first.", "A second!", "A third?", "And … a fourth…", "The fifth"],
        ["Mr. Smith and Dr. Who met Prof. Brown.", "Gen. Lee was there."],
        ["J. K. Rowling lives in St. Ives near Mt. Everest.", "No. 5 does not."],
        ["It cost 3.50 dollars.", "12 were sold, e.g. Ford vs. Opel."],
        ["Then he stopped. and went on", "\n\nA paragraph\nof two lines"],
    ],
)
def test_sentences(parts: list[str]) -> None:
    found = parts_of(" ".join(parts))
    assert [words_of(p) for p in found] == [words_of(p) for p in parts]


def test_quotations_and_brackets() -> None:
    found = parts_of('"Who is it?" "It is I." (He came in.) Then \'Hello!\' was heard.')
    said = [" ".join(words_of(part)) for part in found]
    assert said == ["WHO IS IT", "IT IS I", "HE CAME IN", "THEN HELLO WAS HEARD"]


def test_what_holds_no_word_is_no_part() -> None:
    found = parts_of("Hello. ... !!! World.\n\n* * *\n\nEnd.")
    assert found == ["Hello. ... !!!", "World.", "End."]


def test_long_sentences_are_cut_at_clauses_and_then_anywhere() -> None:
    assert parts_of("a b c d; e f g, h i, j k", most=4) == ["a b c d;", "e f g,", "h i, j k"]
    assert parts_of("a b c d e f g h i j", most=4) == ["a b c d", "e f g h", "i j"]
    assert parts_of("a b, c d e f g", most=3) == ["a b,", "c d e", "f g"]
    assert parts_of("a b c; d", most=4) == ["a b c; d"]
    # A figure is read with several words, and counts so.
    parts = parts_of("in 1999 or in 2001 it was", most=4)
    assert parts == ["in 1999", "or in", "2001 it", "was"]


@given(st.lists(st.sampled_from(["word", "two-fold", "a,", "b;", "c!", "Then", "--"]),
                min_size=1, max_size=60), st.integers(2, 20))  # fmt: skip
@settings(max_examples=40)
def test_no_word_is_lost_and_no_part_is_long(tokens: list[str], most: int) -> None:
    text = " ".join([*tokens, "end"])
    parts = parts_of(text, most)
    assert [w for part in parts for w in words_of(part)] == words_of(text)
    assert all(1 <= len(words_of(part)) <= most for part in parts)


def test_parts_of_a_page() -> None:
    page = "It was a day like any other, he thought; and yet nothing was as it had been. " * 40
    parts = parts_of(page)
    assert len(parts) == 40
    assert max(len(words_of(part)) for part in parts) <= MOST_WORDS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no word in the text ''"),
        ("!!! ...", "no word in the text"),
        ("привет", "English"),
        ("word " * 30_000, f"a text of 30000 words, expected at most {MOST_WORDS_OF_TEXT}: speak"),
    ],
)
def test_texts_that_cannot_be_spoken(text: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        parts_of(text)
