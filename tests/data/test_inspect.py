"""Figures of prepared data: counted by hand, and against a plain count of every row."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from voiceflow.alignment.frames import FramedAlignment, FramedWord
from voiceflow.audio.features import FeatureSpec
from voiceflow.cli.app import app
from voiceflow.config import UserError
from voiceflow.data import inspect as module
from voiceflow.data.inspect import (
    Spread,
    find_utterance,
    kind_of,
    read_rejected,
    rejected_file,
    statistics,
    word_table,
)
from voiceflow.data.manifest import Rejected, Utterance, write_manifest
from voiceflow.data.shards import PreparedUtterance, write_shard
from voiceflow.files import write_json
from voiceflow.text.phones import PhoneTable

SPEC = FeatureSpec(n_mels=3)


def row(
    id: str, durations: tuple[int, ...], speaker: str, language: str, score: float | None
) -> PreparedUtterance:
    """`he a` with these durations of SIL HH IY SIL AH SIL."""
    framed = FramedAlignment(
        ("SIL", "HH_B", "IY_E", "SIL", "AH_S", "SIL"),
        durations,
        (FramedWord("HE", 1, 2), FramedWord("A", 4, 1)),
    )
    mel = np.random.default_rng(0).normal(-5, 2, (sum(durations), 3)).astype(np.float16)
    told = Utterance(id, "none.wav", "He a", speaker, language)
    return PreparedUtterance(told, sum(durations) / 100, mel, framed, score)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three utterances in two shards."""
    folder = tmp_path / "small"
    first = [row("a", (10, 5, 15, 0, 20, 50), "s1", "en", -1.0)]
    second = [
        row("b", (0, 10, 30, 20, 40, 0), "s1", "en", -3.0),
        row("c", (10, 10, 30, 30, 20, 100), "s2", "fr", None),
    ]
    write_shard(folder / "shards" / "00000.parquet", first)
    write_shard(folder / "shards" / "00002.parquet", second)
    SPEC.save(folder / "features.json")
    PhoneTable.english().save(folder / "phones.json")
    write_json(folder / "info.json", {"fingerprint": "f"})
    write_manifest(folder / "manifest.jsonl", [r.utterance for r in first + second])
    rejections = [
        {"id": "x", "audio": "a/x.wav", "reason": "x: 12 words do not fit into 0.31 s of audio"},
        {"id": "y", "audio": "a/y.wav", "reason": "y: 9 words do not fit into 2 s of audio"},
        {"id": "z", "audio": "a/z.wav", "reason": "a/z.wav does not exist: check the name"},
    ]
    (folder / "rejected.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rejections))
    return folder


def test_figures_counted_by_hand(small: Path) -> None:
    found = statistics(small)
    assert found.hours == pytest.approx(4.0 / 3600)
    assert (found.n_frames, found.n_words) == (400, 6)
    assert found.seconds.tolist() == [1.0, 1.0, 2.0]
    assert found.speakers == {"s1": 2.0, "s2": 2.0}
    assert found.languages == {"en": 2.0, "fr": 2.0}
    np.testing.assert_allclose(found.phone_rates, [3 / 0.4, 3 / 0.8, 3 / 0.6])
    np.testing.assert_allclose(found.word_rates, [120, 120, 60])
    assert found.scores.tolist() == [-1.0, -3.0]
    assert sorted(found.edges) == pytest.approx([0, 0, 0.1, 0.1, 0.5, 1.0])
    assert {p: u.count for p, u in found.phones.items()} == {"HH": 3, "IY": 3, "AH": 3}
    assert found.phones["IY"].mean_seconds == pytest.approx(0.25)
    assert np.flatnonzero(found.pauses).tolist() == [0, 20, 30]
    assert found.pause_spread.median == pytest.approx(0.2)
    assert found.silent_share == pytest.approx((60 + 20 + 140) / 400)
    assert found.rejected == {"N words do not fit into N s of audio": 2, "does not exist": 1}


def test_what_is_printed(small: Path) -> None:
    shown = CliRunner().invoke(app, ["data", "stats", str(small)])
    assert shown.exit_code == 0
    for part in (
        "0.00 hours, 3 utterances",
        "en 0.00 h, fr 0.00 h",
        "2: 0.001, median 0.001, 0.001 hours",
        "1.00, 5 % 1.00, median 1.00, 95 % 2.00, 2.00 s",
        "55.0 % of the frames",
        "at 2 of 3 borders between words (66.7 %)",
        "1 utterances have none",
        "     2  N words do not fit into N s of audio",
        "IY         3   250 ms",
    ):
        assert part in shown.output, part


def test_against_a_count_of_every_row(prepared: Path) -> None:
    found = statistics(prepared)
    counts: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    pauses = []
    for path in sorted((prepared / "shards").glob("*.parquet")):
        for values in pq.read_table(path).to_pylist():
            for phone, duration in zip(values["phones"], values["durations"], strict=True):
                counts[phone.split("_")[0]] += 1
                frames[phone.split("_")[0]] += duration
            pauses += values["durations"][2:-1:2]
    silent = frames.pop("SIL")
    del counts["SIL"]
    assert {p: u.count for p, u in found.phones.items()} == counts
    for phone, use in found.phones.items():
        assert use.seconds == pytest.approx(frames[phone] / 100)
    assert found.pauses.tolist() == np.bincount(pauses).tolist()
    assert found.silent_seconds == pytest.approx(silent / 100)
    assert found.rejected == {}
    assert "scores      none" in str(found)


def test_no_mel_is_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = module.read_batches
    asked: set[str] = set()

    def spy(path: Path, columns: list[str]):
        asked.update(columns)
        yield from read(path, columns)

    monkeypatch.setattr(module, "read_batches", spy)
    statistics(small)
    assert "durations" in asked
    assert "mel" not in asked


def test_the_batches_do_not_matter(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = str(statistics(prepared))
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", 5)
    assert str(statistics(prepared)) == whole


def test_spread() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert Spread.of(values) == Spread(1, 5, 50, 95, 100)
    counted = Spread.of(np.array([3.0, 1.0, 2.0]), np.array([1, 98, 0]))
    assert counted == Spread(1, 1, 1, 1, 3)
    assert f"{counted:.1f}" == "1.0, 5 % 1.0, median 1.0, 95 % 1.0, 3.0"
    assert np.isnan(Spread.of(np.zeros(0)).median)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("u-1: the transcript holds no word", "the transcript holds no word"),
        ("/d/u-1.wav is empty (0 samples): give a file", "is empty (N samples)"),
        ("u-1: no u-1.TextGrid under /some/where", "no ….TextGrid under …"),
        ("u-1: the search gave the words I SEE A DOG", "the search gave the words …"),
        ("u-1: the TextGrid ends before the word DON'T", "the TextGrid ends before the word …"),
        ("phone 'XX_B' is not in the model's table", "phone … is not in the model's table"),
        ("u-1: score -2.31 is under -2", "score N is under N"),
        ("u-1", "u-1"),
    ],
)
def test_kinds_of_reason(reason: str, kind: str) -> None:
    assert kind_of(Rejected("u-1", "/d/u-1.wav", reason)) == kind


def test_one_utterance(small: Path) -> None:
    found = find_utterance(small, "c")
    expected = row("c", (10, 10, 30, 30, 20, 100), "s2", "fr", None)
    assert found.utterance == expected.utterance
    assert found.alignment == expected.alignment
    assert (found.seconds, found.score) == (2.0, None)
    np.testing.assert_array_equal(found.mel, expected.mel)
    (small / "manifest.jsonl").unlink()
    assert find_utterance(small, "c").utterance.audio == ""


def test_its_words(small: Path) -> None:
    assert word_table(find_utterance(small, "a"), SPEC.hop_seconds).splitlines() == [
        "a: speaker s1, en, 1.00 s, 100 frames, 2 words, score -1.00",
        "He a",
        "  start     end  word             phones (ms)",
        "   0.00    0.10  -                SIL 100",
        "   0.10    0.30  HE               HH 50, IY 150",
        "   0.30    0.50  A                AH 200",
        "   0.50    1.00  -                SIL 500",
    ]


def test_an_utterance_that_is_not_there(small: Path) -> None:
    with pytest.raises(UserError, match="no utterance 'none'"):
        find_utterance(small, "none")
    with pytest.raises(UserError, match=r"z was rejected: a/z\.wav does not exist"):
        find_utterance(small, "z")


def test_a_damaged_utterance_is_sent_to_validate(small: Path) -> None:
    path = small / "shards" / "00000.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("durations")
    column = table["durations"].cast(table.schema.field(place).type)
    short = [column[0].as_py()[:-1]]
    import pyarrow as pa

    changed = pa.chunked_array([pa.array(short, type=column.type)])
    pq.write_table(table.set_column(place, "durations", changed), path)
    with pytest.raises(UserError, match=r"a is damaged .*voiceflow data validate"):
        find_utterance(small, "a")
    with pytest.raises(UserError, match=r"is damaged .*voiceflow data validate"):
        statistics(small)


def test_files_that_are_not_shards(small: Path) -> None:
    path = small / "shards" / "00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["words"]), path)
    with pytest.raises(UserError, match="no column 'words'"):
        statistics(small)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        statistics(small)
    shutil.rmtree(small / "shards")
    with pytest.raises(UserError, match="hold no utterance"):
        statistics(small)


def test_the_list_of_rejected(small: Path) -> None:
    path = small / "rejected.jsonl"
    assert rejected_file(small) == path
    assert read_rejected(path)[2] == Rejected(
        "z", "a/z.wav", "a/z.wav does not exist: check the name"
    )
    path.rename(small / "failed.jsonl")
    assert rejected_file(small) == small / "failed.jsonl"
    path.write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match=r"rejected\.jsonl, line 1: expected an object with id"):
        read_rejected(rejected_file(small))
