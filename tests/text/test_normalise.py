"""Typed text to words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.config import UserError
from voiceflow.text.normalise import plain_words_of, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", "HELLO WORLD"),
        ("“It’s late”—he said…", "IT'S LATE HE SAID"),
        ("'quoted' words, 'tis James' goin' home", "QUOTED WORDS 'TIS JAMES' GOIN' HOME"),
        ("mother-in-law at five o'clock", "MOTHER IN LAW AT FIVE O'CLOCK"),
        ("café Ünïque", "CAFE UNIQUE"),
        ("42 apples", "FORTY TWO APPLES"),
        ("the 21st of May 1999", "THE TWENTY FIRST OF MAY NINETEEN NINETY NINE"),
        ("3.5% of 12,000", "THREE POINT FIVE PERCENT OF TWELVE THOUSAND"),
        ("you & me", "YOU AND ME"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert words_of(text) == words.split()


@pytest.mark.parametrize("text", ["", "  ", "...", "'", "—"])
def test_nothing_to_say(text: str) -> None:
    with pytest.raises(UserError, match="no word"):
        words_of(text)


@pytest.mark.parametrize(
    ("text", "letter"), [("привет", "П"), ("hello 世界", "世"), ("λόγος", "Λ")]
)
def test_another_script_is_named(text: str, letter: str) -> None:
    with pytest.raises(UserError, match=letter):
        words_of(text)


@given(st.text())
def test_any_text_gives_letters_or_a_clear_error(text: str) -> None:
    try:
        words = words_of(text)
    except UserError:
        return
    assert words and all(set(word) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'") for word in words)
    assert words_of(" ".join(words)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("L’été, c'est l'été !", "L'ÉTÉ C'EST L'ÉTÉ"),
        ("Straße — über-groß?", "STRASSE ÜBER-GROSS"),
        ("«Привет», мир.", "ПРИВЕТ МИР"),
        ("'quoted' rock-'n'-roll", "QUOTED ROCK N ROLL"),
        ("e\u0301te\u0301", "ÉTÉ"),
    ],
)
def test_plain_words_of_any_script(text: str, words: str) -> None:
    assert plain_words_of(text) == words.split()
    assert plain_words_of(" ".join(plain_words_of(text))) == words.split()


def test_plain_words_are_written_as_they_are_said() -> None:
    with pytest.raises(UserError, match="the text holds '12': write figures as they are said"):
        plain_words_of("12 mois")
    with pytest.raises(UserError, match="no word in the text"):
        plain_words_of("... !")
