"""One's own corpus: a CSV, a TSV, JSON lines, or a Kaldi data folder.

A table has the columns `audio` (a path, relative to the table's folder, or absolute) and `text`,
and may have `id` (else the audio file's name without the ending), `speaker` and `language`; others
are ignored. A CSV has commas and may quote with "; a TSV has tabs, and its quotation marks mean
themselves; JSON lines hold one object each. A Kaldi data folder has `wav.scp` and `text`, and may
have `utt2spk`. The root is the table's folder and the subset its name, or the root is the table.

    python -m data_prep.table ROOT train.csv     prints the manifest
"""

import csv
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_prep.command import run
from data_prep.entries import entry, is_unicode, readable, text_lines
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

SPEAKER, LANGUAGE = "unknown", "en"  # where the table does not tell

_COLUMNS = ("id", "audio", "text", "speaker", "language")


@dataclass(frozen=True)
class _Row:
    """One row: its fields by their names, where it stands, and why it cannot be used."""

    where: str
    fields: dict[str, str] = field(default_factory=dict)
    fault: str = ""

    @property
    def id(self) -> str:
        audio = self.fields.get("audio", "")
        return self.fields.get("id", "").strip() or Path(audio).stem or self.where


def read(root: Path, subset: str = "") -> Iterator[Utterance | Rejected]:
    """The utterances of a table, in the order of their ids.

    Rejected are rows without text or sound, relative paths that leave the table's folder, rows
    that are not UTF-8 or not whole, each further row of an id, and a Kaldi folder's pipes. Raises
    UserError for a missing table, one that lacks a column, and a Kaldi folder with `segments`.
    """
    table = root / subset if subset else root
    if table.is_dir():
        folder, rows = table, _kaldi_rows(table)
    elif not table.is_file():
        raise UserError(f"there is no table {table}; name a .csv, .tsv, .jsonl or a Kaldi folder")
    elif table.suffix.lower() in (".csv", ".tsv"):
        folder, rows = table.parent, _table_rows(table, table.suffix.lower() == ".tsv")
    elif table.suffix.lower() in (".jsonl", ".json", ".ndjson"):
        folder, rows = table.parent, _json_rows(table)
    else:
        raise UserError(f"{table}: expected a .csv, .tsv, .jsonl or a Kaldi folder")
    first: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.id):
        found = _utterance(row, folder, first.get(row.id))
        if isinstance(found, Utterance):
            first[row.id] = row.where
        yield found


def _utterance(row: _Row, folder: Path, first: str | None) -> Utterance | Rejected:
    """What the row tells; `first` is where its id was told before."""
    name = row.fields.get("audio", "").strip()
    path = folder / name
    fault = row.fault
    if not fault and not name:
        fault = "it names no audio file"
    if not fault and os.path.normpath(name).split(os.sep)[0] == os.pardir:
        fault = f"{name} leaves the table's folder: move the sound, or give its absolute path"
    if not fault and first is not None:
        fault = f"the id comes a second time (first: {first})"
    if not fault and not os.path.isfile(path):  # which bears any name
        fault = f"there is no audio file {path}"
    if fault:
        return Rejected(row.id, os.path.abspath(path) if name else "", f"{row.where}: {fault}")
    return entry(
        row.id,
        path,
        row.fields.get("text", ""),
        row.fields.get("speaker", "").strip() or SPEAKER,
        row.fields.get("language", "").strip() or LANGUAGE,
        where=f"{row.where}: the text",
    )


def _table_rows(table: Path, tabs: bool) -> Iterator[_Row]:
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        if tabs:
            lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        else:
            lines = csv.reader(file, strict=True)
        try:
            header = [name.strip().lstrip("\ufeff") for name in next(lines, [])]
            _check_header(table, header)
            for values in lines:
                if any(value.strip() for value in values):
                    yield _table_row(header, values, f"{table.name}, line {lines.line_num}")
        except csv.Error as error:
            raise UserError(f"{table}, line {lines.line_num}: {error}; mend the line") from error


def _check_header(table: Path, header: list[str]) -> None:
    for name in ("audio", "text"):
        if name not in header:
            raise UserError(
                f"{table} has no column {name!r}: its first line must name the columns, "
                f"{', '.join(_COLUMNS)}; found {', '.join(map(readable, header)) or 'nothing'}"
            )
    for name in _COLUMNS:
        if header.count(name) > 1:
            raise UserError(f"{table} has the column {name!r} twice: drop one")


def _table_row(header: list[str], values: list[str], where: str) -> _Row:
    fault = ""
    if len(values) != len(header):
        fault = f"expected {len(header)} columns, found {len(values)}"
    if not is_unicode("".join(values)):
        fault = "it is not UTF-8: convert it"
        values = [readable(value) for value in values]
    return _Row(where, dict(zip(header, values, strict=False)), fault)


def _json_rows(table: Path) -> Iterator[_Row]:
    for line, where, fault in text_lines(table):
        if fault:
            yield _Row(where, fault="it is not UTF-8: convert it")
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            values = None
        if isinstance(values, dict):
            yield _json_row(values, where)
        else:
            yield _Row(where, fault=f"expected one JSON object, found {line[:60]!r}")


def _json_row(values: dict[str, object], where: str) -> _Row:
    fields, fault = {}, ""
    for name in _COLUMNS:
        value = values.get(name)
        if isinstance(value, str) or (isinstance(value, int) and name in ("id", "speaker")):
            fields[name] = str(value)
        elif value is not None:
            fault = f"{name!r} must be text, found {value!r}"
    if not is_unicode("".join(fields.values())):
        fault = "it holds half a character (a lone surrogate)"
        fields = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}
    return _Row(where, fields, fault)


def _kaldi_rows(folder: Path) -> Iterator[_Row]:
    scp, text, speakers = folder / "wav.scp", folder / "text", folder / "utt2spk"
    if not scp.is_file() or not text.is_file():
        raise UserError(f"{folder} is no Kaldi data folder: it must hold wav.scp and text")
    if (folder / "segments").exists():
        raise UserError(
            f"{folder} has segments, which are not read: cut the recordings into one file an "
            "utterance, and name these in wav.scp"
        )
    texts = _by_id(text)
    spoken_by = _by_id(speakers) if speakers.is_file() else None
    heard = set()
    for id, row in _kaldi_lines(scp):
        heard.add(id)
        audio = row.fields["rest"]
        told = texts.get(id)
        speaker = spoken_by.get(id) if spoken_by is not None else None
        fault = row.fault
        if not fault and (audio.endswith("|") or audio.startswith("|")):
            fault = "it is a command (a pipe), which is not run: write the sound to a file"
        if not fault and told is None:
            fault = f"the utterance {id} has no line in text"
        if not fault and spoken_by is not None and speaker is None:
            fault = f"the utterance {id} has no line in utt2spk"
        for other in (told, speaker):
            if not fault and other is not None and other.fault:
                fault = f"{other.where}: {other.fault}"
        fields = {"id": id, "audio": "" if "|" in audio else audio}
        fields["text"] = told.fields["rest"] if told else ""
        fields["speaker"] = speaker.fields["rest"] if speaker else ""
        yield _Row(row.where, fields, fault)
    for id, row in texts.items():
        if id not in heard:
            yield _Row(row.where, {"id": id}, row.fault or "there is no such line in wav.scp")


def _kaldi_lines(path: Path) -> Iterator[tuple[str, _Row]]:
    """Each line `ID REST`, by its id."""
    for line, where, fault in text_lines(path):
        id, *rest = line.split(maxsplit=1)
        fault = "it is not UTF-8: convert it" if fault else ""
        yield id, _Row(where, {"id": id, "rest": "".join(rest).strip()}, fault)


def _by_id(path: Path) -> dict[str, _Row]:
    found: dict[str, _Row] = {}
    for id, row in _kaldi_lines(path):
        if id in found:
            row = replace(row, fault=f"the id comes a second time (first: {found[id].where})")
        found[id] = row
    return found


def download(root: Path, subset: str = "") -> None:
    """Nothing: one's own corpus is where it is. Raises UserError where it is not."""
    if not (root / subset if subset else root).exists():
        raise UserError(f"{root / subset}: one's own table cannot be fetched: put it there")


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest of a table."""
    return run("table", download, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
