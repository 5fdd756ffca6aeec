from pathlib import Path

import pytest

from data_prep import ljspeech
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance


def test_the_real_corpus(speech_dir: Path) -> None:
    root = speech_dir / "LJSpeech-1.1"
    if not root.is_dir():
        pytest.skip(f"{root} is absent")
    found = list(ljspeech.read(root, "all"))
    utterances = [one for one in found if isinstance(one, Utterance)]
    assert len(utterances) == len(found) == 20
    assert {one.speaker for one in utterances} == {"LJ"}
    assert [one.id for one in found] == sorted(one.id for one in found)
    assert sum(one.seconds or 0 for one in utterances) / 3600 == pytest.approx(0.04, abs=0.01)
    assert found == list(ljspeech.read(root))


def lay(root: Path, put, metadata: bytes, *ids: str) -> None:
    for id in ids:
        put(root / "wavs" / f"{id}.wav")
    (root / "wavs").mkdir(parents=True, exist_ok=True)
    (root / "metadata.csv").write_bytes(metadata)


def test_the_third_column_comes_first(tmp_path: Path, put) -> None:
    lay(tmp_path, put, b"LJ2|in 1455|\nLJ1|Dr. A|Doctor A\nLJ3|only\n", "LJ1", "LJ2", "LJ3")
    found = list(ljspeech.read(tmp_path))
    assert [(one.id, one.text) for one in found if isinstance(one, Utterance)] == [
        ("LJ1", "Doctor A"),
        ("LJ2", "in 1455"),
        ("LJ3", "only"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"LJ1|caf\xe9|caf\xe9\n", "metadata.csv, line 1: it is not UTF-8"),
        (b"LJ1||\n", "line 1: the text is empty"),
        (b"LJ1\n", "found 1 columns"),
        (b"LJ1|a|b|c\n", "found 4 columns"),
        (b"", "it has no line in metadata.csv"),
    ],
)
def test_faulty_lines(tmp_path: Path, put, line: bytes, reason: str) -> None:
    lay(tmp_path, put, line + b"LJ2|good|good\n", "LJ1", "LJ2")
    [rejected, utterance] = ljspeech.read(tmp_path)
    assert isinstance(rejected, Rejected) and isinstance(utterance, Utterance)
    assert rejected.id == "LJ1" and reason in rejected.reason
    assert rejected.audio == str(tmp_path / "wavs" / "LJ1.wav")


def test_no_path_leads_out_of_the_folder(tmp_path: Path, put) -> None:
    put(tmp_path / "secret.wav")
    lay(tmp_path / "corpus", put, b"../../secret|a|a\n")
    [rejected] = ljspeech.read(tmp_path / "corpus")
    assert isinstance(rejected, Rejected) and "no sound of this name" in rejected.reason


def test_another_layout_or_subset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no metadata\.csv beside wavs/"):
        list(ljspeech.read(tmp_path))
    with pytest.raises(UserError, match="no subset 'train'"):
        list(ljspeech.read(tmp_path, "train"))


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server, packed, put) -> None:
    wav = put(tmp_path / "a.wav").read_bytes()
    members = {"LJSpeech-1.1/metadata.csv": b"LJ1|A|A\n", "LJSpeech-1.1/wavs/LJ1.wav": wav}
    server.content = packed["tar.bz2"](members)
    monkeypatch.setattr(ljspeech, "_URL", server.url("LJSpeech-1.1.tar.bz2"))
    with pytest.raises(UserError, match="came damaged"):
        ljspeech.download(tmp_path / "lj")
    monkeypatch.setattr(ljspeech, "_CHECKSUM", server.sha256)
    ljspeech.download(tmp_path / "lj")
    assert [one.id for one in ljspeech.read(tmp_path / "lj")] == ["LJ1"]
