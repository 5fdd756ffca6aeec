"""The manifest: one utterance a line, as JSON. Every corpus becomes one; seconds are its unit."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from voiceflow.config import UserError
from voiceflow.files import replacing

SPEEDS = (0.5, 2.0)  # the slowest and the fastest that a recording is played


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it.

    `audio` is the path of the sound file; `text` is as the corpus writes it; `seconds` is the
    utterance's length, None where nobody has looked. `speed` is how many times as fast the
    recording is played, as a tape is: pitch and formants rise with it (`faster`).
    """

    id: str
    audio: str
    text: str
    speaker: str
    language: str = "en"
    seconds: float | None = None
    speed: float = 1.0

    def to_json(self) -> str:
        """The utterance as one line of a manifest; a speed of 1 is not named."""
        values = asdict(self)
        if self.speed == 1:
            del values["speed"]
        return json.dumps(values, ensure_ascii=False)

    def faster(self, speed: float) -> "Utterance":
        """The same recording played `speed` times as fast, an utterance of its own.

        It stays its speaker's: what is held out is held out at every speed.
        """
        seconds = None if self.seconds is None else self.seconds / speed
        return replace(self, id=f"{self.id}-speed{speed:g}", seconds=seconds, speed=speed)


@dataclass(frozen=True)
class Rejected:
    """A recording that cannot be used, and why; `audio` is empty where there is none."""

    id: str
    audio: str
    reason: str

    def to_json(self) -> str:
        """The rejection as one line of rejected.jsonl."""
        return json.dumps(asdict(self), ensure_ascii=False)


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> int:
    """Write a manifest, whole or not at all; returns the number of utterances.

    Raises UserError where the folder cannot be written.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for utterance in utterances:
            file.write(utterance.to_json() + "\n")
            count += 1
    return count


def stream_manifest(path: Path) -> Iterator[Utterance]:
    """A manifest's utterances, one at a time.

    Raises UserError, with the line's number, where the file is missing or is no manifest.
    """
    for _, utterance in _numbered(path):
        yield utterance


def read_manifest(path: Path) -> list[Utterance]:
    """Read a manifest whole.

    Raises UserError, with the line's number, where the file is missing or is no manifest, or an
    id comes twice.
    """
    utterances: dict[str, Utterance] = {}
    for number, utterance in _numbered(path):
        if utterance.id in utterances:
            raise UserError(f"{path}, line {number}: the id {utterance.id} comes a second time")
        utterances[utterance.id] = utterance
    return list(utterances.values())


def _numbered(path: Path) -> Iterator[tuple[int, Utterance]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _from_json(line.rstrip("\n"), f"{path}, line {number}")
    except OSError as error:
        raise UserError(f"manifest {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"manifest {path} is not UTF-8: {error}") from error


def _from_json(line: str, where: str) -> Utterance:
    try:
        values: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: expected one JSON object a line, found {line[:60]!r}") from error
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a JSON object, found {line[:60]!r}")
    known = [field.name for field in fields(Utterance)]
    if unknown := sorted(set(values) - set(known)):
        raise UserError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    for name in ("id", "audio", "text", "speaker", "language"):
        if name == "language" and name not in values:
            continue
        if not isinstance(values.get(name), str):
            raise UserError(f"{where}: {name!r} must be text, found {values.get(name)!r}")
    seconds = values.get("seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
        raise UserError(f"{where}: 'seconds' must be a number or null, found {seconds!r}")
    speed = values.get("speed", 1.0)
    low, high = SPEEDS
    number = isinstance(speed, int | float) and not isinstance(speed, bool)
    if not (number and low <= speed <= high):
        raise UserError(f"{where}: 'speed' must be from {low:g} to {high:g}, found {speed!r}")
    return Utterance(**values)
