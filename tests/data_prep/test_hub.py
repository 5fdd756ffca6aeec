"""The Hub's way, with a local folder of Parquet that `datasets` itself wrote; no network."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from typer.testing import CliRunner

from data_prep import hub
from voiceflow.cli.app import app
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance, read_manifest


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


Corpus = Callable[..., Path]


@pytest.fixture
def corpus(tmp_path: Path, spoken: list[Utterance]) -> Corpus:
    """Makes a corpus of the three real utterances; `changed` says what each row has besides."""

    def make(changed: dict[str, Any] | None = None, **renamed: str) -> Path:
        rows = []
        for number, utterance in enumerate(spoken):
            sound = {"bytes": Path(utterance.audio).read_bytes(), "path": "clip.flac"}
            row = {"audio": sound, "sentence": utterance.text, "client_id": number, "up": 1}
            row.update({name: values[number] for name, values in (changed or {}).items()})
            rows.append({renamed.get(name, name): value for name, value in row.items()})
        made = datasets.Dataset.from_list(rows)
        made = made.cast_column(renamed.get("audio", "audio"), datasets.Audio(decode=False))
        folder = tmp_path / "made"
        folder.mkdir()
        made.to_parquet(folder / "train-00000-of-00001.parquet")
        return folder

    return make


def read(root: Path, subset: str) -> list[Utterance]:
    found = list(hub.read(root, subset))
    assert all(isinstance(one, Utterance) for one in found)
    assert [one.id for one in found] == sorted(one.id for one in found)
    return [one for one in found if isinstance(one, Utterance)]


def test_a_corpus(tmp_path: Path, corpus: Corpus, spoken: list[Utterance]) -> None:
    subset = f"{corpus({'locale': ['de', 'zh-CN', 'Klingon']})}:train"
    hub.download(tmp_path / "root", subset)
    found = read(tmp_path / "root", subset)
    assert [one.text for one in found] == [one.text for one in spoken]
    assert [one.speaker for one in found] == ["0", "1", "2"]
    assert [one.language for one in found] == ["de", "zh-CN", "en"]
    assert [one.seconds for one in found] == [one.seconds for one in spoken]
    for one, original in zip(found, spoken, strict=True):  # the sound is not touched
        assert Path(one.audio).read_bytes() == Path(original.audio).read_bytes()
        assert one.audio.endswith(".flac")
    assert [path.name for path in (tmp_path / "root").iterdir()] == [hub.safe_name(subset)]


def test_the_second_time_nothing_is_fetched(tmp_path: Path, corpus: Corpus, monkeypatch) -> None:
    subset = f"{corpus()}:train"
    hub.download(tmp_path / "root", subset)
    monkeypatch.setattr(hub, "_stream", lambda *_: pytest.fail("fetched a second time"))
    hub.download(tmp_path / "root", subset)


def test_columns_of_other_names(tmp_path: Path, corpus: Corpus) -> None:
    made = corpus(audio="clip", sentence="words", client_id="who")
    with pytest.raises(
        UserError,
        match=r"no column sentence or text or .* for the text; it has clip, words, who, up: name "
        r"one by --column text=NAME",
    ):
        hub.download(tmp_path / "root", f"{made}:train")
    with pytest.raises(UserError, match="no column nope for the text; it has clip, words, who"):
        hub.download(tmp_path / "root", f"{made}:train", audio="clip", text="nope")
    hub.download(tmp_path / "root", f"{made}:train", audio="clip", text="words", speaker="who")
    assert [one.speaker for one in read(tmp_path / "root", f"{made}:train")] == ["0", "1", "2"]


def test_the_only_column_of_sounds_is_the_audio(tmp_path: Path, corpus: Corpus) -> None:
    hub.download(tmp_path / "root", f"{corpus(audio='clip')}:train")
    assert len(read(tmp_path / "root", f"{tmp_path / 'made'}:train")) == 3
    sound = datasets.Audio(decode=False)
    two = {"one": sound, "two": sound, "text": datasets.Value("string")}
    none = dict.fromkeys(hub.USUAL)
    with pytest.raises(UserError, match="no column audio for the audio; it has one, two, text"):
        hub._columns("name", two, none)
    assert hub._columns("name", two, {**none, "audio": "two"})["audio"] == "two"


def test_columns_of_another_kind_are_not_taken(tmp_path: Path, corpus: Corpus) -> None:
    made = corpus({"text": [["a"], ["b"], ["c"]], "speaker": [["s"], ["t"], ["u"]]})
    for wrong, message in [
        ({"audio": "up"}, "a column up, but of .*int64.*, which cannot be the audio; it has audio"),
        ({"text": "audio"}, "a column audio, but of Audio.*, which cannot be the text; it has"),
        ({"speaker": "speaker"}, "a column speaker, but of List.*, which cannot be the speaker"),
    ]:
        with pytest.raises(UserError, match=message):
            hub.download(tmp_path / "root", f"{made}:train", **wrong)
    hub.download(tmp_path / "root", f"{made}:train")  # nor guessed
    assert [one.speaker for one in read(tmp_path / "root", f"{made}:train")] == ["0", "1", "2"]


def test_ids_of_the_corpus(tmp_path: Path, corpus: Corpus, spoken: list[Utterance]) -> None:
    subset = f"{corpus({'name': ['b', ' a ', None], 'id': ['x', 'x', 'x']})}:train"
    root = tmp_path / "root"
    hub.download(root, subset, id="name")
    first, second, without = hub.read(root, subset)
    assert (first.id, second.id) == ("b", "a")
    assert isinstance(second, Utterance) and second.text == spoken[1].text
    assert Path(second.audio).read_bytes() == Path(spoken[1].audio).read_bytes()
    assert isinstance(without, Rejected)
    assert without.reason == "the row has no id in the column name"


def test_what_was_fetched_with_other_columns_is_not_taken_for_it(
    tmp_path: Path, corpus: Corpus
) -> None:
    root, subset = tmp_path / "root", f"{corpus({'words': ['a', 'b', 'c']})}:train"
    hub.download(root, subset)
    hub.download(root, subset, text="sentence")
    with pytest.raises(
        UserError, match=r"fetched with the columns audio=audio, text=sentence.*asked for as text:"
    ):
        hub.download(root, subset, text="words")


def test_columns_are_named_on_the_command_line(tmp_path: Path, corpus: Corpus) -> None:
    subset = f"{corpus(sentence='words', client_id='who')}:train"
    out = tmp_path / "out"
    command = ["prepare", "hub", "--root", str(tmp_path / "root"), "--subset", subset,
               "--out", str(out), "--until", "manifest"]  # fmt: skip
    named = ["--column", "text=words", "--column", "speaker=who"]
    for wrong, message in [
        (["--download"], "--column text=NAME"),
        (named, "--column says what a download takes: give --download too"),
        (["--download", "--column", "words"], r"expected --column WHAT=NAME.*mend 'words'"),
        (["--download", "--column", "txt=words"], r"each of audio, text, speaker, language, id"),
        (["--download", *named, "--column", "text=up"], "mend 'text=up'"),
    ]:
        shown = CliRunner().invoke(app, command + wrong)
        assert isinstance(shown.exception, UserError)
        assert re.search(message, str(shown.exception)), shown.exception
        assert not out.exists()
    shown = CliRunner().invoke(app, ["prepare", "table", *command[2:], "--download", *named])
    assert "--column is for hub alone, found it with table" in str(shown.exception)
    assert CliRunner().invoke(app, [*command, "--download", *named]).exit_code == 0
    assert [one.speaker for one in read_manifest(out / "manifest.jsonl")] == ["0", "1", "2"]


def test_what_broke_off_goes_on(tmp_path: Path, corpus: Corpus, monkeypatch) -> None:
    root, subset = tmp_path / "root", f"{corpus()}:train"
    guarded = hub._guarded

    def breaking(rows: datasets.IterableDataset) -> Iterator[Any]:
        for number, row in enumerate(rows):
            if number == 2:
                raise OSError("no more")
            yield row

    monkeypatch.setattr(hub, "_guarded", breaking)
    with pytest.raises(UserError, match=r"broke off \(no more\); what has arrived is kept in"):
        hub.download(root, subset)
    with pytest.raises(UserError, match="is not whole; fetch it"):
        read(root, subset)
    [part] = root.iterdir()
    transcripts = part / "transcripts.jsonl"
    first, second = transcripts.read_text().splitlines(keepends=True)
    transcripts.write_text(first + second[:20])  # as a kill in the middle of a line leaves it

    seen = []
    monkeypatch.setattr(hub, "_guarded", lambda rows: (seen.append(r) or r for r in guarded(rows)))
    hub.download(root, subset)
    assert len(seen) == 2  # the first row is not fetched again
    assert len(read(root, subset)) == 3
    assert (root / hub.safe_name(subset) / "transcripts.jsonl").read_text().startswith(first)


def test_a_stream_that_fails_in_the_library(tmp_path: Path, corpus: Corpus, monkeypatch) -> None:
    def failing(*_: object) -> Any:
        raise RuntimeError("the wire is cut")

    subset = f"{corpus()}:train"
    monkeypatch.setattr(datasets.IterableDataset, "__iter__", failing)
    with pytest.raises(UserError, match=r"broke off \(the wire is cut\)"):
        hub.download(tmp_path / "root", subset)


def test_other_columns_are_not_mixed_in(tmp_path: Path, corpus: Corpus, monkeypatch) -> None:
    subset = f"{corpus({'words': ['a', 'b', 'c']})}:train"
    monkeypatch.setattr(hub, "_save", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(UserError, match="full"):
        hub.download(tmp_path / "root", subset)
    with pytest.raises(UserError, match=r"was begun as .*sentence.* now .*words.* is asked for"):
        hub.download(tmp_path / "root", subset, text="words")


def test_rows_without_sound_or_text(tmp_path: Path, corpus: Corpus, spoken) -> None:
    here = {"bytes": None, "path": spoken[2].audio}  # a local corpus may name files
    sound = {"bytes": Path(spoken[0].audio).read_bytes(), "path": None}
    subset = f"{corpus({'audio': [sound, None, here], 'sentence': [None, 'B', 'C']})}:train"
    hub.download(tmp_path / "root", subset)
    empty, silent, whole = hub.read(tmp_path / "root", subset)
    assert isinstance(empty, Rejected) and "its text is empty" in empty.reason
    assert empty.audio.endswith(".flac")  # known by its first bytes
    assert isinstance(silent, Rejected) and silent.reason == "the row holds no sound"
    assert isinstance(whole, Utterance) and whole.seconds == spoken[2].seconds


def test_a_stranger_s_corpus_may_not_name_one_s_own_files(spoken: list[Utterance]) -> None:
    path = spoken[0].audio
    assert hub._content(path, is_local=True)
    assert hub._content("absent.flac", is_local=True) == b""
    for named in (path, f"file://{path}", f"local://{path}", "", "~/.ssh/id_rsa"):
        assert hub._content(named, is_local=False) == b""


@pytest.mark.parametrize("subset", ["", "name", "name:", ":train", "a:b:c:d", "name::train"])
def test_subsets_that_are_none(tmp_path: Path, subset: str) -> None:
    with pytest.raises(UserError, match="expected NAME:SPLIT or NAME:CONFIG:SPLIT"):
        hub.download(tmp_path, subset)
    with pytest.raises(UserError, match="expected NAME:SPLIT or NAME:CONFIG:SPLIT"):
        list(hub.read(tmp_path, subset))


def test_corpora_that_cannot_be_had(tmp_path: Path, corpus: Corpus) -> None:
    made = corpus()
    for subset, message in [
        (f"{made}:nope", "Bad split"),
        (f"{made}:xx:train", "'xx' not found"),
        ("no/where:train", r"configuration \(none\), split train"),
    ]:
        with pytest.raises(UserError, match=message):
            hub.download(tmp_path / "root", subset)
    with pytest.raises(UserError, match="is not there; fetch it"):
        read(tmp_path / "root", f"{made}:train")


def test_safe_names() -> None:
    names = {hub.safe_name(f"{name}:train") for name in ("a/b", "a-b", "a--b", "../a", "/a", "ä")}
    assert len(names) == 6
    assert all(name[0] not in ".-" and "/" not in name and ":" not in name for name in names)
    assert hub.safe_name("mozilla-foundation/common_voice_17_0:de:train").startswith(
        "mozilla-foundation--common_voice_17_0--de--train-"
    )


def test_as_a_command(tmp_path: Path, corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    made = corpus(sentence="words")
    arguments = [str(tmp_path / "root"), f"{made}:train", "--download", "--text", "words"]
    assert hub.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and json.loads(lines[0])["speaker"] == "0"
