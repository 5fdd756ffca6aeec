"""Where the gaps of an infill lie, and that nothing of an unheard span is listened to."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.generation.layouts import HOP, LOG_MEL, SAID, EvenAligner, laid_out, listening, noise
from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import UserError
from voiceflow.generation.infill import Layout
from voiceflow.generation.plan import Gap, Slot, lay_out
from voiceflow.generation.spans import Span
from voiceflow.text.phones import SILENCE, with_ghost_silences

FLOOR = float(np.log(LOG_MEL.spec.floor))
RED, OX = ("R_B", "EH_I", "D_E"), ("AA_B", "K_I", "S_E")


def known(phones: Sequence[str], *frames: int) -> list[Slot]:
    return [Slot(p, n) for p, n in zip(phones, frames, strict=True)]


def missing(phones: Sequence[str], gap: int) -> list[Slot]:
    return [Slot(p, 0, gap) for p in phones]


def no_edge(wave: np.ndarray) -> float:
    return 0.0


def test_an_unheard_span_lies_between_two_parts_that_are_aligned_apart() -> None:
    aligner = EvenAligner()
    layout = laid_out("RED OX RED", Span(0.8, 1.2, "OX"), aligner=aligner)
    assert aligner.heard == [("RED", 12800), ("RED", 12800)]
    assert layout.slots == [
        *known((SILENCE, *RED, SILENCE), 10, 20, 20, 20, 10),
        *missing(OX, 0),
        *known((SILENCE, *RED, SILENCE), 10, 20, 20, 20, 11),
    ]
    assert layout.gaps == [Gap(80, 120, 40)]
    assert layout.cuts == [(12800, 19200)]
    assert layout.mel.shape == (201, LOG_MEL.spec.n_mels)


def test_a_pause_that_nobody_heard_is_the_gaps() -> None:
    aligner = EvenAligner(edge=no_edge)
    layout = laid_out("RED OX RED", Span(0.8, 1.2, "OX"), aligner=aligner)
    assert layout.slots == [
        *known((SILENCE, *RED), 0, 27, 26, 27),
        *missing((SILENCE, *OX, SILENCE), 0),
        *known((*RED, SILENCE), 27, 26, 27, 1),
    ]


def test_between_hops_the_gap_takes_the_frames_and_the_cut_the_samples() -> None:
    layout = laid_out("RED OX RED", Span(0.8053, 1.2017, "OX"))
    assert layout.gaps == [Gap(81, 121, 40)]
    assert layout.cuts == [(12885, 19227)]
    # The second part's mel begins at sample 19360, 8.3 ms after the part: its borders lie at
    # 0.0917, 0.2911, 0.4905 and 0.6900 s of it.
    assert layout.slots == [
        *known((SILENCE, *RED, SILENCE), 10, 20, 20, 21, 10),
        *missing(OX, 0),
        *known((SILENCE, *RED, SILENCE), 9, 20, 20, 20, 11),
    ]


def test_a_gap_of_natural_length_has_no_number_of_frames() -> None:
    spans = (Span(0.4, 0.6), Span(0.8, 1.2, "OX"))
    layout = laid_out("RED OX RED", *spans, keep_length=False)
    assert [gap.n_frames for gap in layout.gaps] == [None, None]


def test_context_has_the_recordings_own_mel_and_the_gap_none() -> None:
    wave = noise()
    whole = LOG_MEL(torch.from_numpy(wave))
    mel = laid_out("RED OX RED", Span(0.803, 1.207, "OX"), wave=wave).mel
    reach = 512 // HOP + 1
    torch.testing.assert_close(mel[: 81 - reach], whole[: 81 - reach], rtol=0, atol=1e-5)
    torch.testing.assert_close(mel[121 + reach :], whole[121 + reach :], rtol=0, atol=1e-5)
    assert bool((mel[81:121] == FLOOR).all())
    assert not bool((mel[:81] == FLOOR).any())
    assert not bool((mel[121:] == FLOOR).any())


@settings(max_examples=15)
@given(st.floats(0.3, 0.9), st.floats(0.05, 0.7))
def test_nothing_in_an_unheard_span_is_heard(start: float, seconds: float) -> None:
    wave, span = noise(), Span(start, start + seconds, "OX")
    hole = slice(round(span.start * SAMPLE_RATE), round(span.end * SAMPLE_RATE))
    changed = wave.copy()
    changed[hole] = np.nan

    def laid(wave: np.ndarray) -> Layout:
        return laid_out("RED OX RED", span, wave=wave, aligner=EvenAligner(edge=listening))

    a, b = laid(wave), laid(changed)
    assert (a.slots, a.gaps, a.cuts) == (b.slots, b.gaps, b.cuts)
    assert torch.equal(a.mel, b.mel)
    for beside in (hole.start - HOP, hole.stop + HOP):
        changed = wave.copy()
        changed[beside] = 1.0
        assert not torch.equal(laid(changed).mel, a.mel)


def test_a_heard_span_is_widened_to_whole_phones() -> None:
    # Borders of the phones: 0.1, 0.3, ..., 1.9 s.
    wave = noise()
    for span in (Span(0.95, 1.0), Span(0.9, 1.1), Span(0.904, 1.104)):
        aligner = EvenAligner()
        layout = laid_out("RED OX RED", span, wave=wave, aligner=aligner)
        assert aligner.heard == [("RED OX RED", 32000)]
        assert [s.gap for s in layout.slots] == [None] * 6 + [0] + [None] * 6
        assert layout.slots[6] == Slot("K_I", 0, 0)
        assert layout.gaps == [Gap(90, 110, 20)]
        assert layout.cuts == [(90 * HOP - HOP // 2, 110 * HOP - HOP // 2)]
        torch.testing.assert_close(layout.mel, LOG_MEL(torch.from_numpy(wave)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("spans", "gaps", "taken"),
    [
        ([Span(0.85, 1.15)], [Gap(70, 130, 60)], {5: 0, 6: 0, 7: 0}),
        ([Span(0.55, 0.75)], [Gap(50, 90, 40)], {3: 0, 4: 0, 5: 0}),
        ([Span(0.55, 0.7)], [Gap(50, 70, 20)], {3: 0}),
        ([Span(0.92, 0.95), Span(1.0, 1.05)], [Gap(90, 110, 20)], {6: 0}),
        ([Span(0.92, 1.0), Span(1.05, 1.2)], [Gap(90, 130, 40)], {6: 0, 7: 0}),
        ([Span(0.92, 1.05), Span(1.15, 1.2)], [Gap(90, 110, 20), Gap(110, 130, 20)], {6: 0, 7: 1}),
        ([Span(0.15, 0.2), Span(1.0, 1.05)], [Gap(10, 30, 20), Gap(90, 110, 20)], {1: 0, 6: 1}),
    ],
)
def test_heard_spans_share_a_gap_where_they_share_a_phone(
    spans: list[Span], gaps: list[Gap], taken: dict[int, int]
) -> None:
    # SIL R EH D SIL AA K S SIL R EH D SIL; the silences between the words last no frame.
    layout = laid_out("RED OX RED", *spans)
    assert layout.gaps == gaps
    assert {i: s.gap for i, s in enumerate(layout.slots) if s.gap is not None} == taken
    assert layout.cuts == [(g.first * HOP - HOP // 2, g.last * HOP - HOP // 2) for g in gaps]


def test_at_the_ends_of_the_recording_a_heard_cut_takes_every_sample() -> None:
    first, last = Span(0.0, 0.05), Span(1.95, 2.0)
    layout = laid_out("RED", first, last)
    assert layout.gaps == [Gap(0, 10, 10), Gap(190, 201, 11)]
    assert layout.cuts == [(0, 10 * HOP - HOP // 2), (190 * HOP - HOP // 2, 32000)]
    assert [s.gap for s in layout.slots] == [0, None, None, None, 1]


def test_heard_and_unheard_spans_are_numbered_in_order_of_time() -> None:
    spans = (Span(0.35, 0.4), Span(0.8, 1.2, "OX"), Span(1.75, 1.8))
    layout = laid_out("RED OX RED", *spans)
    assert layout.gaps == [Gap(30, 50, 20), Gap(80, 120, 40), Gap(170, 190, 20)]
    assert layout.slots == [
        *known((SILENCE, "R_B"), 10, 20), Slot("EH_I", 0, 0), *known(("D_E", SILENCE), 20, 10),
        *missing(OX, 1),
        *known((SILENCE, "R_B", "EH_I"), 10, 20, 20), Slot("D_E", 0, 2), Slot(SILENCE, 11),
    ]  # fmt: skip


def test_two_unheard_spans_with_a_breath_too_short_to_hear_between_them() -> None:
    aligner = EvenAligner()
    spans = (Span(0.8, 1.0, "OX"), Span(1.02, 1.2, "A"))
    layout = laid_out("RED OX A RED", *spans, aligner=aligner)
    assert [words for words, _ in aligner.heard] == ["RED", "RED"]
    assert layout.gaps == [Gap(80, 100, 20), Gap(100, 120, 20)]
    assert layout.cuts == [(12800, 16000), (16320, 19200)]
    assert layout.slots[5:10] == [*missing((*OX, SILENCE), 0), Slot("AH_S", 0, 1)]
    assert bool((layout.mel[80:120] == FLOOR).all())


@pytest.mark.parametrize(
    ("words", "span", "gap"),
    [
        ("OX RED", Span(0.02, 0.6, "OX"), Gap(0, 60, 60)),
        ("OX RED", Span(0.0, 0.6, "OX"), Gap(0, 60, 60)),
        ("RED OX", Span(1.4, 1.98, "OX"), Gap(140, 201, 61)),
        ("RED OX", Span(1.4, 2.0, "OX"), Gap(140, 201, 61)),
    ],
)
def test_a_gap_takes_the_frames_up_to_an_end_that_is_near(
    words: str, span: Span, gap: Gap
) -> None:
    layout = laid_out(words, span)
    assert layout.gaps == [gap]
    assert layout.cuts == [(round(span.start * SAMPLE_RATE), round(span.end * SAMPLE_RATE))]
    assert sum(s.frames for s in layout.slots) == 201 - (gap.last - gap.first)


def test_a_span_over_everything_needs_no_aligner() -> None:
    aligner = EvenAligner()
    layout = laid_out("RED OX", Span(0.0, 2.0, "RED OX"), aligner=aligner)
    assert aligner.heard == []
    assert layout.slots == missing((SILENCE, *RED, SILENCE, *OX, SILENCE), 0)
    assert layout.gaps == [Gap(0, 201, 201)]


SPECS = [
    LOG_MEL,
    LogMel(FeatureSpec(sample_rate=24000, window=1024, hop=256, n_mels=20, f_max=12000.0)),
    LogMel(FeatureSpec(sample_rate=8000, window=512, hop=100, n_mels=20, f_max=4000.0)),
]


@st.composite
def apart(draw: st.DrawFn) -> tuple[str, list[Span]]:
    """A transcript and up to three spans of either kind, 0.15 s or more apart."""
    words: list[str] = []
    spans: list[Span] = []
    clock = 0.0
    for _ in range(draw(st.integers(1, 3))):
        start = clock + draw(st.floats(0.15, 0.3))
        clock = start + draw(st.floats(0.05, 0.3))
        said = draw(st.sampled_from(["OX", "A", "OX A", None]))
        words += ["RED", *(said.split() if said else [])]
        spans.append(Span(start, clock, said))
    return " ".join([*words, "RED"]), spans


@settings(max_examples=60)
@given(apart(), st.sampled_from(SPECS))
def test_any_spans(asked: tuple[str, list[Span]], log_mel: LogMel) -> None:
    words, spans = asked
    spec = log_mel.spec
    wave = noise(rate=spec.sample_rate)
    layout = laid_out(words, *spans, wave=wave, log_mel=log_mel,
                      aligner=EvenAligner(edge=lambda wave: 0.02))  # fmt: skip
    n_frames = spec.n_frames(len(wave))
    assert len(layout.mel) == n_frames
    said = with_ghost_silences(SAID[word] for word in words.split())
    assert [slot.phone for slot in layout.slots] == said
    numbers = [slot.gap for slot in layout.slots if slot.gap is not None]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(len(layout.gaps)))
    assert sum(s.frames for s in layout.slots) + sum(
        gap.last - gap.first for gap in layout.gaps
    ) == n_frames
    flat = [frame for gap in layout.gaps for frame in (gap.first, gap.last)]
    assert flat == sorted(flat)
    assert len(layout.cuts) == len(layout.gaps)
    samples = [sample for cut in layout.cuts for sample in cut]
    assert samples == sorted(samples)
    for span in spans:
        start, end = span.start * spec.sample_rate, span.end * spec.sample_rate
        slack = 0.51 if span.words is not None else spec.hop + 1
        assert any(a <= start + slack and end - slack <= b for a, b in layout.cuts)
    plan = lay_out(layout.slots, layout.gaps, layout.mel, five_each)
    assert plan.gaps == tuple((gap.first, gap.last) for gap in layout.gaps)
    assert torch.equal(plan.context[~plan.mask], layout.mel[~plan.mask])


def five_each(phones: Sequence[str], frames: Tensor, mask: Tensor) -> Tensor:
    return torch.full((len(phones),), 5.0)


def test_an_aligner_listens_at_its_own_rate() -> None:
    aligner = EvenAligner()
    laid_out("RED OX RED", Span(0.8, 1.2, "OX"), aligner=aligner, log_mel=SPECS[1])
    assert aligner.heard == [("RED", 12800), ("RED", 12800)]


def test_a_heard_span_right_after_an_unheard_one_begins_where_that_ends() -> None:
    spans = (Span(0.8, 1.2, "OX"), Span(1.2, 1.4))
    layout = laid_out("RED OX RED", *spans, aligner=EvenAligner(edge=no_edge))
    (_, hole_end), (start, end) = layout.cuts
    assert hole_end == 19200 <= start < end


@pytest.mark.parametrize("border", [1.023, 1.2501])
def test_a_heard_span_that_touches_an_unheard_one_is_not_lost(border: float) -> None:
    before = laid_out("RED OX RED", Span(0.8, border, "OX"), Span(border, 1.5))
    after = laid_out("RED OX RED", Span(0.5, border), Span(border, 1.5, "OX"))
    assert len(before.gaps) == len(after.gaps) == 2


def test_a_heard_span_in_too_little_sound_is_refused() -> None:
    spans = (Span(0.8, 1.0, "OX"), Span(1.0, 1.01), Span(1.01, 1.2, "OX"))
    with pytest.raises(UserError, match=r"it\.wav: the span 1:1.01 stands in 160 samples"):
        laid_out("RED OX OX RED", *spans)
