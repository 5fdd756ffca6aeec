"""Any corpus of the Hugging Face Hub (or a local folder that `datasets` reads), streamed to files.

The subset is `NAME[:CONFIG]:SPLIT`, as `mozilla-foundation/common_voice_17_0:de:train`. Its rows
go to `<root>/<safe name>/audio/` as they are, undecoded, with a line each in `transcripts.jsonl`.
The columns are found by their usual names; `--audio`, `--text`, `--speaker` and `--language` name
others. For corpora behind terms, agree to them on the Hub and run `hf auth login` first.

    python -m data_prep.hub ROOT NAME:CONFIG:SPLIT --download   fetches, and goes on if broken off
    python -m data_prep.hub ROOT NAME:CONFIG:SPLIT              prints the manifest
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.command import run
from data_prep.entries import EXTENSIONS, entry
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance
from voiceflow.files import read_json, replacing, write_json

if TYPE_CHECKING:
    import datasets

# Of each column, the names under which it is looked for, in this order.
USUAL = {
    "audio": ("audio",),
    "text": ("sentence", "text", "transcription", "normalized_text", "text_normalized"),
    "speaker": ("client_id", "speaker_id", "speaker"),
    "language": ("locale", "language"),
}
SPEAKER, LANGUAGE = "unknown", "en"  # where no column tells

_CODE = re.compile(r"[a-z]{2}([-_][A-Za-z]{2,4})?")  # a language, as de, zh-CN or en_us
_REPORT_EVERY = 100  # rows


def read(root: Path, subset: str) -> Iterator[Utterance | Rejected]:
    """The utterances of a subset that was downloaded, in the order of their ids (the rows').

    Rejected are rows without sound or text. Raises UserError for a subset that is not there, or
    not whole.
    """
    folder = root / safe_name(subset)
    if not folder.is_dir():
        state = "is not whole" if _unfinished(folder).is_dir() else "is not there"
        raise UserError(
            f"{folder} {state}; fetch it: python -m data_prep.hub {root} {subset} --download"
        )
    with (folder / "transcripts.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            path = folder / "audio" / row["audio"]
            if row["fault"]:
                yield Rejected(row["id"], "", row["fault"])
            else:
                yield entry(row["id"], path, row["text"], row["speaker"], row["language"])


def safe_name(subset: str) -> str:
    """The folder's name: letters, digits, `.`, `_` and `-` alone, and another for each subset."""
    _parts(subset)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", subset.replace("/", "--").replace(":", "--")).strip("-.")
    digest = hashlib.sha256(subset.encode()).hexdigest()[:8]
    return f"{name[-100:]}-{digest}"


def _parts(subset: str) -> tuple[str, str | None, str]:
    """Name, configuration and split."""
    parts = subset.split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise UserError(
            f"expected NAME:SPLIT or NAME:CONFIG:SPLIT, as mozilla-foundation/common_voice_17_0:"
            f"de:train, found {subset!r}"
        )
    return parts[0], parts[1] if len(parts) == 3 else None, parts[-1]


def _unfinished(folder: Path) -> Path:
    return folder.with_name(folder.name + ".part")


def download(
    root: Path,
    subset: str,
    audio: str | None = None,
    text: str | None = None,
    speaker: str | None = None,
    language: str | None = None,
) -> None:
    """Stream a subset's rows into files under `root`, whole or not at all.

    What has arrived stands in a folder of its own name with `.part` until all rows are there; a
    further call goes on after the last whole row. Each name is a column's; without one, the usual
    names are tried. Raises UserError for a corpus that cannot be had, and for columns that are
    not there.
    """
    folder = root / safe_name(subset)
    if folder.is_dir():
        return
    name, config, split = _parts(subset)
    wanted = {"audio": audio, "text": text, "speaker": speaker, "language": language}
    rows, columns = _stream(name, config, split, wanted)
    part = _unfinished(folder)
    try:
        (part / "audio").mkdir(parents=True, exist_ok=True)
        _same_source(part / "source.json", {"subset": subset, "columns": columns})
        _write(
            rows,
            columns,
            part,
            _prefix(folder.name, split),
            _default_language(config),
            Path(name).exists(),
        )
        os.replace(part, folder)
    except OSError as error:
        raise UserError(
            f"{subset}: broke off ({error}); what has arrived is kept in {part}, and the same "
            "command goes on from there"
        ) from error


def _stream(
    name: str, config: str | None, split: str, wanted: Mapping[str, str | None]
) -> "tuple[datasets.IterableDataset, dict[str, str]]":
    """The rows with the wanted columns alone, undecoded; and each column's name."""
    import datasets

    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=True)
        assert isinstance(rows, datasets.IterableDataset)
        if rows.features is None:
            rows = rows._resolve_features()
        features = rows.features or {}
    except Exception as error:  # the library has many kinds, and those of what lies under it
        raise UserError(
            f"{name}: `datasets` cannot read configuration {config or '(none)'}, split {split}: "
            f"{_told(error)}; look at its page on the Hub: what its parts are called, and whether "
            "it has terms to agree to (then `hf auth login`)"
        ) from error
    columns = {}
    for what, names in USUAL.items():
        asked = wanted[what]
        found = [column for column in ([asked] if asked else names) if column in features]
        if found:
            columns[what] = found[0]
        elif asked or what in ("audio", "text"):
            raise UserError(
                f"{name} has no column {asked or ' or '.join(names)} for the {what}; it has "
                f"{', '.join(features)}: name one by --{what}"
            )
    rows = rows.select_columns(list(dict.fromkeys(columns.values())))
    return rows.cast_column(columns["audio"], datasets.Audio(decode=False)), columns


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _guarded(rows: "datasets.IterableDataset") -> Iterator[Mapping[str, Any]]:
    """The rows; OSError for whatever ends their stream too early."""
    try:
        yield from rows
    except Exception as error:  # the library has many kinds, and those of what lies under it
        raise OSError(_told(error)) from error


def _same_source(path: Path, source: dict[str, Any]) -> None:
    """Write down what is fetched; UserError where the folder was begun with other columns."""
    if path.exists() and (found := read_json(path)) != source:
        raise UserError(
            f"{path.parent} was begun as {found}, now {source} is asked for: delete the folder, or "
            "ask for the same"
        )
    write_json(path, source)


def _prefix(folder: str, split: str) -> str:
    """What ids begin with: another for each subset, since a preparation may hold several."""
    return f"{re.sub(r'[^A-Za-z0-9_]', '-', split)}-{folder[-8:]}"


def _default_language(config: str | None) -> str:
    return config if config and _CODE.fullmatch(config) else LANGUAGE


def _write(
    rows: "datasets.IterableDataset",
    columns: dict[str, str],
    part: Path,
    prefix: str,
    locale: str,
    is_local: bool,
) -> None:
    transcripts = part / "transcripts.jsonl"
    done = _whole_lines(transcripts)
    with transcripts.open("a", encoding="utf-8") as file:
        for number, row in enumerate(_guarded(rows.skip(done)), start=done):
            line = _save(row, columns, part / "audio", f"{prefix}-{number:08d}", locale, is_local)
            # Escaped, so that any string can be written; flushed, so that a kill loses one row.
            file.write(json.dumps(line) + "\n")
            file.flush()
            if (number + 1) % _REPORT_EVERY == 0 and sys.stderr.isatty():
                print(f"\r{number + 1} rows", end="", file=sys.stderr, flush=True)


def _whole_lines(path: Path) -> int:
    """How many rows are written; what follows the last line's end is cut off."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        count = whole = 0
        for line in file:
            if line.endswith(b"\n"):
                count += 1
                whole += len(line)
        file.truncate(whole)
    return count


def _save(
    row: Mapping[str, Any],
    columns: dict[str, str],
    folder: Path,
    id: str,
    locale: str,
    is_local: bool,
) -> dict[str, str]:
    """Write the row's sound; returns its line of transcripts.jsonl."""
    told = {what: row.get(column) for what, column in columns.items() if what != "audio"}
    words = {what: "" if value is None else str(value) for what, value in told.items()}
    code = words.get("language", "").strip()
    line = {
        "id": id,
        "audio": "",
        "text": words["text"],
        "speaker": words.get("speaker", "").strip() or SPEAKER,
        "language": code if _CODE.fullmatch(code) else locale,
        "fault": "",
    }
    sound = row.get(columns["audio"]) or {}
    content = sound.get("bytes") or _content(sound.get("path") or "", is_local)
    if not content:
        return {**line, "fault": "the row holds no sound"}
    line["audio"] = id + _ending(sound.get("path") or "", content)
    with replacing(folder / line["audio"]) as temporary:
        temporary.write_bytes(content)
    return line


def _content(path: str, is_local: bool) -> bytes:
    """What stands at a path that a row names in place of bytes; empty where there is none.

    Streamed from the Hub, it is an address; a path of this machine counts only in a local corpus,
    lest a corpus of strangers point at one's own files.
    """
    import fsspec

    is_address = "://" in path and not path.startswith(("file:", "local:"))
    if not path or not (is_local or is_address):
        return b""
    try:
        with fsspec.open(path, "rb") as file:
            content: bytes = file.read()
    except FileNotFoundError:
        return b""
    except Exception as error:  # the library has many kinds, and those of what lies under it
        raise OSError(f"{path}: {_told(error)}") from error
    return content


def _ending(path: str, content: bytes) -> str:
    """The sound's file ending, by its name, else by its first bytes; `.wav` where neither tells."""
    named = Path(path.split("::")[0]).suffix.lower()
    if named in EXTENSIONS:
        return named
    starts = {b"fLaC": ".flac", b"OggS": ".ogg", b"ID3": ".mp3", b"\xff\xfb": ".mp3"}
    return next((ending for start, ending in starts.items() if content.startswith(start)), ".wav")


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest of a subset, having fetched it where that is asked for."""
    return run("hub", download, read, arguments, options=tuple(USUAL))


if __name__ == "__main__":
    sys.exit(main())
