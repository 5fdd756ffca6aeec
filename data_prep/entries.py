"""Sounds and their texts brought together: what all corpora share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from voiceflow.data.manifest import Rejected, Utterance

EXTENSIONS = (".flac", ".wav", ".opus", ".ogg", ".mp3")


class Unreadable(Exception):
    """A text file that cannot be read, and why."""


@dataclass(frozen=True)
class Line:
    """A transcript's line: whose text it is, and where it stands; `fault` says what it lacks."""

    id: str
    text: str
    where: str
    fault: str = ""


def entry(
    id: str, audio: Path, text: str, speaker: str, language: str = "en", where: str = "its text"
) -> Utterance | Rejected:
    """The utterance, its white space made plain; Rejected where no text is left."""
    path = os.path.abspath(audio)
    words = " ".join(text.split())
    if not words:
        return Rejected(id, path, f"{where} is empty: write there what is said, or drop the sound")
    if not is_unicode(id + words + speaker + language):
        return Rejected(id, path, f"{where} holds half a character (a lone surrogate)")
    return Utterance(id, path, words, speaker, language, seconds(audio))


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def readable(text: str) -> str:
    """A text that was decoded with `surrogateescape`, the bytes that are not UTF-8 replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def seconds(path: Path) -> float | None:
    """A sound's length; None where it cannot be opened, which its reader will say."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    return info.frames / info.samplerate if info.samplerate else None


def sounds(folder: Path) -> dict[str, Path]:
    """The sounds that stand in a folder, by their names without the ending."""
    found: dict[str, Path] = {}
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if path.suffix.lower() in EXTENSIONS and not name.startswith("."):
            found.setdefault(path.stem, path)
    return found


def what_is_there(root: Path) -> str:
    """What a folder holds, for an error's message."""
    if not root.is_dir():
        return "there is no such folder"
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    return "it holds " + (", ".join(there) or "no folder at all")


def read_text(path: Path) -> str:
    """A text file's content; raises Unreadable, with the reason, where it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise Unreadable(f"there is no {path}: put it there, or drop the sound") from error
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} is not UTF-8 ({error.reason}): convert it") from error
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error


def text_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Each line that is not blank, where it stands, and its fault: empty, or that it is not UTF-8.

    Raises OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if not raw.strip():
                continue
            where = f"{path.name}, line {number}"
            try:
                yield raw.decode("utf-8").rstrip("\r\n"), where, ""
            except UnicodeDecodeError as error:
                told = raw.decode("utf-8", errors="replace").rstrip("\r\n")
                yield told, where, f"{where}: it is not UTF-8 ({error.reason}): convert it"


def pair_lines(
    sounds: Mapping[str, Path], lines: Iterable[Line], speaker: str, transcript: str
) -> Iterator[Utterance | Rejected]:
    """Sounds with the lines of their transcript, in the order of ids.

    Rejected are sounds without a line, lines without a sound, faulty lines, and each further line
    of an id.
    """
    told: dict[str, list[Line]] = {}
    for line in lines:
        told.setdefault(line.id, []).append(line)
    for id in sorted(sounds.keys() | told.keys()):
        path = sounds.get(id)
        audio = os.path.abspath(path) if path else ""
        if id not in told:
            yield Rejected(id, audio, f"it has no line in {transcript}: add one, or drop the sound")
            continue
        first, *others = told[id]
        if first.fault:
            yield Rejected(id, audio, first.fault)
        elif path is None:
            yield Rejected(id, "", f"{first.where}: there is no sound of this name")
        else:
            yield entry(id, path, first.text, speaker, where=f"{first.where}: the text")
        for line in others:
            yield Rejected(
                id, audio, f"{line.where}: the id comes a second time (first: {first.where})"
            )


def pair_files(
    sounds: Mapping[str, Path], texts: Mapping[str, Path], speakers: Mapping[str, str], ending: str
) -> Iterator[Utterance | Rejected]:
    """Sounds with the text files of their own, in the order of ids; `ending` is the texts'.

    Rejected are sounds without a text, texts without a sound, and texts that are not UTF-8.
    """
    for id in sorted(sounds.keys() | texts.keys()):
        path, text = sounds.get(id), texts.get(id)
        if path is None:
            yield Rejected(id, "", f"{text} has no sound beside it: put it there, or drop the text")
        elif text is None:
            reason = f"it has no transcript {id}{ending}: put it there, or drop the sound"
            yield Rejected(id, os.path.abspath(path), reason)
        else:
            try:
                yield entry(id, path, read_text(text), speakers[id], where=str(text))
            except Unreadable as error:
                yield Rejected(id, os.path.abspath(path), str(error))
