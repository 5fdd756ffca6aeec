from pathlib import Path

import pytest

from data_prep import vctk
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance


def write(path: Path, text: bytes = b"Please call Stella.\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


@pytest.fixture
def root(tmp_path: Path, put) -> Path:
    """VCTK 0.92: p225 whole, p280 without a second microphone, p315 without texts."""
    sounds = tmp_path / "wav48_silence_trimmed"
    for id in ("p225_001_mic1", "p225_001_mic2", "p280_001_mic1", "p315_001_mic1"):
        put(sounds / id[:4] / f"{id}.flac")
    for id in ("p225_001", "p280_001"):
        write(tmp_path / "txt" / id[:4] / f"{id}.txt")
    write(tmp_path / "speaker-info.txt")
    write(sounds / "log.txt")
    return tmp_path


def test_the_first_microphone(root: Path) -> None:
    [one, two, none] = vctk.read(root, "mic1")
    assert isinstance(one, Utterance) and isinstance(two, Utterance)
    assert (one.id, one.speaker, one.text) == ("p225_001_mic1", "p225", "Please call Stella.")
    assert one.seconds and one.seconds > 1
    assert two.speaker == "p280"
    assert isinstance(none, Rejected) and none.id == "p315_001_mic1"
    assert none.reason == "it has no transcript p315_001_mic1.txt: put it there, or drop the sound"


def test_the_second_microphone(root: Path) -> None:
    [one, none] = vctk.read(root, "mic2")
    assert isinstance(one, Utterance) and one.audio.endswith("p225_001_mic2.flac")
    assert isinstance(none, Rejected) and none.id == "p280_001_mic2"
    assert "p280_001.txt has no sound beside it" in none.reason


def test_the_older_layout(tmp_path: Path, put) -> None:
    put(tmp_path / "wav48" / "p225" / "p225_002.wav")
    put(tmp_path / "wav48" / "p225" / "p225_001.wav")
    write(tmp_path / "txt" / "p225" / "p225_001.txt")
    write(tmp_path / "txt" / "p225" / "p225_002.txt", b"caf\xe9")
    [one, none] = vctk.read(tmp_path, "mic1")
    assert isinstance(one, Utterance) and (one.id, one.speaker) == ("p225_001", "p225")
    assert isinstance(none, Rejected) and "p225_002.txt is not UTF-8" in none.reason
    with pytest.raises(UserError, match="one microphone alone"):
        list(vctk.read(tmp_path, "mic2"))


def test_another_layout_or_subset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no wav48_silence_trimmed/ .* beside txt/"):
        list(vctk.read(tmp_path, "mic1"))
    with pytest.raises(UserError, match="no subset 'train'; it has mic1 and mic2"):
        list(vctk.read(tmp_path, "train"))


def test_download(root: Path, tmp_path: Path, monkeypatch, server, packed) -> None:
    members = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }
    server.content = packed["zip"](members)  # as released, it has no outer folder
    monkeypatch.setattr(vctk, "_URL", server.url("VCTK-Corpus-0.92.zip"))
    monkeypatch.setattr(vctk, "_CHECKSUM", server.md5)
    fetched = tmp_path / "fetched"
    vctk.download(fetched, "mic1")
    assert [one.id for one in vctk.read(fetched, "mic1")] == [
        one.id for one in vctk.read(root, "mic1")
    ]
