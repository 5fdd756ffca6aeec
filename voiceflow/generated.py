"""What a task gave: the sound, and all that is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voiceflow import __version__
from voiceflow.audio.features import FeatureSpec
from voiceflow.audio.io import Recording, write
from voiceflow.config import SampleConfig
from voiceflow.generation.infill import Layout
from voiceflow.generation.pace import new_phones, save_durations
from voiceflow.generation.plan import Plan
from voiceflow.generation.ranking import Rank
from voiceflow.text.phones import SILENCE

PICTURE_SECONDS = 60.0
PICTURE_CONTEXT_SECONDS = 4.0


@dataclass(frozen=True)
class Generated:
    """What a task gave.

    recording: the sound; plan: phones, durations and gaps behind it; mel: (T, M) un-normalised
    log-mel of the whole; layout: the recording as it was found (None where there was none);
    settings and seed: what it was made with; nfe, network_passes, seconds: what it cost; ranks: of
    the candidates, where there were several, `chosen` the number of the one taken.
    """

    recording: Recording
    plan: Plan
    mel: Tensor
    features: FeatureSpec
    settings: SampleConfig
    seed: int
    nfe: int
    network_passes: int
    layout: Layout | None = None
    seconds: float = 0.0
    ranks: tuple[Rank, ...] = field(default=())
    chosen: int = 0

    def __repr__(self) -> str:
        sound, gaps = self.recording, len(self.plan.gaps)
        return (
            f"Generated({sound.seconds:.2f} s at {sound.sample_rate} Hz, "
            f"{gaps} gap{'s' * (gaps != 1)}, seed {self.seed})"
        )

    def save(self, path: Path | str) -> None:
        """Write the sound as .wav or .flac, tagged; UserError when it cannot be written."""
        write(Path(path), self.recording, self.tag)

    @property
    def tag(self) -> str:
        """Says in the file's comment that speech in it is generated, and where."""
        spans = ", ".join(f"{first}-{last}" for first, last in self.spans())
        return f"Generated speech, voiceflow {__version__}: samples {spans}"

    def save_durations(self, path: Path | str) -> None:
        """Write the new phones and their seconds as JSON, for `durations` of `Voice.speak`."""
        save_durations(Path(path), self.plan, self.features.hop_seconds)

    def spans(self) -> list[tuple[int, int]]:
        """First sample that is new and the first after it, of each gap, at the recording's rate.

        All of the sound where no recording was found (no layout).
        """
        n, hop = len(self.recording.samples), self.features.hop
        if self.layout is None:
            return [(0, n)]
        scale = self.recording.sample_rate / self.features.sample_rate
        # A frame's border lies half a hop before its centre.
        edges = [[max(frame * hop - hop // 2, 0) for frame in gap] for gap in self.plan.gaps]
        return [(round(a * scale), min(round(b * scale), n)) for a, b in edges]

    def report(self) -> dict[str, Any]:
        """What was done, as plain values: what `--json` prints.

        spans: see `spans`; replaced: the same of what they stand for.
        """
        hop, rate = self.features.hop_seconds, self.recording.sample_rate
        scale = rate / self.features.sample_rate
        new = sum(b - a for a, b in self.plan.gaps) * hop
        found: dict[str, Any] = {
            "seconds": self.recording.seconds, "sample_rate": rate,
            "spans": [list(span) for span in self.spans()],
            "phones": [
                {"phone": phone, "seconds": round(frames * hop, 4)}
                for phone, frames in new_phones(self.plan)
            ],
            "settings": asdict(self.settings), "seed": self.seed,
            "nfe": self.nfe, "network_passes": self.network_passes,
            "compute_seconds": self.seconds,
            "real_time_factor": self.seconds / new if new else None,
        }  # fmt: skip
        if self.layout is not None:
            cuts = self.layout.cuts
            found["replaced"] = [[round(a * scale), round(b * scale)] for a, b in cuts]
        if self.ranks:
            found["candidates"] = [asdict(rank) for rank in self.ranks]
            found["chosen"] = self.chosen
        return found

    def draw(self, path: Path | str, title: str = "") -> None:
        """Write a PNG of the spectrogram with phones and spans, under that of the recording.

        Of a long sound only the minute that begins shortly before the first span.
        """
        from voiceflow.pictures.spectrogram import Panel, infill_picture

        hop = self.features.hop_seconds
        start = 0
        if len(self.mel) * hop > PICTURE_SECONDS:
            begin = self.plan.gaps[0][0] * hop if self.plan.gaps else 0.0
            start = max(int(begin - PICTURE_CONTEXT_SECONDS), 0)
        stretch = slice(round(start / hop), round((start + PICTURE_SECONDS) / hop))
        spoken = _timed(self.plan.phones, self.plan.durations, hop)
        gaps = [(a * hop, b * hop) for a, b in self.plan.gaps]
        panels = [Panel("made", self.mel[stretch].numpy(), spoken, gaps)]
        if self.layout is not None:
            before = Panel(
                "before", self.layout.mel[stretch].numpy(), _timed_before(self.layout, hop),
                [(g.first * hop, g.last * hop) for g in self.layout.gaps],
            )  # fmt: skip
            panels = [before, replace(panels[0], name="after")]
        infill_picture(Path(path), panels, self.features, title, start)


def _timed(
    phones: Sequence[str], durations: Sequence[int], hop: float, start: int = 0
) -> list[tuple[str, float, float]]:
    edges = np.concatenate([[0], np.cumsum(durations)]) + start
    return [(p, a * hop, b * hop) for p, a, b in zip(phones, edges, edges[1:], strict=False)]


def _timed_before(layout: Layout, hop: float) -> list[tuple[str, float, float]]:
    """The recording's own phones; what lies in gaps is left out."""
    timed: list[tuple[str, float, float]] = []
    position, entered = 0, -1
    for slot in layout.slots:
        if slot.gap is not None and slot.gap > entered:
            entered = slot.gap
            position = layout.gaps[entered].last
        elif slot.gap is None:
            timed += _timed([slot.phone], [slot.frames], hop, position)
            position += slot.frames
    return timed


def joined(parts: Sequence[Generated], pause_seconds: float) -> Generated:
    """Several recordings of one rate, one after another with pauses; their prompts are left out.

    Seed, settings and ranks are the first's; costs are summed.
    """
    first = parts[0]
    rate, hop = first.recording.sample_rate, first.features.hop
    pause_frames = round(pause_seconds * rate / hop)
    quiet = float(np.log(first.features.floor))
    samples: list[np.ndarray] = []
    mels: list[Tensor] = []
    phones: list[str] = []
    durations: list[int] = []
    gaps: list[tuple[int, int]] = []
    new: list[int] = []
    position = 0
    for number, part in enumerate(parts):
        if number > 0:
            like = part.recording.samples
            samples.append(np.zeros((pause_frames * hop, like.shape[1]), like.dtype))
            mels.append(torch.full((pause_frames, part.mel.shape[1]), quiet))
            phones.append(SILENCE)
            durations.append(pause_frames)
            position += pause_frames
        begin, end = part.plan.gaps[-1]
        samples.append(part.recording.samples)
        mels.append(part.mel[begin:end])
        for phone, frames in new_phones(part.plan):
            new.append(len(phones))
            phones.append(phone)
            durations.append(frames)
        gaps.append((position, position + end - begin))
        position += end - begin
    mask = torch.zeros(position, dtype=torch.bool)
    for a, b in gaps:
        mask[a:b] = True
    mel = torch.cat(mels)
    context = first.features.normalise(mel).masked_fill(mask.unsqueeze(1), 0.0)
    plan = Plan(tuple(phones), tuple(durations), context, mask, tuple(gaps), new=tuple(new))
    return replace(
        first, recording=replace(first.recording, samples=np.concatenate(samples)), plan=plan,
        mel=mel, nfe=sum(p.nfe for p in parts), seconds=sum(p.seconds for p in parts),
        network_passes=sum(p.network_passes for p in parts),
    )  # fmt: skip
