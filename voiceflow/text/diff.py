"""What differs between two texts, word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Edit:
    """The words first:last of a text give way to `words`; one of the two may be none.

    Raises ValueError where nothing is changed or first:last is no stretch.
    """

    first: int
    last: int
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last or (self.first == self.last and not self.words):
            raise ValueError(f"{self} changes nothing")

    @property
    def kind(self) -> Literal["insert", "delete", "replace"]:
        """What is done to the text."""
        if self.first == self.last:
            return "insert"
        return "replace" if self.words else "delete"


def edits(old: Sequence[str], new: Sequence[str]) -> tuple[Edit, ...]:
    """The least change that makes `new` of `old`, in order, with a kept word between any two.

    As many words as can be are kept (a longest common subsequence); of the ways to do that, one
    with the fewest edits. Words that are equal are the same; none where the texts are equal.
    """
    before = _common(old, new)
    rest, new_rest = old[before:], new[before:]
    after = _common(rest[::-1], new_rest[::-1])
    kept = _kept(rest[: len(rest) - after], new_rest[: len(new_rest) - after])
    kept = [(i + before, j + before) for i, j in kept]
    found: list[Edit] = []
    i, j = before, before
    for next_i, next_j in [*kept, (len(old) - after, len(new) - after)]:
        if next_i > i or next_j > j:
            found.append(Edit(i, next_i, tuple(new[j:next_j])))
        i, j = next_i + 1, next_j + 1
    return tuple(found)


def joined(
    found: Sequence[Edit], old: Sequence[str], sizes: Sequence[int], least: int
) -> tuple[Edit, ...]:
    """The edits, in which those with less than `least` kept between them have become one.

    sizes: of each old word, such as its phones; what is kept counts as the sum of its words.
    """
    out: list[Edit] = []
    for edit in found:
        if out and sum(sizes[out[-1].last : edit.first]) < least:
            left = out.pop()
            between = tuple(old[left.last : edit.first])
            edit = Edit(left.first, edit.last, (*left.words, *between, *edit.words))
        out.append(edit)
    return tuple(out)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words the texts begin with alike; some best way keeps them all."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def _kept(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """Places (in old, in new) of the words to keep.

    Only ways are looked at that stay near the diagonal: one that strays k places from it changes
    more than k words, so what is found with no more changes than that is the best of all (Ukkonen
    1985). Time and memory grow with the words times the changes.
    """
    width = abs(len(old) - len(new)) + 16
    while True:
        kept = _kept_near(old, new, width)
        changes = len(old) + len(new) - 2 * len(kept)
        if changes <= width or width >= max(len(old), len(new)):
            return kept
        width *= 2


def _kept_near(old: Sequence[str], new: Sequence[str], width: int) -> list[tuple[int, int]]:
    """The best of the ways whose places in the two texts are never more than `width` apart.

    By dynamic programming over prefixes, in two states: the prefix ends in a kept word, or in a
    change. A changed word costs more than all edits together, an edit costs one.
    """
    n, m = len(old), len(new)
    word_cost = n + m + 1
    never = word_cost**2
    # keep[i][j - i + width], change[...]: least cost of old[:i] against new[:j] that ends so.
    keep = [[never] * (2 * width + 1) for _ in range(n + 1)]
    change = [[never] * (2 * width + 1) for _ in range(n + 1)]
    keep[0][width] = 0
    for i in range(n + 1):
        for j in range(max(i - width, 0), min(i + width, m) + 1):
            at = j - i + width
            if i and j and old[i - 1] == new[j - 1]:
                keep[i][at] = min(keep[i - 1][at], change[i - 1][at])
            if i and at < 2 * width:
                change[i][at] = min(keep[i - 1][at + 1] + 1, change[i - 1][at + 1]) + word_cost
            if j and at:
                added = min(keep[i][at - 1] + 1, change[i][at - 1]) + word_cost
                change[i][at] = min(change[i][at], added)
    kept: list[tuple[int, int]] = []
    i, j = n, m
    keeps = keep[n][m - n + width] <= change[n][m - n + width]
    while i or j:
        at = j - i + width
        if keeps:
            i, j = i - 1, j - 1
            kept.append((i, j))
            keeps = keep[i][at] <= change[i][at]
            continue
        cost = change[i][at] - word_cost
        if j and at and cost == min(keep[i][at - 1] + 1, change[i][at - 1]):
            j, at = j - 1, at - 1
        else:
            i, at = i - 1, at + 1
        keeps = cost == keep[i][at] + 1
    return kept[::-1]
