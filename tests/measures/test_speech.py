"""Spoken transcripts: what they are matched against, and what two listeners make of them."""

import json
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.measures.speech import (
    HEADER,
    N_OTHERS,
    ORIGINAL,
    RESYNTHESIS,
    SPOKEN,
    Heard,
    Listener,
    measure_speech,
    others,
    speech_row,
)
from voiceflow.measures.words import word_errors
from voiceflow.text.normalise import words_of
from voiceflow.voice import Voice


def utterance(number: int, text: str) -> Utterance:
    return Utterance(f"u{number:02d}", "none.wav", text, f"s{number % 7}")


@given(st.lists(st.integers(1, 60), min_size=20, max_size=40), st.integers(0, 19))
def test_others_are_the_nearest_in_length_with_ties_by_id(lengths: list[int], index: int) -> None:
    """Each text is one word of its own: its number in letters, and the rest filled up."""
    texts = [chr(65 + i // 26) + chr(65 + i % 26) + "X" * n for i, n in enumerate(lengths)]
    every = [utterance(i, text) for i, text in enumerate(texts)]
    found = others(every[index], every)
    assert len(found) == N_OTHERS == 19
    left = [u for u in every if u is not every[index]]
    left.sort(key=lambda u: (abs(len(u.text) - len(texts[index])), u.id))
    assert found == [[u.text] for u in left[:19]]
    assert others(every[index], every[::-1]) == found


def test_length_is_that_of_the_words_as_they_are_said() -> None:
    ours = utterance(99, "AB, CD")
    near = [utterance(i, f"{chr(64 + i)}X, YZ") for i in range(1, 20)]
    long_when_read = utterance(0, "77777")
    assert others(ours, [ours, long_when_read, *near]) == [words_of(u.text) for u in near]


def test_the_same_words_are_no_rival() -> None:
    ours = utterance(0, "It's her.")
    rivals = [utterance(i, f"W{chr(64 + i)} HIM") for i in range(1, 20)]
    same = [utterance(90, "IT'S HER"), utterance(91, "it\N{RIGHT SINGLE QUOTATION MARK}s -- her!")]
    assert sorted(others(ours, [*same, ours, *rivals])) == [words_of(u.text) for u in rivals]
    with pytest.raises(UserError, match="needs 19 other transcripts, found 18: name a larger"):
        others(ours, [*same, ours, *rivals[1:]])


def heard(matched: bool, errors: int, words: int) -> Heard:
    return Heard(matched, 1.0, errors, words, "")


def test_a_row_counts_over_all_words() -> None:
    counted = [heard(True, 1, 10), heard(False, 4, 20)]
    row = speech_row("a", counted, ["x", "x"])
    assert (row.way, row.matched) == ("a", 0.5)
    assert (row.wer, row.low, row.high) == pytest.approx((5 / 30,) * 3)
    row = speech_row("a", counted, ["x", "y"])
    assert (row.wer, row.low, row.high) == pytest.approx((5 / 30, 0.1, 0.2))
    assert str(row).split() == "a 50.0 % 16.7 % (10.0 to 20.0 %)".split()


class Scores:
    """An aligner whose score of a transcript stands in a table."""

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores

    def score(self, wave: np.ndarray, words: list[str]) -> float:
        return self.scores[" ".join(words)]


class Says:
    """A recogniser that always hears the same."""

    def recognise(self, wave: np.ndarray) -> str:
        return "the cat sat"


def hear(right: float, *rivals: float) -> Heard:
    """What a listener makes of a sound whose transcripts have these scores."""
    wrong = {f"A {chr(65 + i)}": score for i, score in enumerate(rivals)}
    listener: Any = object.__new__(Listener)
    listener.aligner = Scores({"THE CAT SAT DOWN": right, **wrong})
    listener.recogniser = Says()
    return listener.hear(np.zeros(9), "The cat sat down.", [words.split() for words in wrong])


NEVER = -float("inf")  # of a transcript that cannot be aligned


@pytest.mark.parametrize(
    ("right", "rivals", "matched", "margin"),
    [
        (-1.0, (-2.0, -1.5), True, 0.5),
        (-1.0, (-2.0, -0.5), False, -0.5),
        (-1.0, (-1.0, -2.0), False, 0.0),
        (-1.0, (NEVER, -2.0), True, 1.0),
    ],
)
def test_the_right_transcript_must_lead_all_others(
    right: float, rivals: tuple[float, ...], matched: bool, margin: float
) -> None:
    assert hear(right, *rivals) == Heard(matched, margin, 1, 4, "the cat sat")


def test_what_cannot_be_aligned_never_matches() -> None:
    assert hear(-9.0, NEVER, NEVER).matched
    assert not hear(NEVER, NEVER, -9.0).matched
    assert not hear(NEVER, NEVER, NEVER).matched


def test_an_untrained_voice_is_not_understood_where_the_original_is(
    tiny_voice: Path, test_clean: list[Utterance], short_ones: list[Utterance], tmp_path: Path
) -> None:
    """A whole run over one transcript; of its rivals nothing but the text is needed."""
    voice = Voice.load(tiny_voice)
    first = replace(short_ones[0], speaker="0")
    utterances = [replace(u, audio="none.flac") for u in test_clean[::9] if u.id != first.id]
    out = tmp_path / "speech.json"
    with redirect_stdout(StringIO()) as printed:
        rows = measure_speech(voice, [*utterances, first], count=1, seed=5, steps=1, out=out)
    assert [row.way for row in rows] == [ORIGINAL, RESYNTHESIS, SPOKEN]
    original, resynthesis, spoken = rows
    assert original.matched == resynthesis.matched == 1.0
    assert spoken.matched == 0.0
    assert original.wer < 0.2 < 0.8 < spoken.wer
    assert all(row.low == row.wer == row.high for row in rows)
    for line in ("1 transcripts, each against 19 others", HEADER, *map(str, rows)):
        assert line in printed.getvalue()

    record = json.loads(out.read_text())
    assert record["seed"] == 5
    assert record["settings"] == asdict(voice.settings(steps=1))
    assert record["features_fingerprint"] == voice.features.fingerprint()
    assert record["rows"] == [asdict(row) for row in rows]
    (transcript,) = record["transcripts"]
    assert transcript["id"] == first.id
    assert list(transcript["heard"]) == [ORIGINAL, RESYNTHESIS, SPOKEN]
    for row, sound in zip(rows, transcript["heard"].values(), strict=True):
        assert set(sound) == {"matched", "margin", "errors", "words", "hypothesis"}
        assert word_errors(first.text, sound["hypothesis"]) == (sound["errors"], sound["words"])
        assert row.wer == sound["errors"] / sound["words"]
    assert transcript["heard"][ORIGINAL]["margin"] > 0.1


def test_nothing_to_speak(tiny_voice: Path) -> None:
    with pytest.raises(UserError, match="no utterances to speak"):
        measure_speech(Voice.load(tiny_voice), [])
    with pytest.raises(UserError, match="19 other transcripts, found 2"):
        measure_speech(Voice.load(tiny_voice), [utterance(i, "A" * (i + 1)) for i in range(3)])
