"""English pronunciations: the dictionary, then rules for forms it lacks, then a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from voiceflow.config import UserError
from voiceflow.text.phones import ARPABET, VOWELS, without_stress

Pronunciation = tuple[str, ...]
Source = Literal["dictionary", "rule", "g2p"]

_LETTERS = re.compile(r"'?[A-Z][A-Z']*")
_VARIANT = re.compile(r"\(\d+\)$")
_HISSING = {"S", "Z", "SH", "ZH", "CH", "JH"}
_VOICELESS = {"P", "T", "K", "F", "TH"}
_TAKES_ES = ("SE", "ZE", "XE", "HE", "OE")
_SHORTEST_PART_OF_COMPOUND = 3

# Spellings that the American dictionary writes otherwise; each is tried where it matches.
_RESPELLINGS = [
    (r"OUR", "OR"),
    (r"IS(E|ED|ES|ER|ERS|ING|ATION|ATIONS|ABLE)$", r"IZ\1"),
    (r"YS(E|ED|ES|ER|ING)$", r"YZ\1"),
    (r"([^AEIOU])RE(S|D)?$", r"\1ER\2"),
    (r"LL(ED|ER|ERS|ING|OUS|Y)$", r"L\1"),
    (r"(L|ST)L(S|MENT|FUL|NESS)?$", r"\1LL\2"),
    (r"FUL$", "FULL"),
    (r"OGUE", "OG"),
    (r"[AO]E", "E"),
    (r"ENCE$", "ENSE"),
    (r"GREY", "GRAY"),
    (r"GEMENT", "GMENT"),
    (r"PLOUGH", "PLOW"),
    (r"PP(ED|ING|ER)$", r"P\1"),
    (r"XION", "CTION"),
    (r"MME(S?)$", r"M\1"),
    (r"PH", "F"),
]
_SUFFIXES = {
    "NESS": "N AH S",
    "NESSES": "N AH S IH Z",
    "LESS": "L AH S",
    "LESSLY": "L AH S L IY",
    "FUL": "F AH L",
    "FULLY": "F AH L IY",
    "MENT": "M AH N T",
    "MENTS": "M AH N T S",
    "ER": "ER",
    "ERS": "ER Z",
    "EST": "AH S T",
    "ETH": "AH TH",
    "TH": "TH",
    "ISH": "IH SH",
    "ABLE": "AH B AH L",
    "ING": "IH NG",
    "INGS": "IH NG Z",
    "INGLY": "IH NG L IY",
    "IN'": "IH N",
    "Y": "IY",
    "SHIP": "SH IH P",
    "LIKE": "L AY K",
    "WARD": "W ER D",
    "WARDS": "W ER D Z",
    "'LL": "AH L",
    "'VE": "V",
    "'RE": "ER",
}
_PREFIXES = {
    "UN": "AH N",
    "RE": "R IY",
    "NON": "N AA N",
    "MIS": "M IH S",
    "OUT": "AW T",
    "OVER": "OW V ER",
    "UNDER": "AH N D ER",
    "FORE": "F AO R",
    "IN": "IH N",
    "DIS": "D IH S",
    "D'": "D",
    "L'": "L",
    "O'": "OW",
}


def english_dictionary_path() -> Path:
    """The dictionary that pocketsphinx carries (CMUdict without stress, BSD)."""
    import pocketsphinx

    return Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))


def read_dictionary(path: Path | str) -> dict[str, list[Pronunciation]]:
    """Pronunciations of each word, upper case, in the file's order (`word`, `word(2)`, ...).

    Raises UserError where the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable pronunciation dictionary ({error})") from None
    entries: dict[str, list[Pronunciation]] = {}
    for line in lines:
        word, *phones = line.split() or [""]
        known = entries.setdefault(_VARIANT.sub("", word).upper(), [])
        if phones and tuple(phones) not in known:
            known.append(tuple(phones))
    return {word: said for word, said in entries.items() if said}


def with_s(stem: Pronunciation) -> Pronunciation:
    """The stem with the ending of plurals and possessives: IH Z, S or Z by its last phone."""
    if stem[-1] in _HISSING:
        return (*stem, "IH", "Z")
    return (*stem, "S" if stem[-1] in _VOICELESS else "Z")


def with_ly(stem: Pronunciation) -> Pronunciation:
    """The stem with -LY, of whose two Ls one is said: NOBLE, NOBLY."""
    if stem[-2:] == ("AH", "L"):
        return (*stem[:-2], "L", "IY")
    return (*stem, "IY") if stem[-1] == "L" else (*stem, "L", "IY")


def with_not(stem: Pronunciation) -> Pronunciation:
    """The stem with N'T: AIN'T, DIDN'T."""
    return (*stem, "N", "T") if stem[-1] in VOWELS else (*stem, "AH", "N", "T")


def with_d(stem: Pronunciation) -> Pronunciation:
    """The stem with the ending of the past: IH D, T or D by its last phone."""
    if stem[-1] in {"T", "D"}:
        return (*stem, "IH", "D")
    voiceless = stem[-1] in _VOICELESS | {"S", "SH", "CH"}
    return (*stem, "T" if voiceless else "D")


_INFLECTIONS = {"S": with_s, "ED": with_d, "'D": with_d, "LY": with_ly, "N'T": with_not}


class Pronounces(Protocol):
    """Knows how words are said."""

    def pronunciations(self, word: str) -> Sequence[Pronunciation]:
        """Ways to say an upper-case word, likeliest first; UserError where there is none."""
        ...


class ClosedLexicon:
    """The words of one file, in whatever phones it has, and no others: for any language."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._dictionary = read_dictionary(path)
        if not self._dictionary:
            raise UserError(f"{path}: expected lines of a word and its phones, found none")

    def pronunciations(self, word: str) -> Sequence[Pronunciation]:
        """The file's, in its order; UserError where it lacks the word."""
        try:
            return self._dictionary[word]
        except KeyError:
            raise UserError(f"no pronunciation for {word!r}: {self._path} lacks it") from None

    def phones(self) -> list[str]:
        """All phones, in the alphabet's order."""
        return sorted({p for said in self._dictionary.values() for way in said for p in way})


class Lexicon:
    """Pronunciations of any word of letters and apostrophes.

    dictionary: upper-case words; g2p: pronunciations of a word that neither the dictionary nor
    the rules know, likeliest first.
    """

    def __init__(
        self,
        dictionary: Mapping[str, Sequence[Pronunciation]],
        g2p: Callable[[str], Sequence[Pronunciation]] | None = None,
    ):
        self._dictionary = dictionary
        self._g2p = g2p
        self._found: dict[str, tuple[list[Pronunciation], Source]] = {}

    @classmethod
    def english(
        cls,
        g2p: Callable[[str], Sequence[Pronunciation]] | None = None,
        own: Path | str | None = None,
    ) -> Lexicon:
        """On the dictionary that pocketsphinx carries, and one's own, whose words come first.

        own: lines of a word and its phones, as `word AH B`; more ways to say it as `word(2) ...`;
        stress digits are passed over. Raises UserError where it cannot be read or says a word in
        other phones than ARPAbet's.
        """
        mine: dict[str, list[Pronunciation]] = {}
        for word, said in ({} if own is None else read_dictionary(own)).items():
            mine[word] = _distinct(tuple(map(without_stress, way)) for way in said)
            if foreign := sorted({p for way in mine[word] for p in way} - set(ARPABET)):
                raise UserError(
                    f"{own}: {word} has the phone {foreign[0]}, expected ARPAbet's, such as "
                    f"{' '.join(ARPABET[:5])}"
                )
        return cls({**read_dictionary(english_dictionary_path()), **mine}, g2p)

    def pronunciations(self, word: str) -> list[Pronunciation]:
        """Ways to say an upper-case word, likeliest first.

        Raises UserError for a word that nothing here can pronounce.
        """
        return self._lookup(word)[0]

    def source(self, word: str) -> Source:
        """Where the pronunciations come from; a rule on a guessed stem counts as g2p."""
        return self._lookup(word)[1]

    def _lookup(self, word: str) -> tuple[list[Pronunciation], Source]:
        if word not in self._found:
            self._found[word] = self._find(word)
        return self._found[word]

    def _find(self, word: str) -> tuple[list[Pronunciation], Source]:
        if not _LETTERS.fullmatch(word):
            raise UserError(f"no pronunciation for {word!r}: expected A to Z and apostrophes")
        if said := self._dictionary.get(word):
            return list(said), "dictionary"
        if said := _distinct(self._by_rule(word, depth=2)):
            return said, "rule"
        if word.endswith("'S"):
            said, source = self._lookup(word.removesuffix("'S"))
            return _distinct(map(with_s, said)), source
        if word.endswith("'"):
            return self._lookup(word.removesuffix("'"))
        said = _distinct([*self._compound(word), *(self._g2p(word) if self._g2p else ())])
        if not said:
            raise UserError(f"no pronunciation for {word!r}: neither dictionary nor rules know it")
        return said, "g2p"

    def _known(self, word: str, depth: int) -> Sequence[Pronunciation]:
        if said := self._dictionary.get(word):
            return said
        return _distinct(self._by_rule(word, depth - 1)) if depth > 0 and len(word) > 2 else ()

    def _by_rule(self, word: str, depth: int) -> Iterator[Pronunciation]:
        """Pronunciations built on words that the dictionary holds; the first rule that fits."""
        rules = (self._possessive, self._inflected, self._suffix, self._respelled, self._prefix)
        for rule in rules:
            if found := list(rule(word, depth)):
                yield from found
                return

    def _possessive(self, word: str, depth: int) -> Iterator[Pronunciation]:
        if word.endswith("'S"):
            yield from map(with_s, self._known(word[:-2], depth))
        elif word.endswith("S'"):
            said = self._known(word[:-1], depth)
            yield from said
            yield from map(with_s, said)

    def _inflected(self, word: str, depth: int) -> Iterator[Pronunciation]:
        for ending, inflect in _INFLECTIONS.items():
            if word.endswith(ending) and not word.endswith(("SS", "'S")):
                yield from map(inflect, self._stem(word.removesuffix(ending), ending, depth))

    def _suffix(self, word: str, depth: int) -> Iterator[Pronunciation]:
        for suffix in sorted(_SUFFIXES, key=len, reverse=True):
            if word.endswith(suffix) and len(word) - len(suffix) > (1 if "'" in suffix else 2):
                for said in self._stem(word.removesuffix(suffix), suffix, depth):
                    yield (*said, *_SUFFIXES[suffix].split())

    def _stem(self, base: str, suffix: str, depth: int) -> Sequence[Pronunciation]:
        """What the dictionary says of the base's spellings; only then what the rules make of it."""
        spellings = list(_stems(base, suffix))
        for deeper in (0, depth):
            if said := _distinct(s for stem in spellings for s in self._known(stem, deeper)):
                return said
        return ()

    def _respelled(self, word: str, depth: int) -> Iterator[Pronunciation]:
        for pattern, replacement in _RESPELLINGS:
            american = re.sub(pattern, replacement, word)
            if american != word:
                yield from self._known(american, depth)

    def _prefix(self, word: str, depth: int) -> Iterator[Pronunciation]:
        for prefix, phones in _PREFIXES.items():
            if word.startswith(prefix) and len(word) - len(prefix) > 3:
                for said in self._known(word.removeprefix(prefix), depth):
                    yield (*phones.split(), *said)

    def _compound(self, word: str) -> Iterator[Pronunciation]:
        """Two words of the dictionary written as one, the evenest split first."""
        shortest = _SHORTEST_PART_OF_COMPOUND
        cuts = range(shortest, len(word) - shortest + 1)
        for cut in sorted(cuts, key=lambda cut: abs(len(word) - 2 * cut)):
            left, right = self._dictionary.get(word[:cut]), self._dictionary.get(word[cut:])
            if left and right:
                yield (*left[0], *right[0])
                return


def _stems(base: str, suffix: str) -> Iterator[str]:
    """Spellings that `base` may have without the suffix: HOP(E)ING, HOP(P)ING, HAPP(Y)ILY."""
    yield base
    if suffix[0] in "AEIOUY'":
        yield base + "E"
        if len(base) > 3 and base[-1] == base[-2]:
            yield base[:-1]
    if base.endswith("I"):
        yield base[:-1] + "Y"
    if suffix == "S" and base.endswith("IE"):
        yield base[:-2] + "Y"
    elif suffix == "S" and base.endswith(_TAKES_ES):
        yield base[:-1]
    if suffix == "LY" and base.endswith("B"):
        yield base + "LE"


def _distinct(said: Iterable[Pronunciation]) -> list[Pronunciation]:
    return list(dict.fromkeys(said))
