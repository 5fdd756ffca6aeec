"""Shards: what is written is read back exactly, and what is wrong is refused."""

from pathlib import Path

import numpy as np
import pytest

from voiceflow.alignment.frames import FramedAlignment, FramedWord
from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.data.shards import PreparedUtterance, open_prepared, write_shard
from voiceflow.files import write_json
from voiceflow.text.phones import PhoneTable

SPEC = FeatureSpec(n_mels=3)


def utterance(id: str, n_frames: int, score: float | None = -5.25) -> PreparedUtterance:
    mel = np.random.default_rng(n_frames).normal(-5, 3, size=(n_frames, 3)).astype(np.float16)
    framed = FramedAlignment(
        ("SIL", "HH_B", "IY_E", "SIL"), (0, 2, n_frames - 2, 0), (FramedWord("HÉ", 1, 2),)
    )
    told = Utterance(id, "a.wav", "hé", "s1", language="fr")
    return PreparedUtterance(told, n_frames / 100, mel, framed, score)


def written(folder: Path, *shards: list[PreparedUtterance]) -> Path:
    for number, rows in enumerate(shards):
        write_shard(folder / "shards" / f"{number:05d}.parquet", rows)
    SPEC.save(folder / "features.json")
    PhoneTable.english().save(folder / "phones.json")
    write_json(folder / "info.json", {"fingerprint": "f"})
    return folder


def test_round_trip(tmp_path: Path) -> None:
    rows = [utterance("b", 7), utterance("a", 150, score=None), utterance("c", 3)]
    opened = open_prepared(written(tmp_path, rows[:2], rows[2:]))
    assert opened.features == SPEC
    assert opened.phones == PhoneTable.english()
    assert opened.info == {"fingerprint": "f"}
    assert list(opened.dataset["id"]) == ["b", "a", "c"]
    for index, row in enumerate(rows):
        id, phones, durations, mel = opened.framed(index)
        assert id == row.utterance.id
        assert [opened.phones.symbols[p] for p in phones] == list(row.alignment.phones)
        assert durations.tolist() == list(row.alignment.durations)
        assert durations.dtype == np.int64
        assert mel.dtype == np.float16
        np.testing.assert_array_equal(mel, row.mel)


def test_every_column_is_kept(tmp_path: Path) -> None:
    rows = [utterance("b", 7), utterance("a", 9, score=None)]
    first, second = open_prepared(written(tmp_path, rows)).dataset.with_format(None)
    assert {k: first[k] for k in ("id", "speaker", "text", "language", "seconds", "n_frames")} == {
        "id": "b", "speaker": "s1", "text": "hé", "language": "fr", "seconds": 0.07, "n_frames": 7,
    }  # fmt: skip
    assert first["words"] == [{"text": "HÉ", "first_phone": 1, "n_phones": 2}]
    assert (first["score"], second["score"]) == (-5.25, None)


def test_durations_that_do_not_fill_the_mel() -> None:
    framed = FramedAlignment(("SIL",), (5,), ())
    with pytest.raises(ValueError, match="u1: durations sum to 5 frames, the spectrogram has 6"):
        PreparedUtterance(Utterance("u1", "", "", ""), 0.06, np.zeros((6, 3)), framed, None)


def test_a_folder_that_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no prepared data here .*voiceflow prepare"):
        open_prepared(tmp_path)


def test_a_phone_that_the_table_lacks(tmp_path: Path) -> None:
    folder = written(tmp_path, [utterance("a", 9)])
    PhoneTable(["<none>", "SIL", "HH_B"]).save(folder / "phones.json")
    with pytest.raises(UserError, match="phone 'IY_E' is not in the model's table"):
        open_prepared(folder).framed(0)
