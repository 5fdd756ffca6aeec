"""Models of the Hub: a folder, the cache, or a reason; no network."""

import sys
from pathlib import Path

import pytest

from voiceflow.config import UserError
from voiceflow.hub import FILES, Source, find, first_line, library

constants = pytest.importorskip("huggingface_hub.constants")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network is tried, and the Hub's cache is an empty folder."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find(str(tmp_path)) == Source(str(tmp_path), tmp_path, None)


def test_what_the_cache_holds_is_found_with_its_commit(cache: Path) -> None:
    model = cache / "models--owner--model"
    snapshot = model / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.yaml").write_text("a: 1")
    for revision in ("main", "first"):
        (model / "refs").mkdir(exist_ok=True)
        (model / "refs" / revision).write_text(COMMIT)
    for name in ("owner/model", "owner/model@first", f"owner/model@{COMMIT}"):
        assert find(name, ["*.yaml"]) == Source(name, snapshot, COMMIT)


@pytest.mark.parametrize("name", ["owner/absent", "owner/absent@first", "../a b", "a/b/c"])
def test_what_is_nowhere(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is no folder here, and the Hugging Face Hub did not give"):
        find(name, FILES)


def test_pickles_are_listed_not_opened(tmp_path: Path) -> None:
    for name in ("b.pt", "a.bin", "model.safetensors", "c.ckpt", "config.json"):
        (tmp_path / name).write_bytes(b"no pickle")
    assert find(str(tmp_path)).pickles() == ["a.bin", "b.pt", "c.ckpt"]


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert library("json", "scorers", "eval").dumps([1]) == "[1]"
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"^scorers need transformers: pip install -e '\.\[e"):
        library("transformers", "scorers", "eval")


def test_the_first_line_of_an_error() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
