"""Which of several samples is taken."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError, Word
from voiceflow.generation import ranking
from voiceflow.generation.ranking import Rank, rank

ID = "1089-134686-0032"
SENTENCE = "HE IS CALLED AS YOU KNOW THE APOSTLE OF THE INDIES"


class Planned:
    """An aligner and a recogniser that are told what comes out, by a wave's first sample."""

    name = "planned"

    def __init__(self, scores: list[float | None], heard: list[str]) -> None:
        self.scores, self.heard = scores, heard

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        score = self.scores[int(wave[0])]
        if score is None:
            raise AlignmentError("planned")
        return Alignment((Word.silence(0.0, 1.0),), 1.0, score)

    def recognise(self, wave: np.ndarray) -> str:
        return self.heard[int(wave[0])]


@pytest.mark.parametrize(
    ("scores", "heard", "best", "errors"),
    [
        # Word errors first, the score where they are equal, the first where both are.
        ([-1.0, -3.0], ["a c", "a b"], 1, [1, 0]),
        ([-3.0, -1.0], ["a b", "a b"], 1, [0, 0]),
        ([-1.0, -1.0], ["a b", "a b"], 0, [0, 0]),
        ([None, -3.0], ["a b", "a b"], 1, [0, 0]),
        ([None, -3.0], ["a b", "a b b"], 0, [0, 1]),
        ([None, None, None], ["", "x y z", "b"], 2, [2, 3, 1]),
    ],
)
def test_order(
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float | None],
    heard: list[str],
    best: int,
    errors: list[int],
) -> None:
    planned = Planned(scores, heard)
    monkeypatch.setattr(ranking, "WordRecogniser", lambda: planned)
    waves = [np.full(SAMPLE_RATE, i, np.float32) for i in range(len(scores))]
    chosen, ranks = rank(waves, ["A", "B"], planned)
    assert chosen == best
    assert ranks == [Rank(e, s) for e, s in zip(errors, scores, strict=True)]


def test_speech_is_told_from_half_of_it(speech_dir: Path) -> None:
    path = speech_dir / f"LibriSpeech/test-clean/1089/134686/{ID}.flac"
    if not path.is_file():
        pytest.skip(f"no real speech: {path} is absent")
    wave, _ = soundfile.read(path, dtype="float32")
    waves = [wave[: len(wave) // 2], wave, np.zeros(100, np.float32)]
    chosen, ranks = rank(waves, SENTENCE.split(), PocketsphinxAligner())
    assert chosen == 1
    assert ranks[1].word_errors < ranks[0].word_errors
    assert ranks[1].score is not None
    assert ranks[1].score > -1.5
    assert ranks[2] == Rank(11, None)
