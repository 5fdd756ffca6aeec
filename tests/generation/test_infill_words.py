"""Which words lie in a gap: divisions of a transcript, chosen by an aligner, or refused."""

import numpy as np
import pytest

from tests.generation.layouts import EvenAligner, Scores, laid_out
from voiceflow.alignment.types import SAMPLE_RATE, AlignmentError
from voiceflow.config import UserError
from voiceflow.generation.infill import LEAST_SCORE, check_score
from voiceflow.generation.plan import Gap
from voiceflow.generation.spans import Span
from voiceflow.text.phones import SILENCE


def of_table(scores: Scores) -> EvenAligner:
    """An aligner that scores (words, seconds) by a table; what it lacks cannot be aligned."""

    def score(words: str, wave: np.ndarray) -> float | None:
        part = (words, len(wave) / SAMPLE_RATE)
        if part not in scores:
            raise AlignmentError(f"no way to hear {words}")
        return scores[part]

    return EvenAligner(score=score)


# A span from 0.4 to 0.6 s leaves parts of 0.4 and 1.4 s; OX may be the second word or the fourth.
SECOND = (("RED", 0.4), ("RED OX RED", 1.4))
FOURTH = (("RED OX RED", 0.4), ("RED", 1.4))


@pytest.mark.parametrize(
    ("scores", "words_before"),
    [
        ((-1.0, -1.0, -2.0, -2.0), 1),
        ((-2.0, -2.0, -1.0, -1.0), 3),
        # Seconds weigh: -2.1 against -2.6, where the plain means are -3.5 and -2.
        ((-6.0, -1.0, -1.0, -3.0), 1),
        ((None, -2.0, None, -1.0), 3),
    ],
)
def test_of_repeated_words_the_best_division_is_taken(
    scores: tuple[float | None, ...], words_before: int
) -> None:
    aligner = of_table(dict(zip((*SECOND, *FOURTH), scores, strict=True)))
    layout = laid_out("RED OX RED OX RED", Span(0.4, 0.6, "OX"), aligner=aligner)
    spoken = [slot.gap for slot in layout.slots if slot.phone != SILENCE]
    before = 3 * words_before
    assert spoken == [None] * before + [0] * 3 + [None] * (12 - before)


@pytest.mark.parametrize(("possible", "words_before"), [(SECOND, 1), (FOURTH, 3)])
def test_a_division_that_cannot_be_aligned_is_passed_over(
    possible: tuple[tuple[str, float], ...], words_before: int
) -> None:
    aligner = of_table(dict.fromkeys(possible, -1.0))
    layout = laid_out("RED OX RED OX RED", Span(0.4, 0.6, "OX"), aligner=aligner)
    assert [slot.gap for slot in layout.slots if slot.phone == "K_I"].index(0) == words_before // 2


@pytest.mark.parametrize(
    ("words", "spans", "why"),
    [
        ("RED OX", [Span(0.8, 1.2, "A")], r"words of the span \(A\) do not stand in .*'RED OX'"),
        ("RED OX", [Span(0.8, 1.2, "OX RED")], "do not stand in the transcript"),
        ("OX RED", [Span(0.4, 0.6, "RED"), Span(1.2, 1.5, "OX")], r"\(RED; OX\) do not stand"),
        ("OX RED", [Span(0.4, 0.6, "OX"), Span(1.2, 1.5, "OX")], r"\(OX; OX\) do not stand"),
        ("RED OX", [Span(0.02, 1.2, "OX")], "fit together .*0.020 s of sound cannot hold 'RED'"),
        ("RED OX", [Span(0.8, 1.2, "OX")], "fit together .*no way to hear RED"),
        ("RED OX", [Span(0.8, 1.2)], "fit together .*no way to hear RED OX"),
        ("RED UGH", [Span(0.8, 1.2, "UGH")], "no pronunciation for 'UGH'"),
        ("RED", [Span(0.8, 1.2, "...")], "no word in the text '...'"),
    ],
)
def test_words_that_do_not_fit(words: str, spans: list[Span], why: str) -> None:
    aligner = EvenAligner() if "UGH" in words else of_table({})
    with pytest.raises(UserError, match=why) as raised:
        laid_out(words, *spans, aligner=aligner)
    assert "fit together" not in why or str(raised.value).startswith("it.wav: ")


@pytest.mark.parametrize("spans", [[Span(0.0, 1.0, "OX")], [Span(0.2, 0.4)]])
def test_a_transcript_that_is_not_what_is_said(spans: list[Span]) -> None:
    def scored(score: float) -> EvenAligner:
        return EvenAligner(score=lambda words, wave: score)

    laid_out("OX RED", *spans, aligner=scored(LEAST_SCORE + 0.01))
    with pytest.raises(UserError, match=r"it\.wav: the transcript does not seem .* score -3\.71"):
        laid_out("OX RED", *spans, aligner=scored(LEAST_SCORE - 0.01))


def test_an_aligner_without_scores_is_believed() -> None:
    check_score(None, "it.wav")
    check_score(LEAST_SCORE, "it.wav")
    layout = laid_out("OX RED", Span(0.0, 1.0, "OX"),
                      aligner=EvenAligner(score=lambda words, wave: None))  # fmt: skip
    assert layout.gaps == [Gap(0, 100, 100)]
