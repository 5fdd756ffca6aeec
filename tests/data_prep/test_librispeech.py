import hashlib
import io
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import librispeech
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance


def add(root: Path, name: str, text: str | None, extension: str = ".flac") -> Path:
    """One utterance of half a second in the corpus's layout; no transcript line without text."""
    speaker, chapter, _ = name.split("-")
    folder = root / "dev" / speaker / chapter
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name + extension)
    kind = {".opus": ("OGG", "OPUS")}.get(extension, (None, None))
    soundfile.write(path, np.zeros(8000, np.float32), 16000, format=kind[0], subtype=kind[1])
    if text is not None:
        with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{name} {text}\n")
    return path


@pytest.mark.parametrize(
    ("subset", "count", "speakers", "hours"),
    [("train-clean-5", 1519, 28, 5.31), ("test-clean", 280, 20, 0.50)],
)
def test_the_real_corpus(
    speech_dir: Path, subset: str, count: int, speakers: int, hours: float
) -> None:
    utterances = list(librispeech.read(speech_dir / "LibriSpeech", subset))
    assert len(utterances) == count
    assert len({utterance.speaker for utterance in utterances}) == speakers
    assert sum(u.seconds or 0 for u in utterances) / 3600 == pytest.approx(hours, abs=0.01)
    assert all(Path(u.audio).is_file() and u.text for u in utterances)
    assert all(u.id.startswith(u.speaker) for u in utterances)
    assert [u.id for u in utterances] == sorted(u.id for u in utterances)


@pytest.mark.parametrize("extension", librispeech.EXTENSIONS)
def test_every_kind_of_sound(tmp_path: Path, extension: str) -> None:
    path = add(tmp_path, "1-2-0000", "HELLO WORLD", extension)
    [utterance] = librispeech.read(tmp_path, "dev")
    assert utterance.seconds == pytest.approx(0.5, abs=0.1)  # mp3 pads
    assert utterance == Utterance(
        "1-2-0000", str(path), "HELLO WORLD", "1", "en", utterance.seconds
    )


def test_unknown_subset_lists_what_is_there(tmp_path: Path) -> None:
    add(tmp_path, "1-2-0000", "HELLO")
    with pytest.raises(UserError, match=r"'train' is not in .*: it holds dev; name another"):
        list(librispeech.read(tmp_path, "train"))
    with pytest.raises(UserError, match="no such folder"):
        list(librispeech.read(tmp_path / "absent", "dev"))


def test_folder_of_another_layout(tmp_path: Path) -> None:
    (tmp_path / "dev" / "wavs").mkdir(parents=True)
    with pytest.raises(UserError, match="<speaker>/<chapter>"):
        list(librispeech.read(tmp_path, "dev"))


def test_missing_transcript(tmp_path: Path) -> None:
    add(tmp_path, "1-2-0000", None)
    with pytest.raises(UserError, match=r"1/2 holds sound but not its transcript 1-2\.trans\.txt"):
        list(librispeech.read(tmp_path, "dev"))


def test_sound_without_a_transcript_line(tmp_path: Path) -> None:
    add(tmp_path, "1-2-0000", "HELLO")
    add(tmp_path, "1-2-0001", None)
    with pytest.raises(UserError, match=r"1-2-0001\.flac has no line in 1-2\.trans\.txt"):
        list(librispeech.read(tmp_path, "dev"))


def test_transcript_without_sound_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path, "1-2-0000", "HELLO")
    add(tmp_path, "1-2-0001", "WORLD").unlink()
    with caplog.at_level(logging.WARNING):
        assert [u.id for u in librispeech.read(tmp_path, "dev")] == ["1-2-0000"]
    assert "1 of 2 transcripts have no sound file (1-2-0001)" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1-2-0000 CAF\xc9\n", "is not UTF-8"),
        (b"1-2-0000\n", "line 1: expected 'ID TEXT'"),
        (b"1-2-0000 A\n1-2-0000 B\n", "line 2: the utterance 1-2-0000 comes a second time"),
    ],
)
def test_faulty_transcripts(tmp_path: Path, line: bytes, message: str) -> None:
    folder = add(tmp_path, "1-2-0000", None).parent
    (folder / "1-2.trans.txt").write_bytes(line)
    with pytest.raises(UserError, match=r"1-2\.trans\.txt") as caught:
        list(librispeech.read(tmp_path, "dev"))
    assert message in str(caught.value)


def test_sound_that_is_none_is_left_to_the_reader_of_samples(tmp_path: Path) -> None:
    add(tmp_path, "1-2-0000", "HELLO").write_bytes(b"no sound")
    [utterance] = librispeech.read(tmp_path, "dev")
    assert utterance.seconds is None


def test_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(tmp_path, "1-2-0000", "HELLO")
    assert librispeech.main([str(tmp_path), "dev"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "HELLO"
    assert librispeech.main([str(tmp_path), "train"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes]) -> Path:
    """An archive of the members, in the place of the subset `dev` of openslr.org."""
    archive = tmp_path / "dev.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(librispeech, "_ARCHIVES", {"dev": (archive.as_uri(), checksum)})
    return archive


MEMBERS = {"LibriSpeech/README.TXT": b"hi", "LibriSpeech/dev/1/2/1-2.trans.txt": b"1-2-0 A\n"}


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(tmp_path, monkeypatch, MEMBERS)
    root = tmp_path / "LibriSpeech"
    librispeech.download(root, "dev")
    assert (root / "dev/1/2/1-2.trans.txt").read_bytes() == b"1-2-0 A\n"
    assert sorted(path.name for path in root.iterdir()) == ["README.TXT", "dev"]
    monkeypatch.setattr(librispeech, "_fetch", lambda *_: pytest.fail("fetched a second time"))
    librispeech.download(root, "dev")


@pytest.mark.parametrize("name", ["LibriSpeech/../../evil", "/evil", "../evil"])
def test_an_archive_may_not_write_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    serve(tmp_path, monkeypatch, {**MEMBERS, name: b"evil"})
    with pytest.raises(UserError, match="not safe to unpack"):
        librispeech.download(tmp_path / "LibriSpeech", "dev")
    assert not list(tmp_path.rglob("*evil*"))
    assert not list((tmp_path / "LibriSpeech").iterdir())


def test_a_damaged_or_absent_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = serve(tmp_path, monkeypatch, MEMBERS)
    archive.write_bytes(archive.read_bytes()[:-9])
    with pytest.raises(UserError, match="came damaged"):
        librispeech.download(tmp_path / "LibriSpeech", "dev")
    archive.unlink()
    with pytest.raises(UserError, match="could not be fetched"):
        librispeech.download(tmp_path / "LibriSpeech", "dev")
    with pytest.raises(UserError, match="has no subset 'nope'; it has dev"):
        librispeech.download(tmp_path / "LibriSpeech", "nope")
