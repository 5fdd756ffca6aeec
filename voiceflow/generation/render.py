"""From the log-mel of a plan to sound: a stretch of it, or its gaps put into the recording."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from voiceflow.audio.features import FeatureSpec
from voiceflow.audio.io import Recording, resample
from voiceflow.generation.infill import Layout
from voiceflow.generation.level import context_length, matched
from voiceflow.generation.plan import Plan
from voiceflow.generation.splice import Fill, cut, splice
from voiceflow.vocoders.choice import Vocodes

# Frames on either side of a stretch that the vocoder hears with it.
CONTEXT_FRAMES = 60


def stretch(
    vocoder: Vocodes, features: FeatureSpec, mel: Tensor, first: int = 0, last: int | None = None
) -> np.ndarray:
    """Waveform (n,) float32 of frames first:last of mel (T, M), un-normalised.

    Sample 0 is the border before frame `first`; the frames around are heard with it. At either end
    of mel half a hop is missing: a spectrogram begins and ends in the middle of a frame.
    """
    last = len(mel) if last is None else last
    start = max(first - CONTEXT_FRAMES, 0)
    wave = vocoder(mel[start : last + CONTEXT_FRAMES]).numpy()
    begin = max((first - start) * features.hop - features.hop // 2, 0)
    return wave[begin : begin + (last - first) * features.hop]


def put_in(
    vocoder: Vocodes,
    features: FeatureSpec,
    recording: Recording,
    layout: Layout,
    plan: Plan,
    mel: Tensor,
) -> Recording:
    """The recording with a plan's gaps put in, matched to what is around them.

    layout: the recording as it was found; mel: (T, M) un-normalised, of the plan.
    """
    hop, rate = features.hop, recording.sample_rate
    scale, n = rate / features.sample_rate, len(recording.samples)
    margin = context_length(rate)
    fills: list[Fill] = []
    shift = 0  # frames by which earlier gaps moved what follows
    for gap, (first, last), (start, end) in zip(layout.gaps, plan.gaps, layout.cuts, strict=True):
        after = shift + (last - first) - (gap.last - gap.first)
        begin = max(first - CONTEXT_FRAMES, 0)
        wave = vocoder(mel[begin : last + CONTEXT_FRAMES]).numpy()
        wave = resample(wave, features.sample_rate, rate)
        new_start = round((start + (shift - begin) * hop) * scale)
        new_end = round((end + (after - begin) * hop) * scale)
        piece = cut(wave, new_start, new_end, rate, margin)
        fills.append(Fill(min(round(start * scale), n), min(round(end * scale), n), piece, margin))
        shift = after
    return splice(recording, matched(recording, fills, top_hz=features.f_max))
