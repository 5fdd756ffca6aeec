"""A release of Mozilla's Common Voice (Ardila et al. 2020, CC0), downloaded by hand.

The layout of a language's folder: `<root>/clips/*.mp3` beside `train.tsv`, `dev.tsv`, `test.tsv`,
`validated.tsv` and others; the subset is a table's name without `.tsv`.

    python -m data_prep.common_voice cv-corpus-17.0/de train     prints the manifest
"""

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from data_prep.command import run
from data_prep.entries import entry, is_unicode, readable
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

_COLUMNS = ("client_id", "path", "sentence")


def read(root: Path, subset: str) -> Iterator[Utterance | Rejected]:
    """The utterances of one table, in the order of their ids (the clips' names).

    The language is the table's `locale`, else the folder's name. Rejected are rows without
    sentence or clip, rows that are not UTF-8 or have too few columns, clips outside `clips/`, and
    each further row of a clip. Raises UserError for a missing table and for another layout.
    """
    table = _table(root, subset)
    locale = root.resolve().name
    rows = sorted(_rows(table), key=lambda row: row[0])
    first: dict[str, str] = {}
    for id, where, fields, fault in rows:
        name = fields.get("path", "")
        clip = root / "clips" / name
        audio = os.path.abspath(clip) if name and Path(name).name == name else ""
        if not fault and not audio:
            fault = f"expected a clip's file name, found {name!r}"
        if not fault and id in first:
            fault = f"the clip comes a second time (first: {first[id]})"
        if not fault and not os.path.isfile(clip):
            fault = f"there is no clips/{name}"
        if fault:
            yield Rejected(id, audio, f"{where}: {fault}")
            continue
        first[id] = where
        yield entry(
            id,
            clip,
            fields["sentence"],
            fields["client_id"],
            fields.get("locale") or locale,
            where=f"{where}: the sentence",
        )


def _table(root: Path, subset: str) -> Path:
    """The subset's table; UserError, saying what there is, where it or the clips are missing."""
    if not (root / "clips").is_dir():
        inner = sorted(path.parent.name for path in root.glob("*/clips"))
        advice = f"name one language's: {', '.join(inner)}" if inner else _HOW
        raise UserError(f"{root} holds no clips/, as a language of Common Voice does; {advice}")
    table = root / f"{subset}.tsv"
    if not subset or Path(subset).name != subset or not table.is_file():
        there = ", ".join(sorted(path.stem for path in root.glob("*.tsv"))) or "no table at all"
        raise UserError(f"{root} has no table {subset or 'SUBSET'}.tsv; it holds {there}")
    return table


def _rows(table: Path) -> Iterator[tuple[str, str, dict[str, str], str]]:
    """Each row: its id, where it stands, its fields by their names, and its fault."""
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        # As released: tabs between the columns, and quotation marks that mean themselves.
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = [name.lstrip("\ufeff") for name in next(lines, [])]
        if missing := [name for name in _COLUMNS if name not in header]:
            raise UserError(f"{table} has no column {missing[0]!r}; it has {', '.join(header)}")
        for values in lines:
            if not any(values):
                continue
            fields = dict(zip(header, values, strict=False))
            where, fault = f"{table.name}, line {lines.line_num}", ""
            if not is_unicode("".join(values)):
                fault = "it is not UTF-8: convert it"
                fields["path"] = readable(fields.get("path", ""))
            elif any(name not in fields for name in _COLUMNS):
                fault = f"expected {len(header)} columns, found {len(values)}"
            yield Path(fields.get("path", "")).stem or where, where, fields, fault


_HOW = (
    "Common Voice has no public address to fetch it from: agree to its terms at "
    "https://commonvoice.mozilla.org/datasets, download the language's archive there, unpack it, "
    "and name the folder that holds clips/"
)


def download(root: Path, subset: str) -> None:
    """Nothing where the table is there; else UserError says how to get it."""
    if not (root / "clips").is_dir():
        raise UserError(_HOW)
    _table(root, subset)


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest of a table."""
    return run("common_voice", download, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
