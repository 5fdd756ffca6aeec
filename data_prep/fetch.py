"""HTTP(S) downloads that go on where they broke off, checked against length and checksum."""

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from voiceflow.config import UserError
from voiceflow.files import write_json

TRIES = 5
PAUSE_SECONDS = 1.0  # before the second try; longer before each further one
TIMEOUT_SECONDS = 60.0
_BLOCK = 1 << 18
_MAY_PASS = {408, 425, 429, 500, 502, 503, 504}  # answers after which another try makes sense
_DIGESTS = {"sha256": 64, "md5": 32}  # hexadecimal digits

Report = Callable[[int, int | None], None]  # bytes that are there, bytes in all


class _Broken(Exception):
    """This try failed; another one may succeed."""


@dataclass(frozen=True)
class _Remote:
    """What a server says of a file; kept beside the partial file, to know the file again."""

    url: str
    etag: str | None
    last_modified: str | None
    length: int | None

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: a strong ETag, else the date."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.last_modified

    def differs(self, other: "_Remote") -> bool:
        """Whether a thing that both tell is told in two ways."""
        pairs = (
            (self.etag, other.etag),
            (self.last_modified, other.last_modified),
            (self.length, other.length),
        )
        return any(a is not None and b is not None and a != b for a, b in pairs)


def fetch(url: str, target: Path, checksum: str | None = None) -> None:
    """Fetch a file over HTTP(S), whole or not at all; `checksum` is `sha256:...` or `md5:...`.

    What has arrived stands in `NAME.part` beside the target until all of it is there, and a later
    try asks for the rest alone. A target that is there already is only checked. Raises UserError
    where the file cannot be fetched, or is not the one that the checksum tells of.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url}: only http:// and https:// addresses can be fetched")
    if target.exists():
        if (found := _other_digest(target, checksum)) is not None:
            raise UserError(f"{target} is damaged: {found}; delete it to have it fetched anew")
        return
    part = _beside(target, ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _progress(target.name) as report:
            _try_often(url, part, checksum is not None, report)
        if (found := _other_digest(part, checksum)) is not None:
            _forget(part)
            raise UserError(f"{url} came damaged: {found}; try again")
        os.replace(part, target)
        _forget(part)
    except OSError as error:
        raise UserError(f"{part}: cannot be written ({error.strerror or error})") from error


def _try_often(url: str, part: Path, has_checksum: bool, report: Report) -> None:
    for number in range(TRIES):
        time.sleep(PAUSE_SECONDS * number)
        try:
            return _try_once(url, part, has_checksum, report)
        except _Broken as error:
            reason = str(error)
    size = _size(part)
    kept = f"; {size} bytes are kept in {part}, and the same command goes on from there"
    raise UserError(
        f"{url} could not be fetched, in {TRIES} tries: {reason}"
        + (kept if size else "; try again later, or fetch it by other means")
    )


def _try_once(url: str, part: Path, has_checksum: bool, report: Report) -> None:
    """One request, for the rest of the file where its beginning is there; _Broken where it fails"""
    known = _known(part, url, has_checksum)
    start = _size(part) if known else 0
    if known and known.length == start:
        return
    with _answer(url, start, known, part) as response:
        length = _announced(response, start)
        remote = _Remote(url, response.headers["ETag"], response.headers["Last-Modified"], length)
        if response.status == 206:
            if known is None or known.differs(remote):
                _forget(part)
                raise _Broken("the file on the server changed between two tries")
        else:
            start = 0
            _forget(part)
            write_json(_beside(part, ".json"), asdict(remote))
        size = start
        with part.open("ab") as file:
            for block in _blocks(response, None if length is None else length - start):
                file.write(block)
                size += len(block)
                report(size, length)
    if length is not None and size > length:
        _forget(part)
        raise _Broken(f"the server announced {length} bytes and sent more")
    if length is not None and size < length:
        raise _Broken(f"the transfer broke off after {size} of {length} bytes")


def _answer(url: str, start: int, known: _Remote | None, part: Path) -> http.client.HTTPResponse:
    """The server's answer to the request for what comes after `start` bytes."""
    request = urllib.request.Request(url, headers={"User-Agent": "voiceflow"})
    if start and known:
        request.add_header("Range", f"bytes={start}-")
        if known.validator:
            request.add_header("If-Range", known.validator)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:
                _forget(part)
                raise _Broken("the server has no more than the part that is here") from error
            if error.code in _MAY_PASS:
                raise _Broken(f"the server answered {error.code} {error.reason}") from error
            raise UserError(
                f"{url}: the server answered {error.code} {error.reason}; look whether the "
                "address still holds, or fetch the file by other means"
            ) from error
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise _Broken(str(getattr(error, "reason", error) or type(error).__name__)) from error
    if response.status != 200 and not (response.status == 206 and start):
        response.close()
        raise _Broken(f"the server answered {response.status}, expected 200")
    return response


def _announced(response: http.client.HTTPResponse, start: int) -> int | None:
    """The whole file's length as the headers tell it; None where they do not."""
    body = response.headers["Content-Length"]
    if response.status == 200:
        return int(body) if body and body.isdigit() and not response.chunked else None
    words = response.headers["Content-Range"] or ""
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", words.strip())
    if match is None or int(match[1]) != start:
        raise _Broken(f"asked for the bytes from {start} on, the server sent {words!r}")
    if body and body.isdigit() and int(body) != int(match[2]) - start + 1:
        raise _Broken(f"the server announced {body} bytes and the range {words!r}")
    return None if match[3] == "*" else int(match[3])


def _blocks(response: http.client.HTTPResponse, expected: int | None) -> Iterator[bytes]:
    """What the server sends, one block over `expected` bytes at most."""
    if not response.chunked:
        response.length = None  # read on to the end: a server may send more than it announced
    size = 0
    while expected is None or size <= expected:
        try:
            block = response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, TimeoutError) and size == expected:
                return  # all is here; the server forgot to hang up
            raise _Broken(f"the transfer broke off: {error or type(error).__name__}") from error
        if not block:
            return
        size += len(block)
        yield block


def _known(part: Path, url: str, has_checksum: bool) -> _Remote | None:
    """What the partial file is the beginning of; None where that is not sure."""
    try:
        remote = _Remote(**json.loads(_beside(part, ".json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    sure = remote.validator is not None or has_checksum
    return remote if remote.url == url and sure and _size(part) else None


def _other_digest(path: Path, checksum: str | None) -> str | None:
    """What is wrong with the file's checksum; None where it is right or none is known."""
    if checksum is None:
        return None
    kind, _, expected = checksum.partition(":")
    if len(expected) != _DIGESTS.get(kind):
        raise ValueError(f"expected sha256:DIGITS or md5:DIGITS, found {checksum!r}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False))
    found = digest.hexdigest()
    return None if found == expected.lower() else f"its {kind} is {found}, expected {expected}"


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget(part: Path) -> None:
    """Take away the partial file first, then what is known of it."""
    for path in (part, _beside(part, ".json")):
        with suppress(FileNotFoundError):
            path.unlink()


@contextmanager
def _progress(name: str) -> Iterator[Report]:
    """A line on standard error that tells how much has arrived, where that is a terminal."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(name, total=None)
        yield lambda size, length: shown.update(task, completed=size, total=length)
