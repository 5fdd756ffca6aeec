"""Text as a person types it, to words as the corpora write them: A to Z and apostrophes."""

from __future__ import annotations

import re
import unicodedata

from voiceflow.config import UserError

_QUOTES = str.maketrans(dict.fromkeys("‘’‛ʼ`´′", "'"))
_NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_ORDINAL = re.compile(r"(\d+(?:,\d{3})*)(?:ST|ND|RD|TH)\b")
_WORD = re.compile(r"[A-Z']+")
_ELIDED = ("'TIS", "'TWAS", "'TWERE", "'TWILL", "'TWOULD", "'EM", "'CAUSE", "'BOUT", "'ROUND")
_YEAR = re.compile(r"(?<![\d.,])1[1-9]\d\d(?![\d,]|\.\d)")
_SPOKEN = {"&": " AND ", "%": " PERCENT ", "+": " PLUS ", "@": " AT ", "=": " EQUALS "}


def words_of(text: str) -> list[str]:
    """Upper-case words of letters and apostrophes; numbers are read out, punctuation dropped.

    Accents are taken off (CAFÉ is CAFE). Raises UserError where no word is left, or where the
    text holds letters of another script (the message names them).
    """
    plain = _without_accents(text.translate(_QUOTES)).upper()
    foreign = sorted({c for c in plain if c.isalnum() and not c.isascii()})
    if foreign:
        raise UserError(
            f"the text holds {' '.join(foreign[:10])}, expected English in the letters A to Z"
        )
    for symbol, spoken in _SPOKEN.items():
        plain = plain.replace(symbol, spoken)
    plain = _ORDINAL.sub(lambda found: _read(found[1], "ordinal"), plain)
    plain = _YEAR.sub(lambda found: _read(found[0], "year"), plain)
    plain = _NUMBER.sub(lambda found: _read(found[0], "cardinal"), plain)
    words = [_without_quotes(word) for word in _WORD.findall(plain)]
    words = [word for word in words if word]
    if not words:
        raise UserError(f"no word in the text {text!r}: expected English words to say")
    return words


def _without_accents(text: str) -> str:
    separated = unicodedata.normalize("NFKD", text)
    joined = "".join(c for c in separated if not unicodedata.combining(c))
    return joined.replace("æ", "ae").replace("Æ", "AE").replace("œ", "oe").replace("Œ", "OE")


def _read(digits: str, how: str) -> str:
    from num2words import num2words

    digits = digits.replace(",", "")
    value = float(digits) if "." in digits else int(digits)
    return f" {num2words(value, to=how)} ".upper()


def _without_quotes(word: str) -> str:
    """A quotation mark is no part of a word, but the apostrophe of 'TIS, JAMES' and GOIN' is."""
    if not word.startswith(_ELIDED):
        word = word.lstrip("'")
    return word if word.endswith(("S'", "N'")) else word.rstrip("'")
