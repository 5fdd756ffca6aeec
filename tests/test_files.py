"""Files and folders are whole or not there, and errors name them."""

import os
from pathlib import Path

import pytest

from voiceflow.config import UserError
from voiceflow.files import read_json, replacing, replacing_folder, write_json


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "a.txt"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent  # else the rename would copy
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == {"a.txt"}


@pytest.mark.parametrize("stopped", [ValueError, KeyboardInterrupt])
def test_a_file_stays_as_it_was_when_the_block_fails(
    tmp_path: Path, stopped: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(stopped), replacing(path) as temporary:
        temporary.write_text("half")
        raise stopped
    assert path.read_text() == "before"
    assert names(tmp_path) == {"a.txt"}


def test_what_a_killed_process_of_the_same_number_left_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    (tmp_path / f".a.txt.{os.getpid()}.tmp").write_text("half of a longer text")
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(tmp_path) == {"a.txt"}


def test_a_file_where_none_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a\.txt: cannot be written \(File exists"):
        write_json(tmp_path / "file" / "a.txt", [])
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match=r"folder: cannot be written \(Is a directory"):
        write_json(tmp_path / "folder", [])
    assert names(tmp_path) == {"file", "folder"}
    assert names(tmp_path / "folder") == {"inside"}


def test_a_folder_replaces_all_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a"
    for name in ("first", "second"):
        with replacing_folder(path) as temporary:
            assert temporary.parent == path.parent
            (temporary / name).write_text("")
            assert not path.exists() or names(path) == {"first"}
    assert names(path) == {"second"}
    assert names(path.parent) == {"a"}


@pytest.mark.parametrize("stopped", [ValueError, KeyboardInterrupt])
def test_a_folder_stays_as_it_was_when_the_block_fails(
    tmp_path: Path, stopped: type[BaseException]
) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "before").write_text("")
    with pytest.raises(stopped), replacing_folder(path) as temporary:
        (temporary / "half").write_text("")
        raise stopped
    assert names(path) == {"before"}
    assert names(tmp_path) == {"a"}


def test_a_folder_starts_empty_whatever_a_killed_process_left(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for kind in ("tmp", "old"):
        left = tmp_path / f".a.{os.getpid()}.{kind}"
        left.mkdir()
        (left / "half").write_text("")
    with replacing_folder(path) as temporary:
        assert names(temporary) == set()
        (temporary / "whole").write_text("")
    assert names(path) == {"whole"}
    assert names(tmp_path) == {"a"}


def test_the_old_folder_stays_where_the_new_one_cannot_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "old").write_text("")
    move = os.replace

    def full(source: Path, target: Path) -> None:
        if ".tmp" in Path(source).name:
            raise OSError(28, "No space left on device")
        move(source, target)

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match="No space left"),
        replacing_folder(path) as temporary,
    ):
        (temporary / "new").write_text("")
        patch.setattr(os, "replace", full)
    assert names(path) == {"old"}
    assert names(tmp_path) == {"a"}


def test_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.json"
    values = {"word": "Grüße, 你好", "numbers": [1, 0.1, 1e-300, None], "nested": {"yes": True}}
    write_json(path, values)
    assert read_json(path) == values
    assert "Grüße, 你好" in path.read_text("utf-8")  # a person may read it


def test_json_that_cannot_be_written_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, [2, object()])
    assert read_json(path) == [1]
    assert names(tmp_path) == {"a.json"}


@pytest.mark.parametrize("damage", [b"", b'{"half": ', b"\xff\xfe"])
def test_damaged_json(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(damage)
    with pytest.raises(UserError, match=r"a\.json: cannot be read as JSON"):
        read_json(path)


def test_missing_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json: cannot be read as JSON \(.*No such file"):
        read_json(tmp_path / "none.json")
