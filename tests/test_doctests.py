"""The examples in the docstrings of `Voice`: run on real speech, by the bundled voice."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import voiceflow.voice
from voiceflow.voice import Voice

RECORDINGS = {
    "mice.flac": "672/122797/672-122797-0058.flac",
    "tree.flac": "672/122797/672-122797-0054.flac",
    "cap.flac": "7021/85628/7021-85628-0016.flac",
}
TASKS = ("infill", "edit", "continue_", "speak", "denoise", "style_transfer", "sample",
         "log_likelihood", "planned")  # fmt: skip
FOUND = {
    test.name.rpartition(".")[2]: test
    for test in doctest.DocTestFinder().find(Voice, module=voiceflow.voice)
    if test.examples
}


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice.load("mini")


def test_every_task_has_an_example() -> None:
    assert set(FOUND) == set(TASKS)


@pytest.mark.filterwarnings("ignore::voiceflow.config.UserNote")
@pytest.mark.parametrize("task", TASKS)
def test_example(
    task: str, voice: Voice, speech_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, file in RECORDINGS.items():
        (tmp_path / name).symlink_to(speech_dir / "LibriSpeech" / "test-clean" / file)
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    test = FOUND[task]
    test.globs = {"voice": voice}
    failed = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        test, out=told.append, clear_globs=False
    )
    assert failed.attempted == len(test.examples)
    assert not failed.failed, "".join(told)
