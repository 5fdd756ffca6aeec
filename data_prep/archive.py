"""Archives of corpora: fetched, unpacked where nothing can be harmed, and put in place whole."""

import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO
from urllib.parse import urlsplit

from data_prep.fetch import fetch
from voiceflow.config import UserError


def install(url: str, checksum: str | None, root: Path, needed: Sequence[str]) -> None:
    """Fetch an archive and put what it holds into `root`, whole or not at all.

    `needed` are the names (the last one is moved last) that must be there; where they all are,
    nothing is done. They may stand in the archive's one outer folder. An archive that was beside
    them already, fetched by other means, is used and kept. What is in `root` stays as it is.
    Raises UserError for a failed transfer and for an archive that is damaged, unsafe or another.
    """
    if all((root / name).exists() for name in needed):
        return
    archive = root / PurePosixPath(urlsplit(url).path).name
    was_there = archive.exists()
    fetch(url, archive, checksum)
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=root) as temporary:
            unpacked = Path(temporary) / "archive"
            unpack(archive, unpacked)
            _move(_holder(unpacked, needed, url), root, needed)
    except OSError as error:  # a full disk, say: the archive is good and is kept
        raise UserError(f"{root}: cannot be written ({error.strerror or error})") from error
    except UserError:
        if not was_there:
            archive.unlink()
        raise
    if not was_there:
        archive.unlink()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or a zip: files and folders alone, inside `folder`.

    Every member is looked at before anything is written. Raises UserError for a path that is
    absolute or climbs by `..`, for links and devices, and for a damaged archive.
    """
    try:
        for member in _members(archive):
            if fault := member.fault():
                raise UserError(f"{archive}: the member {member.name!r} is {fault}: not unpacked")
        folder.mkdir(parents=True)
        for member in _members(archive):
            target = folder.joinpath(*PurePosixPath(member.name).parts)
            if member.content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(member.content, file, 1 << 20)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{archive} is damaged: {error}; have it fetched anew") from error
    except NotImplementedError as error:
        raise UserError(f"{archive} cannot be unpacked: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        # gzip and bzip2 tell of damage so
        raise UserError(f"{archive} is damaged: {error}; have it fetched anew") from error


@dataclass
class _Member:
    """One entry of an archive; `content` is None for a folder, `kind` what else it may be."""

    name: str
    kind: str
    content: IO[bytes] | None = None

    def fault(self) -> str:
        """Why the entry may not be unpacked; empty where it may."""
        path = PureWindowsPath(self.name)  # which knows both kinds of slashes, and drives
        if path.anchor or path.drive:
            return "an absolute path"
        if ".." in path.parts:
            return "a path that climbs out of its folder"
        return "" if self.kind in ("file", "folder") else self.kind


def _members(archive: Path) -> Iterator[_Member]:
    if tarfile.is_tarfile(archive):
        yield from _tar_members(archive)
    elif zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    else:
        raise UserError(f"{archive} is damaged: it is neither a tar nor a zip archive")


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:*") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # of a large corpus, they fill memory
            if info.isfile():
                yield _Member(info.name, "file", tar.extractfile(info))
            elif info.isdir():
                yield _Member(info.name, "folder")
            else:
                yield _Member(info.name, "a link" if info.issym() or info.islnk() else "a device")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 1:
                yield _Member(info.filename, "encrypted")
            elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                yield _Member(info.filename, "a link" if kind == stat.S_IFLNK else "a device")
            elif info.is_dir():
                yield _Member(info.filename, "folder")
            else:
                with packed.open(info) as content:
                    yield _Member(info.filename, "file", content)


def _holder(unpacked: Path, needed: Sequence[str], url: str) -> Path:
    """The folder that holds the needed names: what was unpacked, or a folder in it."""
    inner = sorted(path for path in unpacked.iterdir() if path.is_dir())
    for folder in (unpacked, *inner):
        if all((folder / name).exists() for name in needed):
            return folder
    raise UserError(f"{url} does not hold {', '.join(needed)}")


def _move(source: Path, root: Path, needed: Sequence[str]) -> None:
    """Rename what is not in `root` yet, the needed names last: they tell that all is there."""
    others = sorted(path.name for path in source.iterdir() if path.name not in needed)
    for name in (*others, *needed):
        if not (root / name).exists():
            os.replace(source / name, root / name)
