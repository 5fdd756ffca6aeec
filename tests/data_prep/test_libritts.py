from pathlib import Path

import pytest

from data_prep import libritts, libritts_r
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance


def add(root: Path, put, id: str, **texts: bytes) -> None:
    speaker, chapter, *_ = id.split("_")
    path = put(root / "dev-clean" / speaker / chapter / f"{id}.wav")
    for kind, text in texts.items():
        path.with_name(f"{id}.{kind}.txt").write_bytes(text)


@pytest.fixture
def root(tmp_path: Path, put) -> Path:
    both = {"original": b"Mr. A", "normalized": b"Mister A"}
    add(tmp_path, put, "84_121123_000007_000001", **both)
    add(tmp_path, put, "84_121123_000007_000000", original=b"Only this")
    add(tmp_path, put, "841_1_000000_000000")
    chapter = tmp_path / "dev-clean" / "84" / "121123"
    (chapter / "84_121123.trans.tsv").write_text("84_121123_000007_000001\tMr. A\tMister A\n")
    (chapter / "84_121123_000009_000000.normalized.txt").write_text("no sound")
    return tmp_path


def test_read(root: Path) -> None:
    found = list(libritts.read(root, "dev-clean"))
    assert [one.id for one in found] == [
        "841_1_000000_000000",  # as strings, though not as paths, ids have this before the next
        "84_121123_000007_000000",
        "84_121123_000007_000001",
        "84_121123_000009_000000",
    ]
    none, original, normalised, silent = found
    assert isinstance(none, Rejected)
    assert "no transcript 841_1_000000_000000.normalized.txt" in none.reason
    assert isinstance(original, Utterance) and original.text == "Only this"
    assert isinstance(normalised, Utterance) and normalised.text == "Mister A"
    assert normalised.speaker == "84" and (normalised.seconds or 0) > 1
    assert isinstance(silent, Rejected) and "has no sound beside it" in silent.reason


@pytest.mark.parametrize(("text", "reason"), [(b"caf\xe9", "is not UTF-8"), (b" \n", "is empty")])
def test_faulty_texts(tmp_path: Path, put, text: bytes, reason: str) -> None:
    add(tmp_path, put, "1_2_3_4", normalized=text)
    [rejected] = libritts.read(tmp_path, "dev-clean")
    assert isinstance(rejected, Rejected) and reason in rejected.reason


def test_another_layout_or_subset(root: Path) -> None:
    with pytest.raises(UserError, match=r"'train' is not in .*: it holds dev-clean"):
        list(libritts.read(root, "train"))
    (root / "flat").mkdir()
    with pytest.raises(UserError, match="<speaker>/<chapter>"):
        list(libritts.read(root, "flat"))


@pytest.mark.parametrize(
    ("corpus", "outer", "url"),
    [
        (libritts, "LibriTTS", "https://www.openslr.org/resources/60/dev-clean.tar.gz"),
        (libritts_r, "LibriTTS_R", "https://www.openslr.org/resources/141/dev_clean.tar.gz"),
    ],
)
def test_download(root: Path, monkeypatch, server, packed, corpus, outer: str, url: str) -> None:
    assert corpus._ARCHIVES["dev-clean"][0] == url
    server.content = packed["tar.gz"](
        {
            f"{outer}/{path.relative_to(root).as_posix()}": path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }
    )
    archives = {"dev-clean": (server.url("dev-clean.tar.gz"), server.md5)}
    monkeypatch.setattr(corpus, "_ARCHIVES", archives)
    corpus.download(root / "new", "dev-clean")
    assert len(list(corpus.read(root / "new", "dev-clean"))) == 4
    with pytest.raises(UserError, match="no subset 'nope'; it has dev-clean"):
        corpus.download(root / "new", "nope")
