from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance, read_manifest, write_manifest

LINE = '{"id": "a", "audio": "a.wav", "text": "HI", "speaker": "s"}'

texts = st.text(st.characters(exclude_categories=["Cs"]))
utterances = st.builds(
    Utterance,
    id=texts,
    audio=texts,
    text=texts,
    speaker=texts,
    language=texts,
    seconds=st.none() | st.floats(0, 1e6),
)


@given(st.lists(utterances, unique_by=lambda utterance: utterance.id))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, written: list[Utterance]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip" / "manifest.jsonl"
    assert write_manifest(path, written) == len(written)
    assert read_manifest(path) == written


def test_blank_lines_and_defaults(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f"\n{LINE}\n\n")
    assert read_manifest(path) == [Utterance("a", "a.wav", "HI", "s", "en", None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "line 1: expected one JSON object a line"),
        (b"[]", "line 1: expected a JSON object"),
        (LINE.encode() + b"\n" + LINE.encode(), "line 2: the id a comes a second time"),
        (b'{"id": "a", "audio": "a.wav", "text": "HI"}', "'speaker' must be text, found None"),
        (LINE.replace('"HI"', "3").encode(), "'text' must be text, found 3"),
        (LINE.replace("}", ', "seconds": "3"}').encode(), "'seconds' must be a number"),
        (LINE.replace("}", ', "sex": "f"}').encode(), "unknown key 'sex'; known are id, audio"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_faulty_manifests_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"m\.jsonl") as caught:
        read_manifest(path)
    assert message in str(caught.value)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_manifest(tmp_path / "absent.jsonl")


def test_a_broken_off_write_leaves_the_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    old = Utterance("a", "a.wav", "HI", "s")
    write_manifest(path, [old])

    def breaks_off():  # type: ignore[no-untyped-def]
        yield Utterance("b", "b.wav", "HO", "s")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_manifest(path, breaks_off())
    assert read_manifest(path) == [old]
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_manifest(tmp_path / "file" / "m.jsonl", [])
