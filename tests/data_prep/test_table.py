import json
import os
from pathlib import Path

import pytest

from data_prep import table
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

ROWS = [
    {"audio": "sub/b.wav", "text": 'He said, "no".', "speaker": "x", "language": "de"},
    {"audio": "a.flac", "text": "Hello\tworld", "id": "first", "mood": "glad"},
]


@pytest.fixture
def root(tmp_path: Path, put) -> Path:
    put(tmp_path / "corpus" / "a.flac")
    put(tmp_path / "corpus" / "sub" / "b.wav")
    put(tmp_path / "outside.wav")
    return tmp_path / "corpus"


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'audio,text,speaker,language,id,mood\nsub/b.wav,"He said, ""no"".",x,de,,\n'
                  "a.flac,Hello world,,,first,glad\n"),
        ("t.tsv", '\ufeffid\taudio\ttext\tspeaker\tlanguage\n\tsub/b.wav\tHe said, "no".\tx\tde\n'
                  "first\ta.flac\tHello world\t\t\n"),
        ("t.jsonl", "\n".join(map(json.dumps, ROWS))),
    ],
)  # fmt: skip
def test_each_kind(root: Path, name: str, text: str) -> None:
    write(root, name, text)
    found = list(table.read(root, name))
    one, two = found
    assert isinstance(one, Utterance) and isinstance(two, Utterance)
    assert one.seconds and one.seconds > 1
    assert one == Utterance(
        "b", str(root / "sub" / "b.wav"), 'He said, "no".', "x", "de", one.seconds
    )
    assert (two.id, two.text, two.speaker, two.language) == (
        "first", "Hello world", table.SPEAKER, table.LANGUAGE,
    )  # fmt: skip
    assert found == list(table.read(root / name))  # the root may be the table itself


def test_absolute_paths_are_taken(root: Path) -> None:
    write(root, "t.tsv", f"audio\ttext\n{root.parent / 'outside.wav'}\tHello\n")
    [one] = table.read(root, "t.tsv")
    assert isinstance(one, Utterance) and one.id == "outside"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("../outside.wav,Hello", "../outside.wav leaves the table's folder"),
        ("sub/../../outside.wav,Hello", "leaves the table's folder"),
        ("absent.wav,Hello", "there is no audio file"),
        (",Hello", "it names no audio file"),
        (f"{'x' * 300}.wav,Hello", "there is no audio file"),
        ("sub/b.wav,", "t.csv, line 2: the text is empty"),
        ("sub/b.wav,caf\udce9", "it is not UTF-8"),
        ("sub/b.wav,Hello,world", "expected 2 columns, found 3"),
        ("sub/b.wav", "expected 2 columns, found 1"),
        ("sub/a.flac,Hello\na.flac,Hello", "there is no audio file"),
        ("a.flac,Hello again", "t.csv, line 3: the id comes a second time (first: t.csv, line 2)"),
    ],
)
def test_faulty_rows(root: Path, row: str, reason: str) -> None:
    write(root, "t.csv", f"audio,text\n{row}\na.flac,Hello\n")
    found = list(table.read(root, "t.csv"))
    assert [one.id for one in found] == sorted(one.id for one in found)
    rejected = [one for one in found if isinstance(one, Rejected)]
    assert reason in rejected[0].reason
    assert "a" in {one.id for one in found if isinstance(one, Utterance)}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", "expected one JSON object, found '{'"),
        ("[1]", "expected one JSON object"),
        ('{"audio": "a.flac", "text": 3}', "'text' must be text, found 3"),
        ('{"audio": "a.flac"}', "the text is empty"),
        ('{"audio": "a.flac", "text": "\\ud800"}', "half a character"),
        ('{"audio": "a.flac", "text": "\udce9"}', "it is not UTF-8"),
    ],
)
def test_faulty_json(root: Path, row: str, reason: str) -> None:
    write(root, "t.jsonl", row + "\n")
    [rejected] = table.read(root, "t.jsonl")
    assert isinstance(rejected, Rejected)
    assert rejected.reason.startswith("t.jsonl, line 1: ") and reason in rejected.reason
    rejected.to_json().encode()


def test_a_kaldi_folder(root: Path) -> None:
    write(root, "wav.scp", f"u2 {root / 'a.flac'}\nu1 sub/b.wav\nu3 sox a.flac -t wav - |\nu4 a\n")
    write(root, "text", "u1 Hello  world\nu2 Again\nu3 Piped\nu4 caf\udce9\nu5 No sound\n")
    write(root, "utt2spk", "u1 x\nu3 x\nu4 x\n")
    one, *rejected = table.read(root)
    assert isinstance(one, Utterance)
    assert (one.id, one.text, one.speaker) == ("u1", "Hello world", "x")
    assert [(one.id, one.reason) for one in rejected if isinstance(one, Rejected)] == [
        ("u2", "wav.scp, line 1: the utterance u2 has no line in utt2spk"),
        ("u3", "wav.scp, line 3: it is a command (a pipe), which is not run: write the sound to a "
               "file"),
        ("u4", "wav.scp, line 4: text, line 4: it is not UTF-8: convert it"),
        ("u5", "text, line 5: there is no such line in wav.scp"),
    ]  # fmt: skip
    os.remove(root / "utt2spk")
    assert [one.speaker for one in table.read(root) if isinstance(one, Utterance)] == [
        table.SPEAKER, table.SPEAKER,
    ]  # fmt: skip


def test_a_text_told_twice(root: Path) -> None:
    write(root, "wav.scp", "u1 a.flac\n")
    write(root, "text", "u1 One\nu1 Two\n")
    [rejected] = table.read(root)
    assert isinstance(rejected, Rejected)
    assert "text, line 2: the id comes a second time (first: text, line 1)" in rejected.reason


def test_segments_are_not_read(root: Path) -> None:
    for name in ("wav.scp", "text", "segments"):
        write(root, name, "u1 a.flac\n")
    with pytest.raises(UserError, match="has segments, which are not read"):
        list(table.read(root))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "audio;text\na.flac;A\n", "no column 'audio': .* found audio;text"),
        ("t.csv", "", "no column 'audio': .* found nothing"),
        ("t.tsv", "audio\tid\n", "no column 'text'"),
        ("t.csv", "audio,text,text\n", "the column 'text' twice"),
        ("t.csv", 'audio,text\na.flac,"open\n', "line 2: unexpected end of data; mend the line"),
        ("t.xls", "", r"expected a \.csv, \.tsv, \.jsonl or a Kaldi folder"),
        ("sub/t.csv", None, "there is no table"),
        ("sub", None, "is no Kaldi data folder: it must hold wav.scp and text"),
    ],
)
def test_tables_that_are_none(root: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        write(root, name, text)
    with pytest.raises(UserError, match=message):
        list(table.read(root, name))


def test_download(root: Path) -> None:
    table.download(root)
    with pytest.raises(UserError, match="cannot be fetched"):
        table.download(root, "t.csv")
