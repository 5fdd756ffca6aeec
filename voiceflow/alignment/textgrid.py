"""TextGrids with the tiers words and phones, as the Montreal Forced Aligner writes them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from voiceflow.alignment.types import Alignment, AlignmentError, Phone, Word
from voiceflow.text.phones import UNKNOWN, without_stress

UNKNOWN_WORD = "<UNK>"
_SILENT = {"", "SIL", "SP", "<EPS>", "<SIL>"}


def read_textgrid(path: Path | str, stress: bool = False) -> Alignment:
    """The alignment in a TextGrid; what no word covers is silence.

    stress: whether vowels keep their digit. Words come out upper-case; a word that the aligner
    did not know is `UNKNOWN_WORD`, and a word without phones holds SPN.
    Raises AlignmentError where the file cannot be read or lacks a tier.
    """
    from praatio import textgrid
    from praatio.utilities.errors import PraatioException

    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    except (OSError, UnicodeError, ValueError, IndexError, PraatioException) as error:
        raise AlignmentError(f"{path}: no readable TextGrid ({error})") from None
    seconds = float(grid.maxTimestamp)
    phones = [(label, p.start, p.end) for p in _tier(grid, "phones", path) if (label := _label(p))]
    made: list[Word] = []
    end = 0.0
    for interval in _tier(grid, "words", path):
        text = _label(interval)
        if not text:
            continue
        if interval.start > end:
            made.append(Word.silence(end, interval.start))
        start, end = max(end, interval.start), interval.end
        inside = [p for p in phones if start <= (p[1] + p[2]) / 2 < end]
        made.append(Word(text, start, end, _fill(inside, start, end, stress)))
    if seconds > end:
        made.append(Word.silence(end, seconds))
    return Alignment(tuple(made), seconds)


def _tier(grid: Any, name: str, path: Path | str) -> Any:
    """The tier of that name, or MFA's `speaker - name`."""
    for tier in grid.tierNames:
        if tier.lower().split(" - ")[-1] == name:
            return grid.getTier(tier).entries
    found = ", ".join(grid.tierNames) or "none"
    raise AlignmentError(f"{path}: expected the tiers words and phones, found {found}")


def _label(interval: Any) -> str:
    label = str(interval.label).strip().upper()
    return "" if label in _SILENT else label


def _fill(
    phones: list[tuple[str, float, float]], start: float, end: float, stress: bool
) -> tuple[Phone, ...]:
    """The word's phones with their gaps closed, each reaching to the start of the next."""
    symbols = [label if stress else without_stress(label) for label, _, _ in phones] or [UNKNOWN]
    borders = [start, *(phone[1] for phone in phones[1:]), end]
    return tuple(Phone(s, *b) for s, b in zip(symbols, pairwise(borders), strict=True))
