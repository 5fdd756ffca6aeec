"""What the corpora's tests share: real utterances to build layouts from, and a web server."""

import hashlib
import io
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile

from data_prep import fetch, librispeech
from voiceflow.data.manifest import Utterance


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 5.0)


@pytest.fixture(scope="session")
def spoken(speech_dir: Path) -> list[Utterance]:
    """Three real utterances of test-clean."""
    found = []
    for utterance in librispeech.read(speech_dir / "LibriSpeech", "test-clean"):
        assert isinstance(utterance, Utterance)
        found.append(utterance)
        if len(found) == 3:
            break
    return found


@pytest.fixture
def put(spoken: list[Utterance]) -> Callable[[Path], Path]:
    """Puts a real utterance at a path, in the kind that its ending tells."""

    def at(path: Path, number: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        source = spoken[number].audio
        if path.suffix == Path(source).suffix:
            shutil.copyfile(source, path)
        else:
            samples, rate = soundfile.read(source, dtype="float32")
            soundfile.write(path, samples, rate)
        return path

    return at


class Server:
    """A web server on 127.0.0.1 that serves `content` and misbehaves as it is told."""

    def __init__(self) -> None:
        self.content = bytes(range(256)) * 400
        self.etag: str | None = '"one"'
        self.ranges = True
        self.breaks: list[int] = []  # after so many bytes the next answers break off
        self.status = 200
        self.announced = 0  # what is added to the length it tells
        self.asked: list[str | None] = []  # the Range of each request
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name: str = "corpus.bin") -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{name}?download=1"

    @property
    def sha256(self) -> str:
        return "sha256:" + hashlib.sha256(self.content).hexdigest()

    @property
    def md5(self) -> str:
        return "md5:" + hashlib.md5(self.content).hexdigest()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        self.asked.append(wanted)
        if self.status != 200:
            return request.send_error(self.status)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        condition = request.headers["If-Range"]
        partial = self.ranges and wanted and condition in (None, self.etag)
        if partial and start >= len(self.content):
            return request.send_error(416)
        body = self.content[start:] if partial else self.content
        request.send_response(206 if partial else 200)
        if partial:
            last = len(self.content) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(self.content)}")
        if self.etag:
            request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(len(body) + self.announced))
        request.end_headers()
        request.wfile.write(body[: self.breaks.pop(0)] if self.breaks else body)


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server of one's own."""
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def tar_of(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    """A tar archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    """A zip archive of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def packed() -> dict[str, Callable[[dict[str, bytes]], bytes]]:
    """How to make each kind of archive: files by their names to the archive's bytes."""
    return {
        "tar": lambda members: tar_of(members, "w"),
        "tar.gz": tar_of,
        "tar.bz2": lambda members: tar_of(members, "w:bz2"),
        "tar.xz": lambda members: tar_of(members, "w:xz"),
        "zip": zip_of,
    }
