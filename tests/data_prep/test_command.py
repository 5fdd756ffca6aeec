"""All corpora are run alike."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from data_prep import CORPORA
from voiceflow.data.manifest import read_manifest


@pytest.mark.parametrize("name", CORPORA)
def test_each_corpus_has_the_same_functions(name: str) -> None:
    module = import_module(CORPORA[name])
    for function in (module.read, module.download):
        root, subset, *others = inspect.signature(function).parameters.values()
        assert (root.name, subset.name) == ("root", "subset")
        assert all(other.default is not inspect.Parameter.empty for other in others)
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0


def test_every_corpus_is_listed(repository: Path) -> None:
    shared = {"__init__", "archive", "command", "entries", "fetch"}
    found = {path.stem for path in (repository / "data_prep").glob("*.py")} - shared
    assert found == set(CORPORA)
    assert all(module == f"data_prep.{name}" for name, module in CORPORA.items())


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_a_missing_folder_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    subset = {"vctk": "mic1", "hub": "a/b:train", "ljspeech": ""}.get(name, "train")
    assert import_module(CORPORA[name]).main([str(tmp_path / "absent"), subset]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert told.err.startswith(f"data_prep.{name}: ")


def test_what_is_printed_is_a_manifest(
    tmp_path: Path, put, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "a.flac")
    (tmp_path / "t.csv").write_text("audio,text\na.flac,Grüße\nb.flac,Hello\n")
    assert import_module(CORPORA["table"]).main([str(tmp_path), "t.csv"]) == 0
    told = capsys.readouterr()
    (tmp_path / "manifest.jsonl").write_text(told.out)
    assert [one.text for one in read_manifest(tmp_path / "manifest.jsonl")] == ["Grüße"]
    assert "rejected b: t.csv, line 3: there is no audio file" in told.err
    assert "1 rejected in all" in told.err


def test_a_reader_that_goes_away(tmp_path: Path, put, repository: Path) -> None:
    put(tmp_path / "a.flac")
    rows = "".join(f"{number},a.flac,{'word ' * 200}\n" for number in range(200))
    (tmp_path / "t.csv").write_text("id,audio,text\n" + rows)
    command = f"{sys.executable} -m data_prep.table {tmp_path} t.csv | head -n 1"
    done = subprocess.run(
        command, shell=True, cwd=repository, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
