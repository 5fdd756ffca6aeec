"""Prepared data on disk: Parquet shards of features with their phones, read through `datasets`.

A prepared folder holds

    shards/00000.parquet ...   id, speaker, text, language, seconds, words, mel, phones, durations
    shards/00000.rejected.jsonl  what the shard had to leave out, and why
    features.json phones.json  the front end (with the set's mean and deviation) and the phones
    info.json                  how it was made, with a fingerprint of it
    split.json                 which speakers are trained on, and which held out
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voiceflow.alignment.frames import FramedAlignment
from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.files import read_json, replacing
from voiceflow.text.phones import PhoneTable

if TYPE_CHECKING:
    import datasets


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
class Prepared:
    """A prepared folder, opened."""

    folder: Path
    features: FeatureSpec
    phones: PhoneTable
    info: dict[str, Any]

    @cached_property
    def dataset(self) -> datasets.Dataset:
        """The rows, memory-mapped, in the order of the manifest."""
        import datasets

        files = sorted(str(p) for p in (self.folder / "shards").glob("[0-9]*.parquet"))
        datasets.disable_progress_bars()
        loaded = datasets.load_dataset(
            "parquet", data_files=files, split="train", cache_dir=str(self.folder / ".cache")
        )
        return loaded.with_format("numpy")

    @cached_property
    def _framed(self) -> datasets.Dataset:
        # Nested columns are slow to convert, and training needs none of them.
        return self.dataset.select_columns(["id", "phones", "durations", "mel"])

    @cached_property
    def validation_speakers(self) -> frozenset[str]:
        """Speakers that no training hears; none in data of few speakers."""
        path = self.folder / "split.json"
        return frozenset(read_json(path)["validation"] if path.is_file() else ())

    def framed(self, index: int) -> tuple[str, list[int], np.ndarray, np.ndarray]:
        """A row's id, phones (N), durations (N,) int64 and log-mel (T, M) float16.

        The log-mel is not normalised.
        """
        row = self._framed[index]
        mel = np.asarray(row["mel"], dtype=np.float16).reshape(-1, self.features.n_mels)
        durations = np.asarray(row["durations"], dtype=np.int64)
        return str(row["id"]), self.phones.ids(row["phones"]), durations, mel


def open_prepared(folder: Path | str) -> Prepared:
    """Open what `voiceflow prepare` wrote; UserError when it is missing or unfinished."""
    folder = Path(folder)
    if not (folder / "info.json").is_file():
        raise UserError(
            f"{folder}: no prepared data here (info.json is missing): make it, or finish it, with "
            "`voiceflow prepare`"
        )
    return Prepared(
        folder,
        FeatureSpec.load(folder / "features.json"),
        PhoneTable.load(folder / "phones.json"),
        read_json(folder / "info.json"),
    )
