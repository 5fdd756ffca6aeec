"""Text as a person types it, to words as the corpora write them: A to Z and apostrophes.

Figures and signs are read by `read_aloud`, short forms by the rules here. Each rule needs a digit,
a sign, a full stop or a lower-case letter, and gives upper-case words: a text read twice is a text
read once, and a transcript in capitals is left as it is.

Left as they stand: capitals without full stops (BBC, NATO), since the lexicon knows which of them
are words; dotted ones (U.S.A.) fall into their letters once the stops are dropped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from voiceflow.config import UserError
from voiceflow.text.read_aloud import apply, count, ordinal, read_aloud, rule

_QUOTES = str.maketrans(dict.fromkeys("‘’‛ʼ`´′", "'"))
# What compatibility decomposition would spell out (TM), run together (1½ to 11/2) or lose.
_SIGNS = str.maketrans({"™": "", "®": "", "©": "", "″": '"', "“": '"', "”": '"', "№": "No. "})
_RAISED = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞²³¹⁰-⁹₀-₉])")
_WORD = re.compile(r"[A-Z']+")
_ANY_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f]|['-](?=[^\W\d_]))*")
_FIGURES = re.compile(r"\d+")
_ELIDED = ("'TIS", "'TWAS", "'TWERE", "'TWILL", "'TWOULD", "'EM", "'CAUSE", "'BOUT", "'ROUND")


def words_of(text: str) -> list[str]:
    """Upper-case words of letters and apostrophes, as one reads them; punctuation is dropped.

    Figures, signs and short forms are read by `read_aloud`; accents are taken off (CAFÉ is CAFE);
    hyphens part words. Words in capitals come out as they are. Raises UserError where no word is
    left, or where the text holds letters of another script (the message names them).
    """
    plain = apply(_WEB, _without_accents(text.translate(_QUOTES).translate(_SIGNS)))
    plain = apply(_SHORT_FORMS, read_aloud(plain)).upper()
    foreign = sorted({c for c in plain if c.isalnum() and not c.isascii()})
    if foreign:
        raise UserError(
            f"the text holds {' '.join(foreign[:10])}, expected English in the letters A to Z"
        )
    words = list(_without_quotes(_WORD.findall(plain)))
    if not words:
        raise UserError(f"no word in the text {text!r}: expected English words to say")
    return words


def plain_words_of(text: str) -> list[str]:
    """Upper-case words of any script's letters, apostrophes and hyphens inside them kept.

    Nothing is read aloud: the text is expected as it is said. Raises UserError where no word is
    left, or where there are figures.
    """
    plain = unicodedata.normalize("NFC", text.translate(_QUOTES)).upper()
    if figures := _FIGURES.search(plain):
        raise UserError(f"the text holds {figures[0]!r}: write figures as they are said")
    words = _ANY_WORD.findall(plain)
    if not words:
        raise UserError(f"no word in the text {text!r}: expected words to say")
    return words


def _without_accents(text: str) -> str:
    separated = unicodedata.normalize("NFKD", _RAISED.sub(" ", text)).replace("⁄", "/")
    joined = "".join(c for c in separated if not unicodedata.combining(c))
    return joined.replace("æ", "ae").replace("Æ", "AE").replace("œ", "oe").replace("Œ", "OE")


def _without_quotes(words: Iterable[str]) -> Iterator[str]:
    """A quotation mark is no part of a word, but the apostrophe of 'TIS, JAMES' and GOIN' is.

    One at a word's end closes a quotation only where one has been opened.
    """
    opened = False
    for word in words:
        if word.startswith("'") and not word.startswith(_ELIDED):
            opened, word = True, word.lstrip("'")
        bare = word.rstrip("'")
        if opened and not word.endswith(("S'", "N'")):
            opened, word = word == bare, bare
        elif word != bare:
            word = bare + "'"
        if bare:
            yield word


# --- the web

_ADDRESS_SIGNS = {".": "DOT", "@": "AT", "/": "SLASH", "-": "DASH", "_": "UNDERSCORE", ":": "COLON"}


def _address(found: re.Match[str]) -> str:
    text = re.sub(r"^https?://", "", found[0], flags=re.IGNORECASE).rstrip("/")
    text = re.sub(r"\bwww\b", "W W W", text, flags=re.IGNORECASE)
    return re.sub(r"[.@/:_-]", lambda sign: f" {_ADDRESS_SIGNS[sign[0]]} ", text)


_DOMAIN = r"[\w-]+(?:\.[\w-]+)*"
_TOP = r"(?i:com|org|net|edu|gov|io|dev|ai|info|uk|de|fr|eu)"
_WEB = (
    rule("e-mail", r"(?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+", _address),
    rule("web address", r"(?i:https?://|www\.)\w[\w./:-]*[\w/]", _address),
    rule("domain", rf"(?<![\w-])(?<!\w\.){_DOMAIN}\.{_TOP}\b(?:/[\w./-]*[\w/])?", _address),
)

# --- short forms

_SHORT_WITHOUT_STOP = {
    **{"Mr": "MISTER", "Mrs": "MISSUS", "Dr": "DOCTOR", "Jr": "JUNIOR", "Sr": "SENIOR"},
    **{"Inc": "INCORPORATED", "Ltd": "LIMITED", "Blvd": "BOULEVARD"},
}
_SHORT = {
    **_SHORT_WITHOUT_STOP,
    **{"MR": "MISTER", "MRS": "MISSUS", "DR": "DOCTOR", "Messrs": "MESSIEURS"},
    **{"Mme": "MADAME", "Mlle": "MADEMOISELLE", "Prof": "PROFESSOR", "Rev": "REVEREND"},
    **{"Hon": "HONORABLE", "Gen": "GENERAL", "Col": "COLONEL", "Capt": "CAPTAIN"},
    **{"Lt": "LIEUTENANT", "Maj": "MAJOR", "Sgt": "SERGEANT", "Cpl": "CORPORAL"},
    **{"Pvt": "PRIVATE", "Adm": "ADMIRAL", "Cmdr": "COMMANDER", "Gov": "GOVERNOR"},
    **{"Sen": "SENATOR", "Rep": "REPRESENTATIVE", "Pres": "PRESIDENT", "Esq": "ESQUIRE"},
    **{"Co": "COMPANY", "Corp": "CORPORATION", "Bros": "BROTHERS", "Dept": "DEPARTMENT"},
    **{"Ave": "AVENUE", "Rd": "ROAD", "Hwy": "HIGHWAY", "Sq": "SQUARE"},
    **{"dept": "DEPARTMENT", "approx": "APPROXIMATELY", "viz": "NAMELY"},
}
_OPENS_A_SENTENCE = r"(?:^|[.!?:;\"(]\s*|\n\s*)$"
_BEFORE_SAINTS = """A After And As At Before But By For From If In Is Lake Mount Near Of On Or
    Our Port Fort Since So That The Then Through To Toward Towards Under When Where While
    With""".split()


def _street_or_saint(found: re.Match[str]) -> str | None:
    named = bool(re.match(r"\s+[A-Z]", found.string[found.end() :]))
    nearby = found.string[max(0, found.start() - 80) : found.start()]
    before = re.search(r"([A-Z][\w']*)\s+$", nearby)
    if not before or before[1] in _BEFORE_SAINTS:
        return "SAINT" if named else None
    opens = re.search(_OPENS_A_SENTENCE, nearby[: before.start()])
    return "SAINT" if named and opens else "STREET"  # Visit St. Louis; on Main St.


# --- Roman numerals

_PARTS = """Chapter Book Part Act Scene Volume Section Article Canto Psalm Figure Table Appendix
    Phase Type Class Title Lesson Stage Level Apollo""".split()
_RULERS = """Henry Edward George William Richard James Charles Louis Philip Elizabeth Mary Pius Paul
    John Benedict Napoleon Frederick Francis Ferdinand Leo Gregory Innocent Clement Alexander Peter
    Nicholas Catherine Urban Ptolemy Victor Alfonso Gustav Otto Leopold Albert Wilhelm
    Anne""".split()
_RULER_TITLES = "King|Queen|Pope|Emperor|Empress|Tsar|Czar|Prince|Saint|St\\."
_ROMAN = r"(?=[IVX]\b|[IVXLC]{2,}\b)C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?<=[IVXLC])"
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def roman_value(numeral: str) -> int:
    """XIV is 14; the numeral must be a valid one."""
    values = [_ROMAN_VALUES[letter] for letter in numeral]
    nexts = [*values[1:], 0]
    return sum(-v if v < after else v for v, after in zip(values, nexts, strict=True))


def _numbered_part(found: re.Match[str]) -> str:
    return f"{found[1].upper()} {count(str(roman_value(found[2])))}"


def _ruler(found: re.Match[str]) -> str | None:
    title, name, numeral = found["title"] or "", found["name"], found["numeral"]
    after = found.string[found.end() :]
    if len(numeral) == 1 and re.match(r"\.\s+[A-Z]", after):
        return None  # George V. Higgins
    if numeral == "I" and not title and not re.match(r"'s|\s+of\b|\s*[,;)]", after):
        return None  # when Henry I had asked
    return f"{title.upper()}{name.upper()} THE {ordinal(str(roman_value(numeral)))}"


_LATIN = {"eg": "FOR EXAMPLE", "ie": "THAT IS", "etc": "ET CETERA", "vs": "VERSUS"}
_SHORT_FORMS = (
    rule(
        "Latin",
        r"(?<![\w.])(?:([eE])\.\s?[gG]\b\.?|([iI])\.\s?[eE]\b\.?|(etc)\b\.?|(vs)\b\.?)",
        lambda found: _LATIN[{1: "eg", 2: "ie", 3: "etc", 4: "vs"}[found.lastindex or 1]],
    ),
    rule("doctorate", r"\bPh\.?\s?D\b\.?", "P H D"),
    rule("with", r"(?<![\w/])w/(?=\s)", "WITH"),
    rule("without", r"(?<![\w/])w/o\b", "WITHOUT"),
    rule(
        "drive",  # 12 Ocean Dr., where the figures are read by now
        r"\b([A-Z]{2,}\s+(?:[A-Z][a-z]+\s+){1,3})Dr\.(?!\s+[A-Z])",
        lambda found: f"{found[1]}DRIVE",
    ),
    rule("mount", r"\bMt\.(?=\s+[A-Z])", "MOUNT"),
    rule("fort", r"\bFt\.(?=\s+[A-Z])", "FORT"),
    rule(
        "ruler",
        rf"(?P<title>\b(?:{_RULER_TITLES})\s+)?\b(?P<name>{'|'.join(_RULERS)})\s+"
        rf"(?P<numeral>{_ROMAN})\b",
        _ruler,
    ),
    rule(
        "numbered part",
        rf"\b({'|'.join(_PARTS)}|World War|Super Bowl)\s+({_ROMAN})\b(?!\.\w|')",
        _numbered_part,
    ),
    rule("street or saint", r"(?<![\w.'])St\b\.?", _street_or_saint),
    rule(
        "short form",
        rf"(?<![\w.'])(?:({'|'.join(_SHORT)})\.|({'|'.join(_SHORT_WITHOUT_STOP)})\b)",
        lambda found: _SHORT[found[1] or found[2]],
    ),
)
