"""Durations that a person reads, changes and gives back; and a word where they make no sense."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voiceflow.config import UserError, UserNote
from voiceflow.files import write_json
from voiceflow.generation.plan import MIN_PHONE_FRAMES, Plan, PredictDurations
from voiceflow.text.phones import SILENCE

# Beside what the voice would take: outside, what is said sounds hurried or dragged.
HURRIED, DRAGGED = 0.6, 1.8
SPEEDS = (0.25, 4.0)
LONGEST_SECONDS = 60.0  # of one phone, from a file of durations
_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def save_durations(path: Path, plan: Plan, hop_seconds: float) -> None:
    """Write the new phones of a plan and their seconds as JSON."""
    write_json(path, {"phones": [
        {"phone": phone, "seconds": round(frames * hop_seconds, 6)}
        for phone, frames in new_phones(plan)
    ]})  # fmt: skip


def new_phones(plan: Plan) -> list[tuple[str, int]]:
    """Phones that a plan generates, with their frames."""
    return [(plan.phones[i], plan.durations[i]) for i in plan.new]


def read_durations(path: Path, phones: Sequence[str], hop_seconds: float) -> list[int]:
    """Frames of each phone from what `save_durations` wrote; times are rounded at their borders.

    Raises UserError where the file cannot be read, its phones are not the text's (the first that
    differs is named), or a time is no number of seconds.
    """
    try:
        items: Any = json.loads(path.read_text("utf-8"))["phones"]
        read = [(str(item["phone"]), float(item["seconds"])) for item in items]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f'{path}: no durations, expected {{"phones": [{{"phone": ..., "seconds": ...}}, ...]}} '
            f"as --save-durations writes them ({error})"
        ) from error
    for number, phone in enumerate(phones):
        found = read[number][0] if number < len(read) else "nothing"
        if found != phone:
            raise UserError(
                f"{path}: phone {number + 1} is {found}, the text has {phone} there "
                f"({len(read)} phones, the text has {len(phones)}): save the durations of this "
                "very text, and change the seconds alone"
            )
    if len(read) > len(phones):
        raise UserError(f"{path} has {len(read)} phones, the text has {len(phones)}")
    frames, time, border = [], 0.0, 0
    for number, (phone, seconds) in enumerate(read):
        least = 0.0 if phone == SILENCE else MIN_PHONE_FRAMES * hop_seconds
        if not (math.isfinite(seconds) and least - 1e-6 <= seconds <= LONGEST_SECONDS):
            raise UserError(f"{path}: phone {number + 1} ({phone}) has {seconds} seconds, "
                            f"expected {least:.3g} to {LONGEST_SECONDS:g}")  # fmt: skip
        time += seconds
        end = round(time / hop_seconds)
        frames.append(end - border)
        border = end
    return frames


def check_speed(speed: float) -> None:
    """UserError for a speed that is none."""
    low, high = SPEEDS
    if not low <= speed <= high:
        raise UserError(f"a speed of {speed:g}, expected {low:g} (slow) to {high:g} (fast)")


def given(frames: Sequence[int]) -> PredictDurations:
    """What a plan asks for durations: these, for its masked phones in their order."""

    def predict(phones: Sequence[str], known: Tensor, mask: Tensor) -> Tensor:
        found = known.float().clone()
        found[mask] = torch.tensor(frames, dtype=torch.float32)
        return found

    return predict


def note_pace(
    phones: Sequence[str], wanted: float, given: int, hop_seconds: float, name: str, advice: str
) -> None:
    """Warn where a span is much shorter or longer than its phones would be.

    wanted: frames that the voice would take; given: frames that there are; advice: what to do.
    """
    spoken = sum(phone != SILENCE for phone in phones)
    if spoken == 0 or given <= 0 or wanted <= 0:
        return
    share = given / wanted
    if HURRIED <= share <= DRAGGED:
        return
    seconds = given * hop_seconds
    warnings.warn(
        f"{name}: {spoken} phones in {seconds:.2f} s are {spoken / seconds:.0f} a second; this "
        f"voice would take {wanted * hop_seconds:.2f} s ({1 / share:.2g} times that): it will "
        f"sound {'hurried' if share < 1 else 'dragged'}. {advice}",
        UserNote,
        stacklevel=level_outside(),
    )


def level_outside() -> int:
    """Of who warns: the `stacklevel` of the nearest line that is not of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level
