"""Phone symbols: ARPAbet, word position, ghost silence and the table of a model's phones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from voiceflow.config import UserError
from voiceflow.files import read_json, write_json

SILENCE = "SIL"
UNKNOWN = "SPN"
NONE = "<none>"

VOWELS = tuple("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split())
CONSONANTS = tuple("B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split())
ARPABET = tuple(sorted(VOWELS + CONSONANTS))


def without_stress(phone: str) -> str:
    """``AH0`` -> ``AH``."""
    return phone.rstrip("012")


def positioned(phones: Sequence[str]) -> list[str]:
    """The phones of one word with their place in it: _B first, _I inside, _E last, _S alone."""
    if len(phones) == 1:
        return [f"{phones[0]}_S"]
    last = len(phones) - 1
    return [
        f"{phone}_{'B' if i == 0 else 'E' if i == last else 'I'}" for i, phone in enumerate(phones)
    ]


def base_of(phone: str) -> str:
    """The phone without its place in the word: AH_B is AH."""
    return phone.rpartition("_")[0] or phone


def unmarked(phone: str) -> str:
    """The phone with no stress told: AH1_B is AH0_B; one without a mark stays as it is."""
    base, line, place = phone.rpartition("_")
    return f"{base[:-1]}0_{place}" if line and base.endswith(("1", "2")) else phone


def unplaced(phone: str) -> str:
    """The phone with no place in its word told: AH_B is AH_I, silence is silence."""
    base, line, _ = phone.rpartition("_")
    return f"{base}_I" if line else phone


def with_ghost_silences(words: Iterable[Sequence[str]]) -> list[str]:
    """Positioned phones of a sentence: SIL, word, SIL, word, ..., SIL.

    A silence stands between any two words and at both ends; its duration may be zero
    (Voicebox, section 5.1, "ghost silence").
    """
    phones = [SILENCE]
    for word in words:
        phones += [*positioned(word), SILENCE]
    return phones


class PhoneTable:
    """The phones of a model in their order; index 0 is padding and the dropped condition."""

    def __init__(self, symbols: Iterable[str]):
        self.symbols = tuple(symbols)
        if not self.symbols or self.symbols[0] != NONE:
            raise UserError(f"a phone table starts with {NONE}, found {self.symbols[:1]}")
        if len(set(self.symbols)) != len(self.symbols):
            raise UserError("a phone table holds each symbol once; this one repeats some")
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}

    @classmethod
    def english(cls, stress: bool = False) -> PhoneTable:
        """ARPAbet in the four word positions, silence and unknown speech."""
        vowels = [f"{v}{s}" for v in VOWELS for s in "012"] if stress else list(VOWELS)
        return cls.of([*sorted([*vowels, *CONSONANTS]), UNKNOWN])

    @classmethod
    def of(cls, bases: Iterable[str]) -> PhoneTable:
        """Phones of any set in the four word positions, and silence."""
        return cls([NONE, SILENCE, *(f"{base}_{place}" for base in bases for place in "BIES")])

    def ids(self, symbols: Iterable[str]) -> list[int]:
        """Indices of the symbols. Raises UserError naming a phone that the table lacks."""
        try:
            return [self._index[symbol] for symbol in symbols]
        except KeyError as error:
            raise UserError(
                f"phone {error.args[0]!r} is not in the model's table of {len(self)} phones; "
                "align with the dictionary and the stress option the model was trained with"
            ) from None

    def bases(self) -> list[str]:
        """Silence, then every phone without its place in a word, in the table's order."""
        spoken = [s for s in self.symbols if s not in (NONE, SILENCE)]
        return [SILENCE, *dict.fromkeys(base_of(symbol) for symbol in spoken)]

    def save(self, path: Path | str) -> None:
        """Write the symbols as JSON, atomically."""
        write_json(Path(path), list(self.symbols))

    @classmethod
    def load(cls, path: Path | str) -> PhoneTable:
        """Read what `save` wrote. Raises UserError where the file is missing or not a table."""
        symbols = read_json(Path(path))
        if not isinstance(symbols, list) or not all(isinstance(s, str) for s in symbols):
            raise UserError(f"{path}: expected a JSON list of phone symbols")
        return cls(symbols)

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PhoneTable) and self.symbols == other.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)
