"""Validation: sound data passes, and each planted fault is found, named and placed."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from voiceflow.audio.features import FeatureSpec
from voiceflow.cli.app import app
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance, read_manifest, write_manifest
from voiceflow.data.shards import schema
from voiceflow.data.validate import Breach, validate
from voiceflow.files import write_json

FIRST, ID = "shards/00000.parquet", "u-0-03"
Row = dict[str, Any]


@pytest.fixture
def sound(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic data with all that `voiceflow prepare` writes."""
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns(".cache"))
    rows = [row for path in shards(folder) for row in with_places(path)]
    told = [Utterance(r["id"], "none.wav", r["text"], r["speaker"]) for r in rows]
    told.append(Utterance("u-lost", "none.wav", "W", "speaker"))
    write_manifest(folder / "manifest.jsonl", told)
    (folder / "rejected.jsonl").write_text(
        json.dumps({"id": "u-lost", "audio": "none.wav", "reason": "none.wav does not exist"})
    )
    mel = np.concatenate([np.asarray(r["mel"], np.float64) for r in rows])
    spec = FeatureSpec.load(folder / "features.json")
    spec.with_statistics(mel.mean(), mel.std()).save(folder / "features.json")
    change_json(folder / "info.json", utterances=24, rejected=1)
    write_json(folder / "split.json", {"train": ["speaker"], "validation": []})
    return folder


def with_places(path: Path) -> list[Row]:
    """The shard's rows, once its phones, each a word of its own, are marked so."""
    rows: list[Row] = pq.read_table(path).to_pylist()
    for row in rows:
        row["phones"] = [p if p == "SIL" else f"{p.split('_')[0]}_S" for p in row["phones"]]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema()), path)
    return rows


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "shards").glob("*.parquet"))


def change_json(path: Path, **changes: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **changes})


def change_row(folder: Path, change: Callable[[Row], Any]) -> None:
    """Change the row ID of the first shard in place."""
    path = folder / FIRST
    rows = pq.read_table(path).to_pylist()
    [row] = [r for r in rows if r["id"] == ID]
    change(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema()), path)


def found(folder: Path) -> list[str]:
    return [str(breach) for breach in validate(folder)]


def test_sound_data_passes(sound: Path) -> None:
    assert found(sound) == []
    (sound / "split.json").unlink()
    (sound / "rejected.jsonl").rename(sound / "failed.jsonl")  # as version 0.1 named it
    assert found(sound) == []
    shown = CliRunner().invoke(app, ["data", "validate", str(sound)])
    assert shown.exit_code == 0
    assert f"{sound} is sound: 2 shards" in shown.output


def set_at(row: Row, column: str, place: int, value: Any) -> None:
    row[column][place] = value


def longer_pause(row: Row) -> None:
    row["durations"][0] += 3


def negative(row: Row) -> None:
    row["durations"][1] += row["durations"][0] + 2
    row["durations"][0] = -2


def no_silence_between(row: Row) -> None:
    row["durations"][3] += row["durations"].pop(2)
    del row["phones"][2]
    for word in row["words"][1:]:
        word["first_phone"] -= 1


def a_word_lost(row: Row) -> None:
    row["words"].pop()


def silence_in_a_word(row: Row) -> None:
    row["words"][0]["n_phones"] = 3
    del row["words"][1]


# Each changes one row; at most the folder's totals differ besides.
ROW_FAULTS: list[tuple[Callable[[Row], Any], str]] = [
    (longer_pause, r"durations sum to \d+ frames, n_frames is \d+"),
    (negative, "phone 0 lasts -2 frames"),
    (lambda row: row["durations"].append(0), r"(\d+) phones have \d+ durations"),
    (lambda row: row.update(seconds=row["seconds"] + 0.05), r"s make \d+ frames, found \d+"),
    (lambda row: row.update(seconds=float("nan")), "it lasts nan seconds"),
    (lambda row: row.update(score=float("-inf")), "the score is -inf"),
    (lambda row: row["mel"].pop(), r"the mel holds \d+ values, expected \d+ frames of 8"),
    (lambda row: set_at(row, "mel", 5, np.float16("nan")), "1 values of the mel are NaN"),
    (lambda row: set_at(row, "mel", 5, np.float16(-13)), "the mel runs from -13.00 to"),
    (lambda row: set_at(row, "mel", 5, np.float16(9)), "to 9.00, natural logarithms of it lie"),
    (lambda row: set_at(row, "phones", 1, "XX_S"), "phones XX_S are not in phones.json"),
    (lambda row: set_at(row, "phones", 1, "AA_B"), "W0 is AA_B, its places should be AA_S"),
    (lambda row: set_at(row, "phones", 0, "AA_S"), r"expected SIL as the first phone"),
    (lambda row: set_at(row, "phones", 2, "AA_S"), r"expected SIL after the word W0, found"),
    (lambda row: set_at(row, "phones", -1, "AA_S"), r"expected SIL after the word W\d+, found"),
    (no_silence_between, "expected SIL after the word W0, found"),
    (silence_in_a_word, "the word W0 holds a silence"),
    (a_word_lost, "2 phones follow the last word's silence"),
    (lambda row: row["words"][1].update(first_phone=4), "W1 is said to have 1 phones from 4 on"),
    (lambda row: row["words"][1].update(n_phones=0), "W1 is said to have 0 phones from 3 on"),
    (lambda row: row["words"][1].update(first_phone=-2), "W1 is said to have 1 phones from -2"),
    (lambda row: row["words"][-1].update(n_phones=9), "is said to have 9 phones"),
    (lambda row: row.update(speaker="other"), "the speaker is other, speaker in manifest.jsonl"),
    (lambda row: row.update(text=None), "null in text; the totals were not checked"),
    (lambda row: set_at(row, "durations", 0, None), "null in durations"),
]


@pytest.mark.parametrize(("change", "message"), ROW_FAULTS)
def test_a_fault_of_a_row(sound: Path, change: Callable[[Row], Any], message: str) -> None:
    change_row(sound, change)
    breaches = list(validate(sound))
    named = [b for b in breaches if b.file == FIRST and b.utterance == ID]
    assert any(re.search(message, b.fault) for b in named), breaches
    others = [b for b in breaches if b not in named]
    assert all(b.file in ("info.json", "features.json") for b in others), others


def copy_first_row(folder: Path) -> None:
    path = shards(folder)[1]
    rows = pq.read_table(path).to_pylist()
    rows[4]["id"] = ID
    pq.write_table(pa.Table.from_pylist(rows, schema=schema()), path)


def without_a_column(folder: Path) -> None:
    path = folder / FIRST
    pq.write_table(pq.read_table(path).drop_columns(["score"]), path)


def another_type(folder: Path) -> None:
    table = pq.read_table(folder / FIRST)
    place = table.schema.get_field_index("n_frames")
    table = table.set_column(place, "n_frames", table["n_frames"].cast(pa.int64()))
    pq.write_table(table, folder / FIRST)


def cut_off(folder: Path) -> None:
    content = (folder / FIRST).read_bytes()
    (folder / FIRST).write_bytes(content[: len(content) // 2])


def damaged_inside(folder: Path) -> None:
    content = bytearray((folder / FIRST).read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    (folder / FIRST).write_bytes(content)


def no_shards(folder: Path) -> None:
    shutil.rmtree(folder / "shards")


def drop_line(name: str) -> Callable[[Path], Any]:
    def drop(folder: Path) -> None:
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[1:]))

    return drop


def reject(folder: Path) -> None:
    line = json.dumps({"id": ID, "audio": "", "reason": "no"})
    with (folder / "rejected.jsonl").open("a") as file:
        file.write("\n" + line + "\n")
    change_json(folder / "info.json", rejected=2)


def rewrite(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def alter(name: str, **changes: Any) -> Callable[[Path], Any]:
    return lambda folder: change_json(folder / name, **changes)


# Each is to be the only breach.
FOLDER_FAULTS: list[tuple[Callable[[Path], Any], str]] = [
    (remove("info.json"), r"info\.json: .*cannot be read as JSON"),
    (remove("features.json"), r"features\.json: .*no readable feature specification"),
    (remove("phones.json"), r"phones\.json: .*cannot be read as JSON"),
    (rewrite("info.json", "[]"), r"info\.json: .*expected a JSON object"),
    (rewrite("features.json", '{"hops": 1}'), r"features\.json: "),
    (rewrite("phones.json", "{}"), r"phones\.json: .*expected a JSON list"),
    (alter("info.json", utterances=23), r"info\.json: utterances is 23, the data's is 24"),
    (alter("info.json", frames=1), r"info\.json: frames is 1, the data's is \d+"),
    (alter("info.json", hours=1.5), r"info\.json: hours is 1\.5, the data's is 0\.\d+"),
    (alter("info.json", rejected=0), r"info\.json: rejected is 0, the data's is 1"),
    (alter("info.json", frames="many"), r"info\.json: expected a number of frames, found 'many'"),
    (alter("features.json", mean=-5.0), r"features\.json: mean is -5\.0, the data's is -"),
    (alter("features.json", std=9.0), r"features\.json: std is 9\.0, the data's is "),
    (without_a_column, r"00000\.parquet: .*expected score \(double, found none\)"),
    (another_type, r"00000\.parquet: .*expected n_frames \(int32, found int64\)"),
    (cut_off, r"00000\.parquet: .*cannot be read as Parquet .*not checked"),
    (damaged_inside, r"00000\.parquet: .*cannot be read as Parquet .*not checked"),
    (remove("manifest.jsonl"), r"manifest\.jsonl: .*cannot be read"),
    (drop_line("manifest.jsonl"), r"00000\.parquet, u-0-00: not in manifest\.jsonl"),
    (remove("rejected.jsonl"), r"rejected\.jsonl: .*cannot be read"),
    (rewrite("rejected.jsonl", "no"), r"rejected\.jsonl: .*line 1: expected an object"),
    (reject, rf"manifest\.jsonl, {ID}: both in {FIRST} and in rejected\.jsonl"),
    (rewrite("split.json", "{"), r"split\.json: .*cannot be read as JSON"),
    (rewrite("split.json", '{"train": ["a"]}'), r"split\.json: expected a list .*'validation'"),
    (
        rewrite("split.json", '{"train": ["speaker"], "validation": ["speaker"]}'),
        r"split\.json: speakers in both train and validation: speaker$",
    ),
    (
        rewrite("split.json", '{"train": [], "validation": []}'),
        r"split\.json: speakers in neither train nor validation: speaker$",
    ),
    (
        rewrite("split.json", '{"train": ["b"], "validation": ["a", "speaker"]}'),
        r"split\.json: speakers without an utterance in manifest\.jsonl: a, b$",
    ),
]


@pytest.mark.parametrize(("change", "message"), FOLDER_FAULTS)
def test_a_fault_of_the_folder(sound: Path, change: Callable[[Path], Any], message: str) -> None:
    change(sound)
    [line] = found(sound)
    assert re.search(message, line), line


def test_an_id_twice(sound: Path) -> None:
    copy_first_row(sound)
    assert found(sound) == [
        f"shards/00001.parquet, {ID}: the id was already in {FIRST}",
        "manifest.jsonl, u-1-04: neither in a shard nor in rejected.jsonl",
    ]


def test_no_shards(sound: Path) -> None:
    no_shards(sound)
    assert found(sound)[0] == "shards: expected files 00000.parquet and so on, found none"


def test_split_and_manifest_are_compared_where_both_can_be_read(sound: Path) -> None:
    write_json(sound / "split.json", {"train": [f"s{n:02d}" for n in range(15)], "validation": []})
    named = ", ".join(f"s{n:02d}" for n in range(10))
    assert found(sound) == [
        "split.json: speakers in neither train nor validation: speaker",
        f"split.json: speakers without an utterance in manifest.jsonl: {named} and 5 more",
    ]
    (sound / "manifest.jsonl").unlink()
    [line] = found(sound)
    assert line.startswith("manifest.jsonl: ")


def test_a_speaker_of_whom_all_was_rejected_is_in_a_list(sound: Path) -> None:
    manifest = read_manifest(sound / "manifest.jsonl")
    lost = [replace(u, speaker="other") if u.id == "u-lost" else u for u in manifest]
    write_manifest(sound / "manifest.jsonl", lost)
    assert found(sound) == ["split.json: speakers in neither train nor validation: other"]
    change_json(sound / "split.json", validation=["other"])
    assert found(sound) == []


def test_a_manifest_line_that_went_nowhere(sound: Path) -> None:
    (sound / "rejected.jsonl").write_text("")
    change_json(sound / "info.json", rejected=0)
    assert found(sound) == ["manifest.jsonl, u-lost: neither in a shard nor in rejected.jsonl"]


def test_the_verb_prints_each_breach_and_counts(sound: Path) -> None:
    change_row(sound, longer_pause)
    change_json(sound / "info.json", utterances=1)
    shown = CliRunner().invoke(app, ["data", "validate", str(sound)])
    assert isinstance(shown.exception, UserError)
    assert str(shown.exception) == f"{sound} is not sound: 2 breaches"
    assert shown.output.count("\n") == 2
    assert f"{FIRST}, {ID}: durations sum to" in shown.output


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        list(validate(tmp_path / "none"))


def test_a_breach_names_its_place() -> None:
    assert str(Breach("a", None, "b")) == "a: b"
    assert str(Breach("a", "u", "b")) == "a, u: b"
