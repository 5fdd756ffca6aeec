"""A phone set of one's own, with nothing that can align it: even, ctc trained on that, aligned."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from voiceflow.cli.app import app
from voiceflow.data.shards import open_prepared
from voiceflow.data.validate import validate
from voiceflow.model_folder import ModelFolder


@pytest.fixture()
def corpus(speech_dir: Path, tmp_path: Path) -> list[str]:
    """The words of `voiceflow prepare`: 24 utterances, said in letters."""
    texts = sorted((speech_dir / "LibriSpeech" / "train-clean-5").rglob("*.trans.txt"))
    lines = [line.split()[1:] for text in texts for line in text.read_text().splitlines()]
    words = sorted({word for line in lines[:200] for word in line})
    letters = [f"{word} {' '.join(word.replace(chr(39), ''))}\n" for word in words]
    (tmp_path / "letters.dict").write_text("".join(letters))
    return [
        "prepare", "librispeech", "--root", str(speech_dir / "LibriSpeech"),
        "--subset", "train-clean-5", "--limit", "24", "--shard-utterances", "8",
        "--phone-set", "lexicon", "--lexicon", str(tmp_path / "letters.dict"),
    ]  # fmt: skip


def said(words: list[str], exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == exit_code, done.output
    return done.output


def test_from_no_alignment_to_aligned(corpus: list[str], tmp_path: Path) -> None:
    even, aligned, run = (str(tmp_path / name) for name in ("even", "aligned", "run"))
    assert "24 of 24 utterances prepared" in said([*corpus, "--aligner", "even", "--out", even])
    tiny = ["aligner=tiny", "train=tiny", "train.updates=4", "train.batch_frames=2000"]
    said(["train", "task=aligner", "task.ctc_weight=1", f"data={even}", f"out={run}", *tiny])
    assert ModelFolder.open(f"{run}/model").phones == open_prepared(even).phones
    said([*corpus, "--aligner", "ctc", "--voice", f"{run}/model", "--out", aligned])
    assert list(validate(Path(aligned))) == []
    assert len(open_prepared(aligned).index.names) == 3


@pytest.mark.parametrize("task", ["velocity", "duration", "aligner"])
def test_data_without_borders_teach_none(
    corpus: list[str], tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said([*corpus, "--limit", "4", "--aligner", "even", "--out", str(tmp_path / "even")])
    words = ["train", f"task={task}", f"data={tmp_path}/even", f"out={tmp_path}/run", "train=tiny"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    told = f"{done.output} {done.exception}"
    assert "has no borders (--aligner even): train task=aligner task.ctc_weight=1" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--aligner", "pocketsphinx"], "pocketsphinx knows English alone"),
        (["--aligner", "even", "--stress"], "--stress is for English"),
    ],
)
def test_what_does_not_go_together(
    corpus: list[str], tmp_path: Path, more: list[str], message: str
) -> None:
    done = CliRunner().invoke(app, [*corpus, *more, "--out", str(tmp_path / "out")])
    assert done.exit_code != 0
    assert message in f"{done.output} {done.exception}"
    assert not (tmp_path / "out").exists()
