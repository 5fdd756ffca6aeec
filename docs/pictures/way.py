"""Draws way.svg, the figure of docs/concepts.md: one edit by the bundled voice, seen at each step.

    python docs/pictures/way.py

No recording is shown: the sentence that is edited was spoken by the voice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from voiceflow import Voice
from voiceflow.generation.plan import widen
from voiceflow.text.phones import SILENCE, base_of

OLD, NEW = "the house was empty", "the garden was empty"
KNOWN, MADE, EMPTY = "#34607f", "#c8553d", "#e4e7ea"


class Watched:
    """Notes where the sampler stands, each time it asks the network for a velocity."""

    def __init__(self, network: Any) -> None:
        self.seen: list[tuple[float, torch.Tensor]] = []
        self._ask, network.velocity = network.velocity, self

    def __call__(self, x: torch.Tensor, t: torch.Tensor, *given: Any) -> torch.Tensor:
        self.seen.append((float(t[0]), x[0].float()))
        found: torch.Tensor = self._ask(x, t, *given)
        return found

    def at(self, t: float) -> np.ndarray:
        """(T, M) at the evaluation nearest to t."""
        return min(self.seen, key=lambda one: abs(one[0] - t))[1].numpy()


def bare(ax: Axes, title: str, below: str = "") -> None:
    """A panel without axes, named above and below."""
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9.5, loc="left", pad=4)
    ax.set_xlabel(below, fontsize=8, loc="left", color="#444444", labelpad=3)
    for side in ax.spines.values():
        side.set_visible(False)


def mel(ax: Axes, frames: np.ndarray, hidden: Sequence[tuple[int, int]] = ()) -> None:
    """Normalised log-mel (T, M); frames in `hidden` are not there."""
    shown = np.array(frames, dtype=np.float64)
    for first, last in hidden:
        shown[first:last] = np.nan
    ax.set_facecolor(EMPTY)
    few = matplotlib.colormaps["magma"].resampled(24)  # colours: a smaller file
    ax.imshow(shown.T, aspect="auto", origin="lower", cmap=few, vmin=-2.2, vmax=2.2,
              interpolation="none")  # fmt: skip


def tier(ax: Axes, phones: Sequence[str], frames: Sequence[int], new: Sequence[int] = ()) -> None:
    """Phones under a panel's frames; those in `new` are to be made."""
    edges = np.concatenate([[0], np.cumsum(frames)])
    for number, (phone, first, last) in enumerate(zip(phones, edges, edges[1:], strict=False)):
        if phone == SILENCE or first == last:
            continue
        ax.axvspan(first, last, color=MADE if number in new else KNOWN, lw=0, alpha=0.22)
        size = 6.5 if last - first > 4 else 5
        ax.text((first + last) / 2, 0.5, base_of(phone), ha="center", va="center", fontsize=size)
        ax.axvline(first, color="white", lw=1)
    ax.set(xlim=(0, edges[-1]), ylim=(0, 1), xticks=[], yticks=[])
    ax.axis("off")


def wave(ax: Axes, samples: np.ndarray, span: tuple[int, int] = (0, 0)) -> None:
    """Samples (n,); those of `span` were made. As extremes of short stretches."""
    size = len(samples) // 260
    pieces = samples[: len(samples) // size * size].reshape(-1, size)
    place = np.arange(len(pieces)) * size
    made = (place >= span[0]) & (place < span[1])
    for which, colour in ((~made, KNOWN), (made, MADE)):
        ax.fill_between(place, pieces.min(1), pieces.max(1), which, color=colour, lw=0.4)
    ax.set(xlim=(0, len(samples)), ylim=(-1.05 * abs(samples).max(), 1.05 * abs(samples).max()))


def main() -> None:
    """Speak, edit, draw."""
    voice = Voice.load("mini")
    said = voice.speak(OLD, seed=3)
    audio = said.recording
    watched = Watched(voice.velocity)
    job = voice.planned("edit", audio=audio, old=OLD, new=NEW, seed=1)
    [made] = voice.run([job])
    plan, layout = job.plan, job.layout
    assert layout is not None
    (first, last), = plan.gaps
    spec = voice.features
    before, after = spec.normalise(layout.mel).numpy(), spec.normalise(made.mel).numpy()
    aligned = voice.plan_score(audio, OLD, None)[0]
    phones, frames = aligned.phones, aligned.durations
    hidden = widen(frames, round(0.3 * len(before)), round(0.72 * len(before)))
    noise = np.random.default_rng(0).normal(size=before.shape)

    matplotlib.rcParams.update({"svg.hashsalt": "voiceflow", "font.family": "DejaVu Sans"})
    figure = Figure(figsize=(10.4, 6.0))
    outer = figure.add_gridspec(3, 3, left=0.075, right=0.985, top=0.945, bottom=0.045,
                                hspace=0.42, wspace=0.1)  # fmt: skip

    def panel(row: int, column: int, heights: Sequence[float] = (1,)) -> list[Axes]:
        inner = outer[row, column].subgridspec(len(heights), 1, height_ratios=heights, hspace=0.06)
        return [figure.add_subplot(inner[number, 0]) for number in range(len(heights))]

    ax, = panel(0, 0)
    wave(ax, audio.mono())
    bare(ax, "1  corpus", f"a recording and its text: “{OLD}”")
    ax, under = panel(0, 1, (3, 1))
    wave(ax, audio.mono())
    bare(ax, "2  alignment")
    for edge in np.cumsum(frames)[:-1]:
        ax.axvline(edge * spec.hop, color="#999999", lw=0.5)
    tier(under, phones, frames)
    under.set_title("phones, with start and end in seconds", fontsize=8, y=-0.5, loc="left",
                    color="#444444")  # fmt: skip
    ax, under = panel(0, 2, (3, 1))
    mel(ax, before)
    bare(ax, "3  prepared data")
    tier(under, phones, frames)
    under.set_title("log-mel; each phone has a number of frames", fontsize=8, y=-0.5, loc="left",
                    color="#444444")  # fmt: skip

    x1 = before
    ax, = panel(1, 0)
    mel(ax, x1, [hidden])
    bare(ax, "4  context", "a span is hidden, whole phones of it")
    ax, = panel(1, 1)
    t = 0.4
    mel(ax, t * x1 + (1 - t) * noise)
    bare(ax, "5  noisy speech", "$x_t = t\\,x_1 + (1 - t)\\,x_0$, at a random t (here 0.4)")
    ax, = panel(1, 2)
    outside = [(0, hidden[0]), (hidden[1], len(x1))]
    mel(ax, x1 - noise, outside)
    bare(ax, "6  what the network learns to tell", "the velocity $x_1 - x_0$, where the span is")

    ax, under = panel(2, 0, (3, 1))
    mel(ax, plan.context.numpy(), plan.gaps)
    bare(ax, "7  plan")
    tier(under, plan.phones, plan.durations, plan.new)
    under.set_title(f"“{NEW}”; durations predicted", fontsize=8, y=-0.5, loc="left",
                    color="#444444")  # fmt: skip
    three = panel(2, 1, (1, 1, 1))
    for ax, (t, state) in zip(three, [(0.0, watched.at(0.0)), (0.5, watched.at(0.5)), (1.0, after)],
                              strict=True):  # fmt: skip
        mel(ax, state)
        bare(ax, "")
        ax.text(len(state) - 2, spec.n_mels - 8, f"t = {t:g}", fontsize=7.5, color="white",
                ha="right", va="top", bbox={"color": "#222222", "pad": 1.5})  # fmt: skip
        edges = [first - 0.5, last - 0.5]
        ax.vlines(edges, -0.5, spec.n_mels - 0.5, "white", lw=0.8)
    three[0].set_title("8  sampler", fontsize=9.5, loc="left", pad=4)
    three[2].set_xlabel("noise becomes speech, the context given", fontsize=8, loc="left",
                        color="#444444", labelpad=3)  # fmt: skip
    ax, = panel(2, 2)
    wave(ax, made.recording.mono(), made.spans()[0])
    bare(ax, "9  vocoder and splice", "made; and the recording's own samples, bit for bit")

    for row, name in enumerate(("prepare", "train", "use")):
        box = outer[row, 0].get_position(figure)
        colour = MADE if name == "use" else KNOWN
        figure.text(0.02, (box.y0 + box.y1) / 2, name, rotation=90, va="center", ha="center",
                    fontsize=12, fontweight="bold", color=colour)  # fmt: skip
    out = Path(__file__).with_suffix(".svg")
    figure.savefig(out, metadata={"Date": None}, dpi=100)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
