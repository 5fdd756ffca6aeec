"""Any corpus of the Hugging Face Hub (or a local folder that `datasets` reads), streamed to files.

The subset is `NAME[:CONFIG]:SPLIT`, as `mozilla-foundation/common_voice_17_0:de:train`. Its rows
go to `<root>/<safe name>/audio/` as they are, undecoded, with a line each in `transcripts.jsonl`.
The columns are found by their usual names, the audio also as the only column of sounds; `--audio`,
`--text`, `--speaker`, `--language` and `--id` name others (`voiceflow prepare hub --download` has
`--column text=NAME`). Without `--id` the rows are numbered. For corpora behind terms, agree to them
on the Hub and run `hf auth login` first.

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

# Of each column, the names under which it is looked for, in this order. An id is never guessed:
# what a corpus calls so may come twice, or be no name for a file.
USUAL: dict[str, tuple[str, ...]] = {
    "audio": ("audio",),
    "text": (
        "sentence", "text", "transcription", "transcript", "normalized_text", "text_normalized",
    ),
    "speaker": ("client_id", "speaker_id", "speaker"),
    "language": ("locale", "language"),
    "id": (),
}  # fmt: skip
SPEAKER, LANGUAGE = "unknown", "en"  # where no column tells

_CODE = re.compile(r"[a-z]{2}([-_][A-Za-z]{2,4})?")  # a language, as de, zh-CN or en_us
_REPORT_EVERY = 100  # rows


def read(root: Path, subset: str) -> Iterator[Utterance | Rejected]:
    """The utterances of a subset that was downloaded, in the order of the rows.

    Rejected are rows without sound, text or, where a column has it, id. Raises UserError for a
    subset that is not there, or not whole.
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
    id: str | None = None,
) -> None:
    """Stream a subset's rows into files under `root`, whole or not at all.

    What has arrived stands in a folder of its own name with `.part` until all rows are there; a
    further call goes on after the last whole row. Each name is a column's; without one, the usual
    names are tried, and rows are numbered for their ids. Raises UserError for a corpus that cannot
    be had, for columns that are not there, and for a subset that was fetched with other columns.
    """
    wanted = {"audio": audio, "text": text, "speaker": speaker, "language": language, "id": id}
    folder = root / safe_name(subset)
    if folder.is_dir():
        _same_columns(folder / "source.json", wanted)
        return
    name, config, split = _parts(subset)
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
    columns = _columns(name, features, wanted)
    rows = rows.select_columns(list(dict.fromkeys(columns.values())))
    return rows.cast_column(columns["audio"], datasets.Audio(decode=False)), columns


def _columns(
    name: str, features: Mapping[str, Any], wanted: Mapping[str, str | None]
) -> dict[str, str]:
    """Which of a corpus's columns is the audio, the text and so on: the one asked for, or usual."""
    import datasets

    columns = {}
    for what, names in USUAL.items():
        asked = wanted[what]
        if what == "audio":
            sounds = [c for c, kind in features.items() if isinstance(kind, datasets.Audio)]
            names = (*names, *(sounds if len(sounds) == 1 else []))
        looked_for = [asked] if asked else names
        there = [column for column in looked_for if column in features]
        found = [column for column in there if _can_hold(what, features[column])]
        if found:
            columns[what] = found[0]
        elif asked or what in ("audio", "text"):
            fault = (
                f"has a column {there[0]}, but of {features[there[0]]}, which cannot be the {what}"
                if there
                else f"has no column {' or '.join(looked_for)} for the {what}"
            )
            raise UserError(
                f"{name} {fault}; it has {', '.join(features)}: name one by --column {what}=NAME "
                f"(python -m data_prep.hub: --{what} NAME)"
            )
    return columns


def _can_hold(what: str, kind: Any) -> bool:
    """Whether a column of this kind can be it: sounds, or their paths; or something to print."""
    import datasets

    if what != "audio":
        return isinstance(kind, datasets.Value | datasets.ClassLabel)
    if isinstance(kind, datasets.Value):
        return kind.dtype in ("string", "large_string", "binary", "large_binary")
    return isinstance(kind, datasets.Audio | dict)


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


def _same_columns(path: Path, wanted: Mapping[str, str | None]) -> None:
    """UserError where what is there was fetched with other columns than those asked for."""
    asked = {what: column for what, column in wanted.items() if column}
    if not asked:
        return
    taken = read_json(path)["columns"]
    differing = [what for what, column in asked.items() if taken.get(what) != column]
    if differing:
        told = ", ".join(f"{what}={column}" for what, column in taken.items())
        raise UserError(
            f"{path.parent} was fetched with the columns {told}; another is asked for as "
            f"{', '.join(differing)}: delete the folder to fetch it anew, or ask for the same"
        )


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
    number: str,
    locale: str,
    is_local: bool,
) -> dict[str, str]:
    """Write the row's sound; returns its line of transcripts.jsonl.

    number: names the sound's file, and the utterance where no column has its id.
    """
    told = {what: row.get(column) for what, column in columns.items() if what != "audio"}
    words = {what: "" if value is None else str(value) for what, value in told.items()}
    code = words.get("language", "").strip()
    id = words["id"].strip() if "id" in words else number
    line = {
        "id": id or number,
        "audio": "",
        "text": words["text"],
        "speaker": words.get("speaker", "").strip() or SPEAKER,
        "language": code if _CODE.fullmatch(code) else locale,
        "fault": "",
    }
    if not id:
        return {**line, "fault": f"the row has no id in the column {columns['id']}"}
    sound = row.get(columns["audio"]) or {}
    content = sound.get("bytes") or _content(sound.get("path") or "", is_local)
    if not content:
        return {**line, "fault": "the row holds no sound"}
    line["audio"] = number + _ending(sound.get("path") or "", content)
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
