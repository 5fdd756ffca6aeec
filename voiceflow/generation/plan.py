"""Plans: what every task comes down to before anything is sampled.

A task lays phones in a row as slots. A slot's frames are known (context) or it belongs to a gap,
which is to be generated. `lay_out` asks the duration network for the gaps' durations, fits them
where the length is given, and puts the known frames where they now stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from voiceflow.alignment.frames import FramedAlignment
from voiceflow.config import UserError
from voiceflow.text.phones import SILENCE

MIN_PHONE_FRAMES = 2
# Of one gap: about 300 words, two minutes. Attention grows with the square of it.
MOST_NEW_PHONES = 1500

PredictDurations = Callable[[Sequence[str], Tensor, Tensor], Tensor]
"""(phones (N), durations (N,) in frames, mask (N,)) -> durations (N,) in frames, as real numbers.

What is said of durations where the mask is True is not read: those are predicted."""


@dataclass(frozen=True)
class Slot:
    """One phone: `frames` of known sound, or a place in gap number `gap` (its frames unknown)."""

    phone: str
    frames: int
    gap: int | None = None


@dataclass(frozen=True)
class Gap:
    """Frames first:last of the recording that are to be generated.

    n_frames: how long the new sound shall be; None lets the duration network say.
    """

    first: int
    last: int
    n_frames: int | None


@dataclass(frozen=True)
class Plan:
    """Phones with durations, the context's frames, and which are to be generated.

    phones, durations: (N), durations sum to T; context: (T, M) normalised log-mel, zero where
    mask (T,) is True; gaps: (first frame, first frame after it) of each gap in the new time;
    wanted: frames that the duration network would have given each; new: numbers of the phones that
    are in gaps.
    """

    phones: tuple[str, ...]
    durations: tuple[int, ...]
    context: Tensor
    mask: Tensor
    gaps: tuple[tuple[int, int], ...] = field(default=())
    wanted: tuple[float, ...] = field(default=())
    new: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        if sum(self.durations) != len(self.context) or len(self.context) != len(self.mask):
            raise ValueError(
                f"durations sum to {sum(self.durations)} frames, context has {len(self.context)}, "
                f"mask {len(self.mask)}"
            )

    def __repr__(self) -> str:
        counts = {"frame": len(self.mask), "phone": len(self.phones), "gap": len(self.gaps)}
        shown = (f"{n} {one}{'s' * (n != 1)}" for one, n in counts.items())
        return f"Plan({', '.join(shown)})"


def known_slots(framed: FramedAlignment) -> list[Slot]:
    """An alignment's phones, all of them context."""
    return [Slot(p, d) for p, d in zip(framed.phones, framed.durations, strict=True)]


def widen(durations: Sequence[int], first: int, last: int) -> tuple[int, int]:
    """Frames first:last widened to whole phones of the given durations."""
    edges = [0]
    for frames in durations:
        edges.append(edges[-1] + frames)
    first, last = max(first, 0), min(last, edges[-1])
    first = min(first, edges[-1] - 1)
    return max(e for e in edges if e <= first), min(e for e in edges if e >= max(last, first + 1))


def within(slots: Sequence[Slot], first: int, last: int) -> tuple[list[Slot], int, int]:
    """The slots that lie whole in frames first:last, and the frames that they take.

    Raises UserError where there is none that sounds.
    """
    found: list[Slot] = []
    begin = end = start = 0
    for slot in slots:
        stop = start + slot.frames
        if first <= start and stop <= last:
            begin = begin if found else start
            found.append(slot)
            end = stop
        start = stop
    if all(slot.phone == SILENCE for slot in found):
        raise UserError(
            f"frames {first} to {last} of the prompt hold no whole phone: take more of it"
        )
    return found, begin, end


def cut_gap(slots: Sequence[Slot], first: int, last: int, gap: int) -> list[Slot]:
    """Give the phones between the phone edges `first` and `last` (frames) to a gap.

    Phones of no frames strictly inside belong to it; those at its edges do not.
    """
    out: list[Slot] = []
    start = 0
    for slot in slots:
        end = start + slot.frames
        inside = first <= start and end <= last and (slot.frames > 0 or first < start < last)
        out.append(Slot(slot.phone, 0, gap) if inside else slot)
        start = end
    return out


def fit_durations(wanted: Tensor, phones: Sequence[str], n_frames: int | None) -> list[int]:
    """Real-valued frames to whole ones: each phone at least MIN_PHONE_FRAMES, silences any.

    wanted: (N,). With n_frames, the durations are scaled to sum to it, with the least possible
    rounding. Raises UserError when the phones do not fit.
    """
    least = torch.tensor([0.0 if p == SILENCE else float(MIN_PHONE_FRAMES) for p in phones])
    wanted = torch.maximum(wanted.double().clamp(min=0.0), least.double())
    if n_frames is None:
        return [int(d) for d in wanted.round()]
    spoken = sum(1 for p in phones if p != SILENCE)
    if n_frames < spoken or (n_frames > 0 and not len(phones)):
        raise UserError(
            f"a span of {n_frames} frames cannot hold {spoken} phones: give it more time or "
            "fewer words"
        )
    floor = least.double() if n_frames >= float(least.sum()) else least.double().clamp(max=1.0)
    spare = n_frames - float(floor.sum())
    above = wanted - floor
    if float(above.sum()) <= 0:
        above = torch.ones_like(above)
    real = floor + above * (spare / (float(above.sum()) or 1.0))
    whole = real.floor()
    missing = n_frames - int(whole.sum())
    for i in (real - whole).argsort(descending=True, stable=True)[:missing].tolist():
        whole[i] += 1
    return [int(d) for d in whole]


def lay_out(
    slots: Sequence[Slot], gaps: Sequence[Gap], mel: Tensor, predict: PredictDurations
) -> Plan:
    """Durations for every gap, and the context in its new place.

    mel: (T, M) normalised log-mel of the recording; what lies in gaps is ignored. Raises UserError
    where a gap has more phones than can be made at once.
    """
    phones = [slot.phone for slot in slots]
    known = torch.tensor([slot.frames for slot in slots])
    mask = torch.tensor([slot.gap is not None for slot in slots])
    for number in range(len(gaps)):
        if (many := sum(slot.gap == number for slot in slots)) > MOST_NEW_PHONES:
            raise UserError(
                f"{many} phones are to be made at once, expected at most {MOST_NEW_PHONES}, about "
                "300 words: do it in parts"
            )
    durations = known.tolist()
    predicted = predict(phones, known, mask)
    where: list[tuple[int, int]] = []
    wanted: list[float] = []
    shift = 0  # frames by which earlier gaps moved what follows
    for number, gap in enumerate(gaps):
        members = [i for i, slot in enumerate(slots) if slot.gap == number]
        fitted = fit_durations(predicted[members], [phones[i] for i in members], gap.n_frames)
        wanted.append(float(predicted[members].sum()))
        for i, frames in zip(members, fitted, strict=True):
            durations[i] = frames
        where.append((gap.first + shift, gap.first + shift + sum(fitted)))
        shift += sum(fitted) - (gap.last - gap.first)
    frame_mask = mask.repeat_interleave(torch.tensor(durations))
    kept = torch.ones(len(mel), dtype=torch.bool)
    for gap in gaps:
        kept[gap.first : gap.last] = False
    context = torch.zeros(len(frame_mask), mel.shape[1])
    context[~frame_mask] = mel[kept]
    new = tuple(i for i, slot in enumerate(slots) if slot.gap is not None)
    return Plan(
        tuple(phones), tuple(durations), context, frame_mask, tuple(where), tuple(wanted), new
    )
