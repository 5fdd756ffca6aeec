"""What tests of edits share: plans of five frames a phone, and what must be kept."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.generation.infill import Layout
from voiceflow.generation.plan import Plan, lay_out

LOG_MEL = LogMel(FeatureSpec())
HOP = LOG_MEL.spec.hop


def five_each(phones: Sequence[str], frames: Tensor, mask: Tensor) -> Tensor:
    return torch.full((len(phones),), 5.0)


def planned(layout: Layout) -> Plan:
    return lay_out(layout.slots, layout.gaps, layout.mel, five_each)


def check_kept(layout: Layout, phones: Sequence[str], durations: Sequence[int]) -> None:
    """Every phone outside the gaps is the recording's at that very frame, with its duration."""
    starts = np.cumsum([0, *durations]).tolist()
    recorded = set(zip(phones, starts, durations, strict=False))
    position, entered = 0, -1
    for slot in layout.slots:
        if slot.gap is not None and slot.gap > entered:
            entered = slot.gap
            assert position == layout.gaps[entered].first
            position = layout.gaps[entered].last
        elif slot.gap is None:
            assert (slot.phone, position, slot.frames) in recorded
            position += slot.frames
    assert position == starts[-1]
