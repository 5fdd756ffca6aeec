"""Whether prepared data is sound: every promise that training relies on, checked on every row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError
from voiceflow.data.inspect import (
    read_batches,
    read_rejected,
    reading_parquet,
    rejected_file,
    shard_files,
)
from voiceflow.data.manifest import read_manifest
from voiceflow.data.shards import schema
from voiceflow.files import read_json
from voiceflow.text.phones import SILENCE, PhoneTable, base_of, positioned

if TYPE_CHECKING:
    import pyarrow as pa

STATISTICS_TOLERANCE = 1e-3
MOST_FRAMES_APART = 2
MOST_NAMED = 10  # speakers in one breach
_MAY_BE_NULL = {"score"}


@dataclass(frozen=True)
class Breach:
    """A promise that is not kept: in which file, of which utterance if of one, and how."""

    file: str
    utterance: str | None
    fault: str

    def __str__(self) -> str:
        where = self.file if self.utterance is None else f"{self.file}, {self.utterance}"
        return f"{where}: {self.fault}"


@dataclass
class _Totals:
    """What is summed up while the shards go by; `ids` say in which shard each was first."""

    whole: bool = True
    ids: dict[str, str] = field(default_factory=dict)
    speakers: dict[str, str] = field(default_factory=dict)
    told: set[str] | None = None  # the manifest's speakers, where it could be read
    utterances: int = 0
    frames: int = 0
    seconds: float = 0.0
    values: int = 0
    mel_sum: float = 0.0
    mel_squares: float = 0.0


def validate(folder: Path) -> Iterator[Breach]:
    """Every breach in a prepared folder, as it is found; nothing when it is sound.

    Reads a few rows at a time. Raises UserError where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: name one that `voiceflow prepare` wrote")
    read: dict[str, Any] = {}
    readers: dict[str, Callable[[Path], Any]] = {
        "info.json": _read_object,
        "features.json": FeatureSpec.load,
        "phones.json": PhoneTable.load,
    }
    for name, reader in readers.items():
        try:
            read[name] = reader(folder / name)
        except UserError as error:
            yield Breach(name, None, str(error))
    totals = _Totals()
    spec, table = read.get("features.json"), read.get("phones.json")
    paths = shard_files(folder)
    if not paths:
        yield Breach("shards", None, "expected files 00000.parquet and so on, found none")
    for path in paths:
        yield from _shard(path, f"shards/{path.name}", spec, table, totals)
    if totals.whole:
        if spec is not None:
            yield from _statistics(spec, totals)
        yield from _lists(folder, read.get("info.json"), totals)
    if (folder / "split.json").exists():
        yield from _split(folder / "split.json", totals.told)


def _read_object(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object")
    return values


def _shard(
    path: Path, name: str, spec: FeatureSpec | None, table: PhoneTable | None, totals: _Totals
) -> Iterator[Breach]:
    import pyarrow.parquet as pq

    try:
        with reading_parquet(path):
            columns = pq.read_schema(path)
        if fault := _schema_fault(columns):
            totals.whole = False
            yield Breach(name, None, f"{fault}; neither its rows nor the totals were checked")
            return
        for batch in read_batches(path, schema().names):
            yield from _rows(batch, name, spec, table, totals)
    except UserError as error:
        totals.whole = False
        yield Breach(name, None, f"{error}; the totals were not checked")


def _schema_fault(found: pa.Schema) -> str:
    """How the columns of a shard differ from `schema()`; empty where they do not."""
    expected = schema()
    if found.equals(expected):
        return ""
    types = {field.name: field.type for field in found}
    differing = [
        f"{field.name} ({field.type}, found {types.get(field.name, 'none')})"
        for field in expected
        if types.get(field.name) != field.type
    ]
    unknown = [name for name in found.names if name not in expected.names]
    return "the columns are not a shard's: " + (
        f"expected {', '.join(differing)}" if differing
        else f"unknown {', '.join(unknown)}" if unknown
        else f"expected the order {', '.join(expected.names)}"
    )  # fmt: skip


def _rows(
    batch: pa.RecordBatch,
    name: str,
    spec: FeatureSpec | None,
    table: PhoneTable | None,
    totals: _Totals,
) -> Iterator[Breach]:
    offsets = batch["mel"].offsets.to_numpy()
    values = batch["mel"].values.to_numpy(zero_copy_only=False)
    for place, row in enumerate(batch.drop_columns(["mel"]).to_pylist()):
        id = row["id"] if row["id"] is not None else f"row without an id ({place} of its batch)"
        mel = values[offsets[place] : offsets[place + 1]]
        totals.utterances += 1
        if nulls := [key for key, value in row.items() if _has_null(value, key)]:
            yield Breach(name, id, f"null in {', '.join(nulls)}; the totals were not checked")
            totals.whole = False
            continue
        if id in totals.ids:
            yield Breach(name, id, f"the id was already in {totals.ids[id]}")
        totals.ids.setdefault(id, name)
        totals.speakers.setdefault(id, row["speaker"])
        totals.frames += row["n_frames"]
        totals.seconds += row["seconds"]
        faults = [*_duration_faults(row), *_phone_faults(row, table), *_score_faults(row)]
        if spec is not None:
            faults += [*_mel_faults(mel, row["n_frames"], spec), *_length_faults(row, spec)]
        for fault in faults:
            yield Breach(name, id, fault)
        exact = mel[np.isfinite(mel)].astype(np.float64)
        totals.values += len(exact)
        totals.mel_sum += float(exact.sum())
        totals.mel_squares += float(np.square(exact).sum())


def _has_null(value: Any, key: str = "") -> bool:
    if isinstance(value, list):
        return any(_has_null(item) for item in value)
    if isinstance(value, dict):
        return any(_has_null(item) for item in value.values())
    return value is None and key not in _MAY_BE_NULL


def _duration_faults(row: Mapping[str, Any]) -> Iterator[str]:
    durations, phones = row["durations"], row["phones"]
    if len(durations) != len(phones):
        yield f"{len(phones)} phones have {len(durations)} durations"
    if durations and min(durations) < 0:
        place = int(np.argmin(durations))
        yield f"phone {place} lasts {durations[place]} frames"
    if sum(durations) != row["n_frames"]:
        yield f"durations sum to {sum(durations)} frames, n_frames is {row['n_frames']}"


def _phone_faults(row: Mapping[str, Any], table: PhoneTable | None) -> Iterator[str]:
    """SIL, word, SIL, word, ..., SIL, with the words where `words` has them."""
    phones = row["phones"]
    if table is not None and (unknown := sorted(set(phones) - set(table.symbols[1:]))):
        yield f"phones {', '.join(unknown)} are not in phones.json"
    if not phones or phones[0] != SILENCE:
        yield f"expected {SILENCE} as the first phone, found {phones[:1]}"
        return
    if not row["words"]:
        yield "no words"
    end = 0  # where a silence stands
    for word in row["words"]:
        text, first, count = word["text"], word["first_phone"], word["n_phones"]
        said = phones[first : first + count] if first >= 0 else []
        if first != end + 1 or count < 1 or len(said) != count:
            yield (
                f"the word {text} is said to have {count} phones from {first} on, expected some "
                f"from {end + 1} on, of {len(phones)}"
            )
            return
        if SILENCE in said:
            yield f"the word {text} holds a silence: {' '.join(said)}"
        elif said != positioned([base_of(phone) for phone in said]):
            expected = " ".join(positioned([base_of(phone) for phone in said]))
            yield f"the word {text} is {' '.join(said)}, its places should be {expected}"
        end = first + count
        if phones[end : end + 1] != [SILENCE]:
            yield f"expected {SILENCE} after the word {text}, found {phones[end : end + 1]}"
            return
    if end != len(phones) - 1:
        yield f"{len(phones) - 1 - end} phones follow the last word's silence"


def _score_faults(row: Mapping[str, Any]) -> Iterator[str]:
    if row["score"] is not None and not math.isfinite(row["score"]):
        yield f"the score is {row['score']}"


def _mel_faults(mel: np.ndarray, n_frames: int, spec: FeatureSpec) -> Iterator[str]:
    if len(mel) != n_frames * spec.n_mels:
        yield (
            f"the mel holds {len(mel)} values, expected {n_frames} frames of {spec.n_mels}: "
            f"{n_frames * spec.n_mels}"
        )
    bad = int((~np.isfinite(mel)).sum())
    if bad:
        yield f"{bad} values of the mel are NaN or infinite"
    elif len(mel):
        # float16 keeps eleven bits; a window of ones is the loudest that full scale can be.
        low = math.log(spec.floor) - 0.02
        high = spec.power * math.log(spec.window)
        least, most = float(mel.min()), float(mel.max())
        if least < low or most > high:
            yield (
                f"the mel runs from {least:.2f} to {most:.2f}, natural logarithms of it lie "
                f"between {low:.2f} and {high:.2f}"
            )


def _length_faults(row: Mapping[str, Any], spec: FeatureSpec) -> Iterator[str]:
    seconds = row["seconds"]
    if not (math.isfinite(seconds) and seconds > 0):
        yield f"it lasts {seconds} seconds"
        return
    expected = spec.n_frames(round(seconds * spec.sample_rate))
    if abs(expected - row["n_frames"]) > MOST_FRAMES_APART:
        yield f"{seconds:.3f} s make {expected} frames, found {row['n_frames']}"


def _statistics(spec: FeatureSpec, totals: _Totals) -> Iterator[Breach]:
    if not totals.values:
        return
    mean = totals.mel_sum / totals.values
    std = max(totals.mel_squares / totals.values - mean**2, 0.0) ** 0.5
    for name, told, found in (("mean", spec.mean, mean), ("std", spec.std, std)):
        if not abs(told - found) <= STATISTICS_TOLERANCE:
            yield Breach("features.json", None, f"{name} is {told}, the data's is {found:.6f}")


def _lists(folder: Path, info: dict[str, Any] | None, totals: _Totals) -> Iterator[Breach]:
    """info.json's counts; and each line of the manifest either prepared or rejected."""
    counts: dict[str, float] = {
        "utterances": totals.utterances,
        "frames": totals.frames,
        "hours": totals.seconds / 3600,
    }
    path = rejected_file(folder)
    rejected: set[str] | None = None
    try:
        listed = read_rejected(path)
        rejected = {line.id for line in listed}
        key = path.stem  # "rejected", or "failed" in data of version 0.1
        if info is not None and key in info:
            counts[key] = len(listed)
    except UserError as error:
        yield Breach(path.name, None, str(error))
    if info is not None:
        yield from _counts(info, counts)
    try:
        manifest = {u.id: u.speaker for u in read_manifest(folder / "manifest.jsonl")}
    except UserError as error:
        yield Breach("manifest.jsonl", None, str(error))
        return
    totals.told = set(manifest.values())
    for id, shard in totals.ids.items():
        if id not in manifest:
            yield Breach(shard, id, "not in manifest.jsonl")
        elif totals.speakers[id] != manifest[id]:
            fault = f"the speaker is {totals.speakers[id]}, {manifest[id]} in manifest.jsonl"
            yield Breach(shard, id, fault)
    if rejected is None:
        return
    for id in manifest:
        if id in rejected and id in totals.ids:
            yield Breach("manifest.jsonl", id, f"both in {totals.ids[id]} and in {path.name}")
        elif id not in rejected and id not in totals.ids:
            yield Breach("manifest.jsonl", id, f"neither in a shard nor in {path.name}")


def _counts(info: Mapping[str, Any], counts: Mapping[str, float]) -> Iterator[Breach]:
    for name, found in counts.items():
        told = info.get(name)
        if isinstance(told, bool) or not isinstance(told, int | float):
            yield Breach("info.json", None, f"expected a number of {name}, found {told!r}")
        elif not math.isclose(told, found, rel_tol=1e-6):
            yield Breach("info.json", None, f"{name} is {told}, the data's is {found}")


def _split(path: Path, told: set[str] | None) -> Iterator[Breach]:
    """Each of the manifest's speakers, `told`, is in one list, and nobody else is in any.

    The manifest counts, not the shards: a speaker of whom all was rejected is in a list too.
    Where `told` is None, only that nobody is in both is checked.
    """
    try:
        lists = _read_object(path)
    except UserError as error:
        yield Breach(path.name, None, str(error))
        return
    speakers: dict[str, set[str]] = {}
    for name in ("train", "validation"):
        listed = lists.get(name)
        if not isinstance(listed, list) or not all(isinstance(s, str) for s in listed):
            yield Breach(path.name, None, f"expected a list of speakers under {name!r}")
            return
        speakers[name] = set(listed)
    train, validation = speakers["train"], speakers["validation"]
    faults = {"in both train and validation": train & validation}
    if told is not None:
        faults["in neither train nor validation"] = told - train - validation
        faults["without an utterance in manifest.jsonl"] = (train | validation) - told
    for fault, found in faults.items():
        if found:
            yield Breach(path.name, None, f"speakers {fault}: {_listed(found)}")


def _listed(names: set[str]) -> str:
    first = sorted(names)[:MOST_NAMED]
    others = len(names) - len(first)
    return ", ".join(first) + (f" and {others} more" if others else "")
