"""Downloads against a real server that breaks off, lies and changes its mind."""

import os
import socket
from pathlib import Path

import pytest

from data_prep import fetch as module
from data_prep.fetch import fetch
from voiceflow.config import UserError


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "corpus.bin"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def part_of(target: Path) -> Path:
    return target.with_name("corpus.bin.part")


@pytest.mark.parametrize("kind", ["sha256", "md5", None])
def test_a_whole_file(server, target: Path, kind: str | None) -> None:
    checksum = getattr(server, kind) if kind else None
    fetch(server.url(), target, checksum)
    assert target.read_bytes() == server.content
    assert left(target) == ["corpus.bin"]
    fetch(server.url(), target, checksum)
    assert server.asked == [None]  # the second time, nothing is asked for


def test_what_broke_off_goes_on(server, target: Path) -> None:
    server.breaks = [40_000]
    fetch(server.url(), target)
    assert target.read_bytes() == server.content
    assert server.asked == [None, "bytes=40000-"]
    assert left(target) == ["corpus.bin"]


def test_it_starts_anew_where_ranges_are_ignored(server, target: Path) -> None:
    server.ranges, server.breaks = False, [40_000]
    fetch(server.url(), target)
    assert target.read_bytes() == server.content
    assert server.asked == [None, "bytes=40000-"]


def test_what_has_arrived_is_kept_for_the_next_call(server, target: Path) -> None:
    server.breaks = [10_000] * module.TRIES
    with pytest.raises(UserError, match=r"broke off after 50000 of 102400 bytes; 50000 bytes are"):
        fetch(server.url(), target, server.sha256)
    assert left(target) == ["corpus.bin.part", "corpus.bin.part.json"]
    assert part_of(target).read_bytes() == server.content[:50_000]
    fetch(server.url(), target, server.sha256)
    assert target.read_bytes() == server.content
    assert server.asked[-1] == "bytes=50000-"


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("etags", [('"one"', '"two"'), ('W/"one"', 'W/"two"')])
def test_a_file_that_changed_is_fetched_anew(
    server, target: Path, ranges: bool, etags: tuple[str, str]
) -> None:
    server.etag, server.breaks = etags[0], [10_000] * module.TRIES
    with pytest.raises(UserError, match="broke off"):
        fetch(server.url(), target, server.sha256)
    server.content = server.content[::-1]
    server.etag, server.ranges = etags[1], ranges
    fetch(server.url(), target, server.sha256)
    assert target.read_bytes() == server.content


def test_without_etag_or_checksum_nothing_is_continued(server, target: Path) -> None:
    server.etag, server.breaks = None, [40_000]
    fetch(server.url(), target)
    assert target.read_bytes() == server.content
    assert server.asked == [None, None]


def test_without_etag_the_checksum_vouches(server, target: Path) -> None:
    server.etag, server.breaks = None, [40_000]
    fetch(server.url(), target, server.md5)
    assert server.asked == [None, "bytes=40000-"]


def test_another_address_is_not_continued(server, target: Path) -> None:
    server.breaks = [10_000] * module.TRIES
    with pytest.raises(UserError):
        fetch(server.url("one"), target)
    fetch(server.url("two"), target)
    assert server.asked[-1] is None


@pytest.mark.parametrize(
    ("announced", "message"),
    [(-10, "announced 102390 bytes and sent more"), (10, "102400 of 102410")],
)
def test_a_length_that_lies_is_noticed(server, target: Path, announced: int, message: str) -> None:
    server.announced, server.ranges = announced, False
    with pytest.raises(UserError, match=message):
        fetch(server.url(), target)
    assert not target.exists()
    assert len(server.asked) == module.TRIES
    server.announced = 0
    fetch(server.url(), target)
    assert target.read_bytes() == server.content


def test_a_range_that_lies_is_noticed(server, target: Path) -> None:
    server.breaks, server.announced = [40_000], 1
    with pytest.raises(UserError, match=r"announced 62401 bytes and the range 'bytes 40000-102399"):
        fetch(server.url(), target)


def test_a_missing_file_is_asked_for_once(server, target: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match=r"corpus\.bin.*answered 404 Not Found"):
        fetch(server.url(), target)
    assert server.asked == [None]
    assert left(target) == []


def test_a_server_that_is_busy_is_asked_again(server, target: Path) -> None:
    server.status = 503
    with pytest.raises(UserError, match=r"in 5 tries: the server answered 503 .*; try again later"):
        fetch(server.url(), target)
    assert len(server.asked) == module.TRIES


def test_no_server(target: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # a port where nobody listens
        with pytest.raises(UserError, match=r"in 5 tries: .*[Rr]efused"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/a.zip", target)


def test_a_wrong_checksum_leaves_nothing(server, target: Path) -> None:
    with pytest.raises(UserError, match=r"came damaged: its sha256 is [0-9a-f]{64}, expected 0000"):
        fetch(server.url(), target, "sha256:" + "0" * 64)
    assert left(target) == []


def test_a_file_that_is_there_is_checked(server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"another")
    with pytest.raises(UserError, match=r"corpus\.bin is damaged: its md5 .*; delete it"):
        fetch(server.url(), target, server.md5)
    assert target.read_bytes() == b"another"


def test_only_the_web(target: Path) -> None:
    with pytest.raises(UserError, match="only http"):
        fetch(Path("/etc/passwd").as_uri(), target)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(server, target: Path) -> None:
    target.parent.mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot be written"):
        fetch(server.url(), target)
