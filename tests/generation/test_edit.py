"""Where the gaps of an edit lie, and that everything else stays."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.generation.edits import HOP, LOG_MEL, check_kept, planned
from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, Phone, Word
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import UserError
from voiceflow.generation.edit import PAUSE_SECONDS, lay_out_edit
from voiceflow.generation.infill import LEAST_SCORE, Layout
from voiceflow.generation.plan import Gap, Slot
from voiceflow.text.lexicon import Lexicon
from voiceflow.text.phones import SILENCE, with_ghost_silences

SAID = {"RED": ("R", "EH", "D"), "OX": ("AA", "K", "S"), "A": ("AH",), "BE": ("B", "IY")}
LEXICON = Lexicon({word: [phones] for word, phones in SAID.items()})
# Frames (10 ms) of a phone, of the silence at either end and of a pause (between words: "|").
PHONE, EDGE, PAUSE = 8, 20, 15
RED, OX, A, BE = ("R_B", "EH_I", "D_E"), ("AA_B", "K_I", "S_E"), ("AH_S",), ("B_B", "IY_E")
SIL = (SILENCE,)


def aligned(
    said: str, edges: tuple[int, int] = (EDGE, EDGE), pause: int = PAUSE, score: float = -1.0
) -> Alignment:
    """`said`: words, and "|" where there is a pause."""
    clock = edges[0]
    made = [Word.silence(0.0, clock / 100)] if clock else []
    for token in said.split():
        begin = clock
        if token == "|":
            clock += pause
            made.append(Word.silence(begin / 100, clock / 100))
            continue
        phones = []
        for symbol in SAID[token]:
            phones.append(Phone(symbol, clock / 100, (clock + PHONE) / 100))
            clock += PHONE
        made.append(Word(token, begin / 100, clock / 100, tuple(phones)))
    made.append(Word.silence(clock / 100, (clock + edges[1]) / 100))
    return Alignment(tuple(made), made[-1].end, score)


def noise(alignment: Alignment) -> np.ndarray:
    n = round(alignment.seconds * SAMPLE_RATE)
    return (0.1 * np.random.default_rng(0).normal(size=n)).astype(np.float32)


def laid_out(
    alignment: Alignment | str,
    new: str,
    keep_length: bool = False,
    beside: int = 0,
    least_kept: int = 0,
) -> Layout:
    """The layout of an edit of noise."""
    alignment = aligned(alignment) if isinstance(alignment, str) else alignment
    return lay_out_edit(noise(alignment), alignment, new.split(), LEXICON, LOG_MEL, "it.wav",
                        keep_length, beside, least_kept)  # fmt: skip


def gap_phones(layout: Layout) -> list[list[str]]:
    """The phones of each gap."""
    return [
        [slot.phone for slot in layout.slots if slot.gap == number]
        for number in range(len(layout.gaps))
    ]


def between(first: int, last: int) -> tuple[int, int]:
    """The cut of frames first:last that reach no end."""
    return first * HOP - HOP // 2, last * HOP - HOP // 2


def test_replaced_words_give_way_whole_and_their_ghost_silences_with_them() -> None:
    layout = laid_out("RED OX RED", "RED BE A RED")
    assert layout.slots == [
        Slot(SILENCE, EDGE), *(Slot(p, PHONE) for p in RED),
        *(Slot(p, 0, 0) for p in (*SIL, *BE, *SIL, *A, *SIL)),
        *(Slot(p, PHONE) for p in RED), Slot(SILENCE, EDGE + 1),
    ]  # fmt: skip
    assert layout.gaps == [Gap(44, 68, None)]
    assert layout.cuts == [between(44, 68)]


def test_pauses_beside_replaced_words_stay() -> None:
    layout = laid_out("RED | OX | RED", "RED BE RED")
    assert gap_phones(layout) == [[*BE]]
    assert layout.gaps == [Gap(59, 83, None)]
    assert [s.frames for s in layout.slots if s.phone == SILENCE] == [EDGE, PAUSE, PAUSE, EDGE + 1]


# Frames: RED 20:44, OX 44:68 (RED | OX: pause 44:59), RED 68:92, silence to 113.
CASES = [
    # Replaced at the ends: the silences there stay.
    ("OX RED RED", "BE RED RED", [(*BE, *SIL)], [(20, 44)]),
    ("RED RED OX", "RED RED BE", [(*SIL, *BE)], [(68, 92)]),
    ("RED OX BE RED", "RED A RED", [(*SIL, *A, *SIL)], [(44, 84)]),
    # Inserted: the silence between, whatever its length; at the ends before or after the silence.
    ("RED RED", "RED OX RED", [(*SIL, *OX, *SIL)], [(44, 44)]),
    ("RED | RED", "RED OX RED", [(*SIL, *OX, *SIL)], [(44, 59)]),
    ("RED RED", "OX RED RED", [(*OX, *SIL)], [(20, 20)]),
    ("RED RED", "RED RED OX", [(*SIL, *OX)], [(68, 68)]),
    ("RED RED", "RED OX BE RED", [(*SIL, *OX, *SIL, *BE, *SIL)], [(44, 44)]),
    # Deleted: a pause keeps its side.
    ("RED OX RED", "RED RED", [("D_E", *SIL, "R_B")], [(36, 76)]),
    ("RED | OX RED", "RED RED", [("R_B",)], [(59, 91)]),
    ("RED OX | RED", "RED RED", [("D_E",)], [(36, 68)]),
    ("RED | OX | RED", "RED RED", [SIL], [(44, 98)]),
    ("OX RED", "RED", [("R_B",)], [(20, 52)]),
    ("OX | RED", "RED", [SIL], [(0, 59)]),
    ("RED OX", "RED", [("D_E",)], [(36, 68)]),
    ("RED | OX", "RED", [SIL], [(44, 104)]),
    # Several at once.
    (
        "RED OX RED BE RED",
        "A RED OX A BE RED OX",
        [(*A, *SIL), (*SIL, *A, *SIL), (*SIL, *OX)],
        [(20, 20), (68, 92), (132, 132)],
    ),
    ("OX RED BE RED A", "RED RED", [("R_B",), ("D_E", *SIL, "R_B"), ("D_E",)],
     [(20, 52), (60, 92), (100, 116)]),
    # Two that share a phone, or touch, are one.
    ("RED OX A OX RED", "RED A RED", [("D_E", *SIL, *A, *SIL, "R_B")], [(36, 108)]),
    ("RED OX A OX RED", "RED A BE RED", [("D_E", *SIL, *A, *SIL, *BE, *SIL)], [(36, 100)]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "phones", "frames"), CASES)
def test_gaps_by_hand(
    old: str, new: str, phones: list[tuple[str, ...]], frames: list[tuple[int, int]]
) -> None:
    layout = laid_out(old, new)
    assert gap_phones(layout) == [list(p) for p in phones]
    assert [(gap.first, gap.last) for gap in layout.gaps] == frames


def test_of_two_pauses_around_deleted_words_the_longer_is_generated() -> None:
    layout = laid_out(aligned("OX | RED", edges=(40, EDGE)), "RED")
    assert layout.gaps == [Gap(0, 40 + 24 + PAUSE, 40)]
    assert layout.cuts[0][0] == 0
    layout = laid_out(aligned("RED | OX", edges=(EDGE, 0)), "RED")
    assert layout.gaps == [Gap(44, 44 + PAUSE + 24 + 1, PAUSE)]
    assert layout.cuts[0][1] == round((44 + PAUSE + 24) / 100 * SAMPLE_RATE)
    assert planned(layout).durations[-1] == PAUSE


def test_a_silence_too_short_for_a_pause_does_not_part_words() -> None:
    shortest = round(PAUSE_SECONDS * 100)
    short, long = (aligned("RED | OX RED", pause=n) for n in (shortest - 1, shortest))
    assert gap_phones(laid_out(short, "RED RED")) == [["D_E", SILENCE, "R_B"]]
    assert gap_phones(laid_out(long, "RED RED")) == [["R_B"]]


def test_without_silence_at_an_end_it_is_the_gaps() -> None:
    alignment = aligned("RED RED", edges=(0, 0))
    assert gap_phones(laid_out(alignment, "OX RED RED")) == [[SILENCE, *OX, SILENCE]]
    assert gap_phones(laid_out(alignment, "OX RED")) == [[SILENCE, *OX, SILENCE]]
    assert laid_out(alignment, "OX RED").cuts == [(0, 24 * HOP - HOP // 2)]


def test_phones_beside_a_change_are_generated_where_that_is_asked_for() -> None:
    replaced = laid_out("RED OX BE", "RED A BE", beside=2)
    assert gap_phones(replaced) == [["EH_I", "D_E", SILENCE, *A, SILENCE, *BE]]
    assert replaced.gaps == [Gap(28, 84, None)]
    inserted = laid_out("RED BE", "RED A BE", beside=1)
    assert gap_phones(inserted) == [["D_E", SILENCE, *A, SILENCE, "B_B"]]
    deleted = laid_out("BE RED OX A BE", "BE RED A BE", beside=2)
    assert gap_phones(deleted) == [["EH_I", "D_E", SILENCE, *A]]
    paused = laid_out("RED | OX RED", "RED A RED", beside=1)
    assert gap_phones(paused) == [[*A, SILENCE, "R_B"]]


def test_phones_beside_two_changes_are_said_once() -> None:
    layout = laid_out("OX BE OX RED", "A BE A RED", beside=2)
    assert gap_phones(layout) == [[*A, SILENCE, *BE, SILENCE, *A, SILENCE, "R_B", "EH_I"]]
    layout = laid_out("OX RED OX RED", "A RED A RED", beside=2)
    assert gap_phones(layout)[0][:6] == [*A, SILENCE, *RED, SILENCE]


def test_little_between_two_changes_is_generated_where_that_is_asked_for() -> None:
    old, new = "RED OX BE OX RED", "RED A BE A RED"
    assert len(laid_out(old, new, least_kept=2).gaps) == 2
    layout = laid_out(old, new, least_kept=3)
    assert gap_phones(layout) == [[SILENCE, *A, SILENCE, *BE, SILENCE, *A, SILENCE]]
    assert layout.gaps == [Gap(44, 108, None)]


@pytest.mark.parametrize(
    ("old", "new", "phones", "frames"),
    [
        ("RED OX RED", "RED BE RED", (*SIL, *BE, *SIL), (44, 68)),
        ("RED OX RED", "RED RED", SIL, (44, 68)),
        ("RED | OX RED", "RED RED", SIL, (44, 83)),
        ("OX RED", "RED", SIL, (0, 44)),
        ("RED RED", "OX RED RED", (*SIL, *OX, *SIL), (0, 20)),
        ("RED RED", "RED RED OX", (*SIL, *OX, *SIL), (68, 89)),
        ("RED | RED", "RED OX RED", (*SIL, *OX, *SIL), (44, 59)),
    ],
)
def test_the_length_is_kept_where_that_is_asked_for(
    old: str, new: str, phones: tuple[str, ...], frames: tuple[int, int]
) -> None:
    layout = laid_out(old, new, keep_length=True)
    assert gap_phones(layout) == [list(phones)]
    assert layout.gaps == [Gap(*frames, frames[1] - frames[0])]
    plan = planned(layout)
    assert len(plan.context) == len(layout.mel)
    assert plan.gaps == (frames,)


SPECS = [
    LOG_MEL,
    LogMel(FeatureSpec(sample_rate=24000, window=1024, hop=256, n_mels=20, f_max=12000.0)),
]
WORDS = st.sampled_from(list(SAID))


@st.composite
def changed(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """What is said, with pauses, and a text that keeps about half of its words."""
    said: list[str] = []
    new: list[str] = []
    for word in draw(st.lists(WORDS, min_size=3, max_size=9)):
        said += [word, "|"] if draw(st.booleans()) else [word]
        how = draw(st.sampled_from(["keep", "keep", "insert", "replace", "delete"]))
        new += [draw(WORDS)] if how in ("insert", "replace") else []
        new += [word] if how in ("keep", "insert") else []
    return said, new


@settings(max_examples=150)
@given(
    changed(), st.booleans(), st.integers(0, 3), st.integers(0, 3), st.sampled_from(SPECS),
    st.tuples(st.sampled_from([0, 3, 30]), st.sampled_from([0, 3, 30])),
)  # fmt: skip
def test_any_edit(
    texts: tuple[list[str], list[str]],
    keep_length: bool,
    beside: int,
    least_kept: int,
    log_mel: LogMel,
    edges: tuple[int, int],
) -> None:
    spec, (said, new) = log_mel.spec, texts
    alignment = aligned(" ".join(said), edges)
    n = round(alignment.seconds * spec.sample_rate)
    wave = (0.1 * np.random.default_rng(0).normal(size=max(n, spec.n_fft))).astype(np.float32)
    try:
        layout = lay_out_edit(wave, alignment, new, LEXICON, log_mel, "it.wav", keep_length,
                              beside, least_kept)  # fmt: skip
    except UserError as error:
        assert "nothing to change" not in str(error) or [w for w in said if w != "|"] == new
        return
    assert [s.phone for s in layout.slots] == with_ghost_silences(SAID[w] for w in new)
    numbers = [slot.gap for slot in layout.slots if slot.gap is not None]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(len(layout.gaps)))
    n_frames = spec.n_frames(len(wave))
    assert len(layout.mel) == n_frames
    assert sum(s.frames for s in layout.slots) + sum(
        gap.last - gap.first for gap in layout.gaps
    ) == n_frames
    framed = to_frames(alignment, n_frames, spec.hop_seconds)
    borders = set(np.cumsum([0, *framed.durations]).tolist())
    assert all({gap.first, gap.last} <= borders for gap in layout.gaps)
    assert all(left.last <= right.first for left, right in pairwise(layout.gaps))
    assert [s for cut in layout.cuts for s in cut] == sorted(s for c in layout.cuts for s in c)
    assert all(0 <= start <= end <= len(wave) for start, end in layout.cuts)
    check_kept(layout, framed.phones, framed.durations)
    plan = planned(layout)
    kept = torch.ones(n_frames, dtype=torch.bool)
    for gap in layout.gaps:
        kept[gap.first : gap.last] = False
    assert torch.equal(plan.context[~plan.mask], layout.mel[kept])
    assert all(last > first for first, last in plan.gaps)
    if keep_length:
        assert len(plan.context) == n_frames


@pytest.mark.parametrize(
    ("old", "new", "asked", "why"),
    [
        ("RED OX", "RED OX", {}, "nothing to change.* 'RED OX'"),
        ("RED OX", "BE A", {}, "none of what is said would stay.* use speak with the recording"),
        ("A OX A", "A A", {}, "none of what is said would stay"),
        ("OX A OX", "RED A RED", {"least_kept": 2}, "none of what is said would stay"),
        ("RED OX", "RED UGH", {}, "no pronunciation for 'UGH'"),
        ("RED OX", "RED A OX", {"keep_length": True}, "0.00 s of sound at 0.44 s cannot hold the"),
        ("RED A OX", "RED OX RED OX OX", {"keep_length": True}, "cannot hold the .* phones"),
    ],
)
def test_edits_that_cannot_be(old: str, new: str, asked: dict[str, int], why: str) -> None:
    with pytest.raises(UserError, match=why):
        laid_out(old, new, **asked)  # type: ignore[arg-type]


def test_words_that_are_not_what_is_said() -> None:
    laid_out(aligned("RED OX", score=LEAST_SCORE), "RED")
    with pytest.raises(UserError, match=r"it\.wav: the transcript does not seem"):
        laid_out(aligned("RED OX", score=LEAST_SCORE - 0.01), "RED")
