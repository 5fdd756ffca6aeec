import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import librispeech
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance


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
    found = list(librispeech.read(speech_dir / "LibriSpeech", subset))
    utterances = [one for one in found if isinstance(one, Utterance)]
    assert utterances == found
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


def told(root: Path) -> list[tuple[str, str]]:
    """Each id with its text, or with why it was rejected, in the order they come."""
    found = list(librispeech.read(root, "dev"))
    assert [one.id for one in found] == sorted(one.id for one in found)
    return [(one.id, one.text if isinstance(one, Utterance) else one.reason) for one in found]


def test_missing_transcript(tmp_path: Path) -> None:
    path = add(tmp_path, "1-2-0000", None)
    add(tmp_path, "1-3-0000", "HELLO")
    [rejected, utterance] = librispeech.read(tmp_path, "dev")
    assert isinstance(rejected, Rejected) and isinstance(utterance, Utterance)
    assert (rejected.id, rejected.audio) == ("1-2-0000", str(path))
    assert rejected.reason.startswith("there is no ") and "1-2.trans.txt" in rejected.reason


def test_sound_without_a_transcript_line(tmp_path: Path) -> None:
    add(tmp_path, "1-2-0000", "HELLO")
    add(tmp_path, "1-2-0001", None)
    add(tmp_path, "1-2-0002", "WORLD")
    assert told(tmp_path) == [
        ("1-2-0000", "HELLO"),
        ("1-2-0001", "it has no line in 1-2.trans.txt: add one, or drop the sound"),
        ("1-2-0002", "WORLD"),
    ]


def test_transcript_without_sound(tmp_path: Path) -> None:
    add(tmp_path, "1-2-0000", "HELLO").unlink()
    add(tmp_path, "1-2-0001", "WORLD")
    assert told(tmp_path) == [
        ("1-2-0000", "1-2.trans.txt, line 1: there is no sound of this name"),
        ("1-2-0001", "WORLD"),
    ]
    assert next(librispeech.read(tmp_path, "dev")).audio == ""


def test_a_line_without_text_and_a_second_line(tmp_path: Path) -> None:
    folder = add(tmp_path, "1-2-0000", None).parent
    add(tmp_path, "1-2-0001", None)
    (folder / "1-2.trans.txt").write_text("1-2-0001 B\n1-2-0000  \n\n1-2-0001 C\n")
    reason = "1-2.trans.txt, line 2: the text is empty: write there what is said, or drop the sound"
    assert told(tmp_path) == [
        ("1-2-0000", reason),
        ("1-2-0001", "B"),
        (
            "1-2-0001",
            "1-2.trans.txt, line 4: the id comes a second time (first: 1-2.trans.txt, line 1)",
        ),
    ]


def test_a_transcript_that_is_not_utf8(tmp_path: Path) -> None:
    folder = add(tmp_path, "1-2-0000", None).parent
    add(tmp_path, "1-2-0001", None)
    (folder / "1-2.trans.txt").write_bytes(b"1-2-0000 A\n1-2-0001 CAF\xc9\n1-2-0002 B\n")
    found = told(tmp_path)
    assert [id for id, _ in found] == ["1-2-0000", "1-2-0001", "1-2-0002"]
    assert all("1-2.trans.txt is not UTF-8" in reason for _, reason in found)


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


MEMBERS = {"LibriSpeech/README.TXT": b"hi", "LibriSpeech/dev/1/2/1-2.trans.txt": b"1-2-0 A\n"}


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server, packed) -> None:
    server.content = packed["tar.gz"](MEMBERS)
    archives = {"dev": (server.url("dev.tar.gz"), server.sha256)}
    monkeypatch.setattr(librispeech, "_ARCHIVES", archives)
    root = tmp_path / "LibriSpeech"
    librispeech.download(root, "dev")
    assert (root / "dev/1/2/1-2.trans.txt").read_bytes() == b"1-2-0 A\n"
    assert sorted(path.name for path in root.iterdir()) == ["README.TXT", "dev"]
    librispeech.download(root, "dev")
    assert len(server.asked) == 1
    with pytest.raises(UserError, match="has no subset 'nope'; it has dev"):
        librispeech.download(root, "nope")
