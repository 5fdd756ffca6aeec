"""Prepared data on disk: Parquet shards of features with their phones, read through `datasets`.

A prepared folder holds

    shards/00000.parquet ...   id, speaker, text, language, seconds, words, mel, phones, durations
    shards/00000.rejected.jsonl  what the shard had to leave out, and why
    features.json phones.json  the front end (with the set's mean and deviation) and the phones
    info.json                  how it was made, with a fingerprint of it
    split.json                 which speakers are trained on, and which held out
    index.parquet              every row without its features: shard, id, speaker, language, frames

It is read memory-mapped from a local disk, or shard by shard from any fsspec address.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voiceflow.alignment.frames import FramedAlignment
from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.data.store import Store, is_remote
from voiceflow.files import read_json, replacing
from voiceflow.text.phones import PhoneTable

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

SMALL_FILES = ("info.json", "features.json", "phones.json", "split.json")
_SHARD = re.compile(r"shards/[\w-][\w.-]*\.parquet")
FRAMED_COLUMNS = ["id", "phones", "durations", "mel"]


class Framed(NamedTuple):
    """A row as training takes it.

    phones: (N) numbers; durations: (N,) int64 frames; mel: (T, M) float16, not normalised.
    """

    id: str
    phones: list[int]
    durations: np.ndarray
    mel: np.ndarray

    def by_frame(self) -> Framed:
        """The same with each frame's phone by itself."""
        phones = np.repeat(self.phones, self.durations)
        return self._replace(phones=phones.tolist(), durations=np.ones(len(phones), np.int64))


@dataclass(frozen=True)
class PreparedUtterance:
    """One utterance ready for training.

    mel: (T, M) float16 natural-log mel, not normalised; alignment: phones with durations in
    frames that sum to T.
    """

    utterance: Utterance
    seconds: float
    mel: np.ndarray
    alignment: FramedAlignment
    score: float | None

    def __post_init__(self) -> None:
        if sum(self.alignment.durations) != len(self.mel):
            raise ValueError(
                f"{self.utterance.id}: durations sum to {sum(self.alignment.durations)} frames, "
                f"the spectrogram has {len(self.mel)}"
            )


def schema() -> Any:
    """The columns of a shard, as an Arrow schema."""
    import pyarrow as pa

    word = pa.struct(
        [("text", pa.string()), ("first_phone", pa.int32()), ("n_phones", pa.int32())]
    )
    return pa.schema(
        [
            ("id", pa.string()),
            ("speaker", pa.string()),
            ("text", pa.string()),
            ("language", pa.string()),
            ("seconds", pa.float64()),
            ("score", pa.float64()),
            ("n_frames", pa.int32()),
            ("words", pa.list_(word)),
            ("phones", pa.list_(pa.string())),
            ("durations", pa.list_(pa.int32())),
            ("mel", pa.list_(pa.float16())),
        ]
    )


def write_shard(path: Path, rows: Sequence[PreparedUtterance]) -> None:
    """Write one shard, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {
        "id": [r.utterance.id for r in rows],
        "speaker": [r.utterance.speaker for r in rows],
        "text": [r.utterance.text for r in rows],
        "language": [r.utterance.language for r in rows],
        "seconds": [r.seconds for r in rows],
        "score": [r.score for r in rows],
        "n_frames": [len(r.mel) for r in rows],
        "words": [[asdict(w) for w in r.alignment.words] for r in rows],
        "phones": [list(r.alignment.phones) for r in rows],
        "durations": [list(r.alignment.durations) for r in rows],
        "mel": [r.mel.reshape(-1) for r in rows],
    }
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema()), temporary, row_group_size=64)


@dataclass(frozen=True)
class Index:
    """What is known of all rows without reading their features, in the manifest's order.

    ids, speakers, languages: (R,) names; shards: (R,) number of the row's shard in `names`; rows:
    (R,) place in it; n_frames: (R,).
    """

    names: tuple[str, ...]
    ids: list[str]
    speakers: list[str]
    languages: list[str]
    shards: np.ndarray
    rows: np.ndarray
    n_frames: np.ndarray

    @staticmethod
    def of(table: pa.Table) -> Index:
        """From index.parquet's columns. UserError where a shard lies elsewhere than in shards/."""
        shards = table["shard"].to_pylist()
        names = tuple(sorted(set(shards)))
        if foreign := [name for name in names if not _SHARD.fullmatch(name)]:
            raise UserError(
                f"index.parquet names {foreign[0]!r}, expected shards/<name>.parquet: remove it, "
                "and the same `voiceflow prepare` writes it anew"
            )
        numbers = np.searchsorted(names, shards) if shards else np.zeros(0, np.int64)
        starts = np.searchsorted(numbers, np.arange(len(names)))
        return Index(
            names,
            table["id"].to_pylist(),
            table["speaker"].to_pylist(),
            table["language"].to_pylist(),
            numbers,
            np.arange(len(shards)) - starts[numbers] if shards else numbers,
            table["n_frames"].to_numpy(),
        )


def index_table(store: Store) -> pa.Table:
    """The columns of index.parquet, gathered from the shards."""
    import pyarrow as pa

    tables = []
    for name in store.names("shards", ".parquet"):
        table = store.table(name, ["id", "speaker", "language", "n_frames"])
        shard = pa.array([name] * len(table), pa.string())
        tables.append(table.append_column("shard", shard))
    if not tables:
        raise UserError(f"{store.address}/shards holds no shard: `voiceflow prepare` writes them")
    return pa.concat_tables(tables)


def write_index(folder: Path) -> None:
    """Write index.parquet of the shards in a folder, atomically."""
    import pyarrow.parquet as pq

    with replacing(folder / "index.parquet") as temporary:
        pq.write_table(index_table(Store(str(folder))), temporary)


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, opened.

    address: its path, or an fsspec address; validation_speakers: those that no training hears,
    none in data of few speakers.
    """

    address: str
    features: FeatureSpec
    phones: PhoneTable
    info: dict[str, Any]
    validation_speakers: frozenset[str] = frozenset()

    @property
    def is_local(self) -> bool:
        """Whether it can be memory-mapped."""
        return not is_remote(self.address)

    @cached_property
    def store(self) -> Store:
        """The folder's files."""
        return Store(self.address)

    @cached_property
    def index(self) -> Index:
        """All rows, without their features; where index.parquet is missing, from the shards."""
        if self.store.exists("index.parquet"):
            return Index.of(self.store.table("index.parquet"))
        return Index.of(index_table(self.store))

    @cached_property
    def dataset(self) -> datasets.Dataset:
        """The rows of a local folder, memory-mapped, in the order of the manifest."""
        import datasets

        if not self.is_local:
            raise UserError(f"{self.address} is read as a stream (train.stream=true): it is no "
                            "local folder, and cannot be memory-mapped")  # fmt: skip
        folder = Path(self.address)
        files = sorted(str(p) for p in (folder / "shards").glob("[0-9]*.parquet"))
        datasets.disable_progress_bars()
        loaded = datasets.load_dataset(
            "parquet", data_files=files, split="train", cache_dir=str(folder / ".cache")
        )
        return loaded.with_format("numpy")

    @cached_property
    def _framed(self) -> Any:
        """The memory-mapped Arrow table of what training takes."""
        return self.dataset.select_columns(FRAMED_COLUMNS).data

    def framed(self, index: int) -> Framed:
        """A row of a local folder, memory-mapped."""
        if not 0 <= index < len(self._framed):
            raise IndexError(f"row {index} of {len(self._framed)}")
        # By Arrow itself: a row through `datasets` takes three times as long.
        row = self._framed.fast_slice(index, 1)
        [id], [phones], [durations] = (row[c].to_pylist() for c in ("id", "phones", "durations"))
        return self._as_framed(id, phones, durations, _lists(row["mel"])[0])

    def framed_shard(self, name: str) -> list[Framed]:
        """All rows of a shard, read whole, from wherever it is."""
        table = self.store.table(name, FRAMED_COLUMNS)
        columns = [table[c].to_pylist() for c in ("id", "phones", "durations")]
        rows = zip(*columns, _lists(table["mel"]), strict=True)
        return [self._as_framed(*row) for row in rows]

    def rows(self, indices: Sequence[int]) -> list[Framed]:
        """Some rows, in the order asked for, read from their shards wherever they are."""
        index = self.index
        found: dict[int, Framed] = {}
        for number, group in itertools.groupby(sorted(indices), key=lambda i: index.shards[i]):
            shard = self.framed_shard(index.names[number])
            found |= {i: shard[index.rows[i]] for i in group}
        return [found[i] for i in indices]

    def _as_framed(
        self, id: str, phones: Sequence[str], durations: Any, mel: np.ndarray
    ) -> Framed:
        values = np.asarray(mel, dtype=np.float16).reshape(-1, self.features.n_mels)
        return Framed(id, self.phones.ids(phones), np.asarray(durations, dtype=np.int64), values)


def _lists(column: Any) -> list[np.ndarray]:
    """The lists of a chunked Arrow column of numbers, as views of its memory."""
    found: list[np.ndarray] = []
    for chunk in column.chunks:
        values, offsets = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        found += [values[a:b] for a, b in itertools.pairwise(offsets)]
    return found


def open_prepared(address: Path | str) -> Prepared:
    """Open what `voiceflow prepare` wrote, on local disk or at an fsspec address.

    Raises UserError when it is missing or unfinished.
    """
    store = Store(str(address))
    if not store.exists("info.json"):
        raise UserError(
            f"{address}: no prepared data here (info.json is missing): make it, or finish it, with "
            "`voiceflow prepare`"
        )
    with tempfile.TemporaryDirectory() as fetched:
        folder = Path(fetched) if is_remote(str(address)) else Path(address)
        if is_remote(str(address)):
            for name in SMALL_FILES:
                if name != "split.json" or store.exists(name):
                    (folder / name).write_bytes(store.read(name))
        split = folder / "split.json"
        return Prepared(
            str(address),
            FeatureSpec.load(folder / "features.json"),
            PhoneTable.load(folder / "phones.json"),
            read_json(folder / "info.json"),
            frozenset(read_json(split)["validation"] if split.is_file() else ()),
        )
