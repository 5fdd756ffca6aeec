"""Prompts: what is known of a voice before anything is said in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from voiceflow.config import UserError
from voiceflow.generation.pace import new_phones
from voiceflow.generation.plan import Plan, Slot, within
from voiceflow.text.phones import SILENCE

EDGE_SILENCE_SECONDS = 0.1
LEAST_PROMPT_SECONDS = 0.2  # of speech

Known = tuple[list[Slot], Tensor]
"""Phones that are known, with their un-normalised log-mel (T, M)."""


def cut_prompt(
    slots: Sequence[Slot],
    mel: Tensor,
    hop_seconds: float,
    frames: tuple[int, int] | None,
    name: str,
) -> Known:
    """The part of a prompt that is heard: the whole phones in `frames`, or all, its edges trimmed.

    slots, mel: the phones of all of it, with their un-normalised log-mel (T, M); frames: the first
    and the first after it. Silence at the edges becomes 0.1 s at most. Raises UserError for less
    than 0.2 s of speech.
    """
    if frames is not None:
        slots, first, last = within(slots, *frames)
        mel = mel[first:last]
    speech = sum(s.frames for s in slots if s.phone != SILENCE) * hop_seconds
    if speech < LEAST_PROMPT_SECONDS:
        raise UserError(
            f"{name} holds {speech:.2f} s of speech, too little to tell a voice: at least "
            f"{LEAST_PROMPT_SECONDS:g} s are needed, 3 s are better"
        )
    most = round(EDGE_SILENCE_SECONDS / hop_seconds)
    before, after = (
        max(slot.frames - most, 0) if slot.phone == SILENCE else 0 for slot in (slots[0], slots[-1])
    )
    kept = list(slots)
    kept[0] = replace(kept[0], frames=kept[0].frames - before)
    kept[-1] = replace(kept[-1], frames=kept[-1].frames - after)
    return kept, mel[before : len(mel) - after]


def as_prompt(plan: Plan, mel: Tensor) -> Known:
    """What was made by a plan's last gap, as the known beginning of what comes next.

    mel: (T, M) un-normalised, of all of the plan.
    """
    first, last = plan.gaps[-1]
    return [Slot(phone, frames) for phone, frames in new_phones(plan)], mel[first:last]
