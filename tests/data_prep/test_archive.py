"""Archives: unpacked inside their folder or not at all, and put in place whole."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_prep.archive import install, unpack
from voiceflow.config import UserError

MEMBERS = {"Top/README": b"hi", "Top/dev/1/a.txt": b"A", "Top/dev/2/b.txt": b"B" * 5000}
KINDS = ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"]


@pytest.mark.parametrize("kind", KINDS)
def test_unpacked(tmp_path: Path, packed, kind: str) -> None:
    archive = tmp_path / "archive"  # known by its content, not by its name
    archive.write_bytes(packed[kind](MEMBERS))
    unpack(archive, tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == MEMBERS


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/evil", "an absolute path"),
        ("../evil", "climbs"),
        ("Top/../../evil", "climbs"),
        ("Top\\..\\..\\evil", "climbs"),
        ("C:\\evil", "an absolute path"),
    ],
)
def test_paths_outside_are_refused(tmp_path: Path, packed, kind: str, name: str, why: str) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(packed[kind]({**MEMBERS, name: b"evil"}))
    with pytest.raises(UserError, match=why):
        unpack(archive, tmp_path / "in" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive"]  # nothing was written


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_a_tar_with_something_else(tmp_path: Path, kind: bytes, why: str) -> None:
    archive = tmp_path / "archive"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("first"), io.BytesIO())
        info = tarfile.TarInfo("other")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(UserError, match=f"'other' is {why}"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_with_a_link(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    with zipfile.ZipFile(archive, "w") as made:
        info = zipfile.ZipInfo("other")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="'other' is a link"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_damage(tmp_path: Path, packed, kind: str) -> None:
    archive = tmp_path / "archive"
    random = bytes(hash((n, 7)) % 256 for n in range(40_000))
    whole = packed[kind]({"Top/a": random, "Top/b": random})
    archive.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, tmp_path / "out")
    archive.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="neither a tar nor a zip"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("outer", ["", "Top/"])
def test_installed(tmp_path: Path, server, packed, outer: str) -> None:
    server.content = packed["zip"](
        {f"{outer}wavs/a.wav": b"a", f"{outer}metadata.csv": b"m", f"{outer}README": b"new"}
    )
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "README").write_bytes(b"old")
    install(server.url("c.zip"), server.md5, root, ["wavs", "metadata.csv"])
    assert sorted(path.name for path in root.iterdir()) == ["README", "metadata.csv", "wavs"]
    assert (root / "README").read_bytes() == b"old"
    install(server.url("c.zip"), server.md5, root, ["wavs", "metadata.csv"])
    assert len(server.asked) == 1


def test_an_archive_that_is_another(tmp_path: Path, server, packed) -> None:
    server.content = packed["tar.gz"](MEMBERS)
    with pytest.raises(UserError, match="does not hold train"):
        install(server.url("c.tar.gz"), None, tmp_path / "corpus", ["train"])
    assert list((tmp_path / "corpus").iterdir()) == []


def test_an_archive_fetched_by_hand_is_used_and_kept(tmp_path: Path, server, packed) -> None:
    server.content = packed["tar.gz"](MEMBERS)
    (tmp_path / "c.tar.gz").write_bytes(server.content)
    install(server.url("c.tar.gz"), server.sha256, tmp_path, ["dev"])
    assert server.asked == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README", "c.tar.gz", "dev"]


def test_an_unsafe_archive_leaves_nothing(tmp_path: Path, server, packed) -> None:
    server.content = packed["tar.gz"]({**MEMBERS, "../evil": b"evil"})
    with pytest.raises(UserError, match="climbs out of its folder"):
        install(server.url("c.tar.gz"), server.sha256, tmp_path / "corpus", ["dev"])
    assert list((tmp_path / "corpus").iterdir()) == []
    assert not list(tmp_path.rglob("*evil*"))
