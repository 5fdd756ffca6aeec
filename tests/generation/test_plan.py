"""Durations that fit and context that lands where it belongs, whatever the gaps."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from voiceflow.alignment.frames import FramedAlignment
from voiceflow.config import UserError
from voiceflow.generation.plan import (
    MIN_PHONE_FRAMES,
    Gap,
    Plan,
    Slot,
    cut_gap,
    fit_durations,
    known_slots,
    lay_out,
    widen,
    within,
)
from voiceflow.text.phones import SILENCE

phones_and_frames = st.lists(
    st.tuples(st.sampled_from([SILENCE, "AA_S", "T_E"]), st.floats(0, 40, width=32)),
    min_size=1,
    max_size=20,
)
durations_with_sound = st.lists(st.integers(0, 9), min_size=1, max_size=20).filter(any)


def edges_of(durations: Sequence[int]) -> list[int]:
    """0 and the frame after each phone."""
    return [sum(durations[:i]) for i in range(len(durations) + 1)]


@given(durations_with_sound, st.integers(-5, 200), st.integers(-5, 200))
def test_widening_takes_the_fewest_whole_phones(
    durations: list[int], first: int, last: int
) -> None:
    a, b = widen(durations, first, last)
    edges = edges_of(durations)
    assert {a, b} <= set(edges)
    first = min(max(first, 0), edges[-1] - 1)
    last = max(min(last, edges[-1]), first + 1)
    assert a <= first < last <= b
    assert not any(a < e <= first or last <= e < b for e in edges)
    assert widen(durations, a, b) == (a, b)


def test_widening_by_hand() -> None:
    assert widen([3, 0, 4, 5], 4, 6) == (3, 7)
    assert widen([3, 0, 4, 5], 3, 7) == (3, 7)
    assert widen([3, 0, 4, 5], 2, 8) == (0, 12)
    assert widen([3, 0, 4, 5], 50, 60) == (7, 12)


@given(durations_with_sound, st.data())
def test_a_cut_takes_the_phones_between_two_edges_and_nothing_else(
    durations: list[int], data: st.DataObject
) -> None:
    edges = edges_of(durations)
    pick = st.sampled_from(edges)
    first, last = sorted((data.draw(pick), data.draw(pick)))
    assume(first < last)
    slots = [Slot(f"P{i}", d) for i, d in enumerate(durations)]
    cut = cut_gap(slots, first, last, 7)
    assert [s.phone for s in cut] == [s.phone for s in slots]
    taken = [i for i, s in enumerate(cut) if s.gap == 7]
    assert taken == list(range(taken[0], taken[-1] + 1))
    assert sum(durations[i] for i in taken) == last - first
    assert durations[taken[0]] and durations[taken[-1]]
    assert all(s == Slot(s.phone, 0, 7) if i in taken else s == slots[i]
               for i, s in enumerate(cut))  # fmt: skip


def test_silences_of_no_frames_at_the_edges_of_a_cut_stay_context() -> None:
    slots = [Slot("A", 2), Slot(SILENCE, 0), Slot("B", 3), Slot(SILENCE, 0), Slot("C", 4)]
    assert [s.gap for s in cut_gap(slots, 2, 5, 0)] == [None, None, 0, None, None]
    assert [s.gap for s in cut_gap(slots, 2, 9, 0)] == [None, None, 0, 0, 0]
    again = cut_gap(cut_gap(slots, 5, 9, 1), 0, 2, 0)
    assert [s.gap for s in again] == [0, None, None, None, 1]


def test_known_slots_are_the_alignment() -> None:
    framed = FramedAlignment((SILENCE, "AA_S", SILENCE), (3, 4, 0), ())
    assert known_slots(framed) == [Slot(SILENCE, 3), Slot("AA_S", 4), Slot(SILENCE, 0)]


@given(phones_and_frames, st.integers(0, 400))
def test_fitted_durations_sum_and_share_what_is_above_the_minimum(
    wanted: list[tuple[str, float]], n_frames: int
) -> None:
    phones = [phone for phone, _ in wanted]
    spoken = sum(phone != SILENCE for phone in phones)
    assume(n_frames >= spoken)
    found = fit_durations(torch.tensor([d for _, d in wanted]), phones, n_frames)
    assert sum(found) == n_frames
    each = MIN_PHONE_FRAMES if n_frames >= MIN_PHONE_FRAMES * spoken else 1
    least = [0 if phone == SILENCE else each for phone in phones]
    assert all(d >= m for d, m in zip(found, least, strict=True))
    above = [
        max(d, 0 if p == SILENCE else MIN_PHONE_FRAMES) - m
        for (p, d), m in zip(wanted, least, strict=True)
    ]
    if sum(above) > 0:
        share = (n_frames - sum(least)) / sum(above)
        for frames, m, a in zip(found, least, above, strict=True):
            assert abs(frames - (m + share * a)) < 1 + 1e-6


def test_rounding_gives_the_spare_frames_to_the_largest_remainders() -> None:
    # Above the minimum of 2: 1, 2, 3 of 6, on 10 spare frames: 1.67, 3.33, 5.
    assert fit_durations(torch.tensor([3.0, 4.0, 5.0]), ["A", "B", "C"], 16) == [4, 5, 7]


def test_what_fits_already_stays() -> None:
    phones = [SILENCE, "A", "B", SILENCE, "C", SILENCE]
    whole = [3, 2, 9, 0, 4, 1]
    assert fit_durations(torch.tensor(whole), phones, sum(whole)) == whole
    assert fit_durations(torch.tensor(whole), phones, None) == whole


def test_phones_at_their_minimum_share_evenly() -> None:
    assert fit_durations(torch.zeros(4), ["A", "B", "C", "D"], 16) == [4, 4, 4, 4]
    assert fit_durations(torch.zeros(2), [SILENCE, SILENCE], 6) == [3, 3]


def test_in_a_hurry_a_phone_may_last_one_frame() -> None:
    phones = ["A", SILENCE, "B", "C"]
    assert fit_durations(torch.tensor([9.0, 5.0, 2.0, 2.0]), phones, 3) == [1, 0, 1, 1]
    assert fit_durations(torch.zeros(0), [], 0) == []


@pytest.mark.parametrize(("phones", "n_frames"), [(["A", SILENCE, "B"], 1), (["A"], 0), ([], 4)])
def test_phones_that_do_not_fit(phones: list[str], n_frames: int) -> None:
    with pytest.raises(UserError, match=f"{n_frames} frames cannot hold"):
        fit_durations(torch.full((len(phones),), 5.0), phones, n_frames)


def test_of_natural_length_each_phone_is_rounded_and_no_shorter_than_its_minimum() -> None:
    wanted = torch.tensor([4.4, 4.6, 0.3, -1.0, 0.3, 0.7, -3.0])
    phones = ["A", "B", "C", "D", SILENCE, SILENCE, SILENCE]
    assert fit_durations(wanted, phones, None) == [4, 5, 2, 2, 0, 1, 0]


class Predictor:
    """A duration network that gives every phone the same, and remembers what it was told."""

    def __init__(self, frames: float) -> None:
        self.frames = frames
        self.told: list[tuple[list[str], list[int], list[bool]]] = []

    def __call__(self, phones: Sequence[str], known: Tensor, mask: Tensor) -> Tensor:
        self.told.append((list(phones), known.tolist(), mask.tolist()))
        return torch.full((len(phones),), self.frames)


# 20 frames that hold their own number: SIL 2, A 5, B 3, C 4, D 6; B and D are gaps.
SLOTS = [Slot(SILENCE, 2), Slot("A", 5), Slot("B", 0, 0), Slot("C", 4), Slot("D", 0, 1)]
MEL = torch.arange(1.0, 21.0)[:, None].expand(20, 3)


@pytest.mark.parametrize(("b", "d"), [(3, 6), (None, 6), (3, None), (None, None), (9, 2), (2, 2)])
def test_context_stands_where_it_now_belongs(b: int | None, d: int | None) -> None:
    predict = Predictor(4.0)
    plan = lay_out(SLOTS, [Gap(7, 10, b), Gap(14, 20, d)], MEL, predict)
    b, d = b or 4, d or 4
    assert plan.phones == (SILENCE, "A", "B", "C", "D")
    assert plan.durations == (2, 5, b, 4, d)
    assert plan.gaps == ((7, 7 + b), (11 + b, 11 + b + d))
    wanted = [*range(1, 8), *[0] * b, *range(11, 15), *[0] * d]
    assert plan.context.tolist() == [[n] * 3 for n in wanted]
    assert plan.mask.tolist() == [n == 0 for n in wanted]
    unknown = [False, False, True, False, True]
    assert predict.told == [(list(plan.phones), [2, 5, 0, 4, 0], unknown)]


def test_what_lies_in_gaps_is_ignored() -> None:
    spoilt = MEL.clone()
    spoilt[7:10] = spoilt[14:20] = float("nan")
    gaps = [Gap(7, 10, 3), Gap(14, 20, None)]
    a, b = (lay_out(SLOTS, gaps, mel, Predictor(3.0)) for mel in (MEL, spoilt))
    assert torch.equal(a.context, b.context)
    assert a.durations == b.durations


def test_an_insertion_takes_no_frame_of_the_recording() -> None:
    slots = [Slot("A", 4), Slot("B", 0, 0), Slot(SILENCE, 0, 0), Slot("C", 6)]
    plan = lay_out(slots, [Gap(4, 4, None)], MEL[:10], Predictor(5.0))
    assert plan.durations == (4, 5, 5, 6)
    assert plan.gaps == ((4, 14),)
    assert torch.equal(plan.context[~plan.mask], MEL[:10])


def test_speech_from_nothing_is_one_gap() -> None:
    slots = [Slot(SILENCE, 0, 0), Slot("A", 0, 0), Slot(SILENCE, 0, 0)]
    plan = lay_out(slots, [Gap(0, 0, None)], torch.zeros(0, 3), Predictor(5.0))
    assert plan.durations == (5, 5, 5)
    assert plan.mask.all()
    assert plan.context.shape == (15, 3)
    assert not plan.context.any()


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[Slot], list[Gap]]:
    """Phones of which every second run is a gap, of fixed or natural length."""
    slots: list[Slot] = []
    gaps: list[Gap] = []
    position = 0
    for run in range(draw(st.integers(1, 6))):
        lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
        if run % 2:
            room = sum(lengths)
            fixed = draw(st.one_of(st.none(), st.integers(len(lengths), 30)))
            gaps.append(Gap(position, position + room, fixed))
            slots += [Slot("B", 0, len(gaps) - 1) for _ in lengths]
        else:
            slots += [Slot("A", d) for d in lengths]
        position += sum(lengths)
    return slots, gaps


@given(recordings(), st.floats(0, 12))
def test_any_gaps(recording: tuple[list[Slot], list[Gap]], frames: float) -> None:
    slots, gaps = recording
    known = sum(s.frames for s in slots)
    n = known + sum(g.last - g.first for g in gaps)
    mel = torch.arange(1.0, n + 1)[:, None]
    plan = lay_out(slots, gaps, mel, Predictor(frames))
    assert sum(plan.durations) == len(plan.context) == len(plan.mask)
    inside = torch.zeros(n, dtype=torch.bool)
    for gap, (a, b) in zip(gaps, plan.gaps, strict=True):
        inside[gap.first : gap.last] = True
        assert plan.mask[a:b].all()
        assert gap.n_frames in (None, b - a)
        if a:
            assert plan.context[a - 1] == mel[gap.first - 1]
        if b < len(plan.mask):
            assert plan.context[b] == mel[gap.last]
    assert int(plan.mask.sum()) == sum(b - a for a, b in plan.gaps)
    assert all(left[1] <= right[0] for left, right in pairwise(plan.gaps))
    assert torch.equal(plan.context[~plan.mask], mel[~inside])
    assert not plan.context[plan.mask].any()


@pytest.mark.parametrize(("durations", "mask"), [((3, 2), 6), ((3, 4), 6), ((3, 3), 5)])
def test_a_plan_that_does_not_add_up(durations: tuple[int, int], mask: int) -> None:
    with pytest.raises(ValueError, match=f"sum to {sum(durations)} frames, context has 6, mask"):
        Plan(("A", "B"), durations, torch.zeros(6, 2), torch.zeros(mask, dtype=torch.bool))


def test_the_whole_phones_of_a_stretch() -> None:
    """Half phones at its edges stay out; what has no frames stays where it stands."""
    slots = [Slot("SIL", 5), Slot("A", 4), Slot("SIL", 0), Slot("B", 6), Slot("C", 3)]
    assert within(slots, 0, 18) == (slots, 0, 18)
    assert within(slots, 3, 16) == (slots[1:4], 5, 15)
    assert within(slots, 6, 18) == (slots[2:], 9, 18)
    assert within(slots, 9, 15) == (slots[2:4], 9, 15)
    with pytest.raises(UserError, match="frames 10 to 14 of the prompt hold no whole phone"):
        within(slots, 10, 14)
    with pytest.raises(UserError, match="hold no whole phone"):
        within(slots, 0, 6)
