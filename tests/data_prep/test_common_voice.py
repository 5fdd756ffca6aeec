from pathlib import Path

import pytest

from data_prep import common_voice
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

HEADER = "client_id\tpath\tsentence\tup_votes\tlocale\n"


@pytest.fixture
def root(tmp_path: Path, put) -> Path:
    for number in (1, 2, 3):
        put(tmp_path / "de" / "clips" / f"common_voice_de_{number}.mp3")
    return tmp_path / "de"


def write(root: Path, *rows: str, header: str = HEADER) -> None:
    text = header + "".join(row + "\n" for row in rows)
    (root / "train.tsv").write_bytes(text.encode("utf-8", "surrogateescape"))


def test_read(root: Path) -> None:
    write(
        root,
        'anna\tcommon_voice_de_2.mp3\t"Was?", fragte er.\t2\tde',
        "bert\tcommon_voice_de_1.mp3\tGrüße\t2\tde-AT",
        "cora\tcommon_voice_de_3.mp3\tJa\t2\t",
    )
    found = [one for one in common_voice.read(root, "train") if isinstance(one, Utterance)]
    assert [(one.id, one.text, one.speaker, one.language) for one in found] == [
        ("common_voice_de_1", "Grüße", "bert", "de-AT"),
        ("common_voice_de_2", '"Was?", fragte er.', "anna", "de"),
        ("common_voice_de_3", "Ja", "cora", "de"),
    ]
    assert all(one.seconds and one.seconds > 1 for one in found)


def test_the_language_is_the_folder_s_where_no_column_tells(root: Path) -> None:
    write(root, "a\tcommon_voice_de_1.mp3\tJa", header="client_id\tpath\tsentence\n")
    [one] = common_voice.read(root, "train")
    assert isinstance(one, Utterance) and one.language == "de"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a\tcommon_voice_de_1.mp3\t \t2\tde", "train.tsv, line 2: the sentence is empty"),
        ("a\tcommon_voice_de_9.mp3\tJa\t2\tde", "there is no clips/common_voice_de_9.mp3"),
        ("a\t../../secret.mp3\tJa\t2\tde", "expected a clip's file name, found '../../secret.mp3'"),
        ("a\tcommon_voice_de_1.mp3", "expected 5 columns, found 2"),
        ("a\tcommon_voice_de_1.mp3\tGr\udcfc\t2\tde", "line 2: it is not UTF-8"),
        ("a\tcommon_voice_de_2.mp3\tNein\t2\tde", "the clip comes a second time (first: train"),
    ],
)
def test_faulty_rows(root: Path, row: str, reason: str) -> None:
    write(root, row, "b\tcommon_voice_de_2.mp3\tNein\t2\tde")
    found = list(common_voice.read(root, "train"))
    [rejected] = [one for one in found if isinstance(one, Rejected)]
    assert reason in rejected.reason
    assert len(found) == 2


def test_another_layout_or_table(root: Path) -> None:
    with pytest.raises(UserError, match=r"holds no clips/.*; name one language's: de"):
        list(common_voice.read(root.parent, "train"))
    with pytest.raises(UserError, match=r"has no table train\.tsv; it holds no table at all"):
        list(common_voice.read(root, "train"))
    write(root, header="client_id\tsentence\n")
    with pytest.raises(UserError, match="has no column 'path'; it has client_id, sentence"):
        list(common_voice.read(root, "train"))
    with pytest.raises(UserError, match=r"no table \.\./de/train\.tsv; it holds train"):
        list(common_voice.read(root, "../de/train"))


def test_download_says_how(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"https://commonvoice\.mozilla\.org/datasets"):
        common_voice.download(tmp_path / "absent", "train")
    write(root)
    common_voice.download(root, "train")
