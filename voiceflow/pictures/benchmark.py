"""Plots of a benchmark as SVG for a page, in the page's own colours, and small spectrograms.

Colours are CSS variables (`--ink`, `--quiet`, `--c0` to `--c5`), so that one picture does for a
light and a dark page; texts stay texts, in the page's font.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from voiceflow.pictures.page import new_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET = "#23272b", "#79818a"
COLOURS = ("#2f6f8f", "#b5532f", "#6a5a9a", "#3f7f4f", "#a07a1f", "#8f3f6a")
_MARKERS = ("o", "D", "^", "v", "P", "X")
_WIDTH = 4.8  # inches; still to be read where the page is 400 pixels wide
_POINTS = 9.0
_NAMED_SPEAKERS = 60
_LEVELS = 16  # colours of a small spectrogram
_FRAMES_A_PIXEL = 2


@dataclass(frozen=True)
class Interval:
    """A figure and, if it has one, its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def reach(self) -> tuple[float, float]:
        """How far the interval goes down and up, 0 where there is none."""
        if self.low is None or self.high is None:
            return 0.0, 0.0
        return max(self.value - self.low, 0.0), max(self.high - self.value, 0.0)


@dataclass(frozen=True)
class Spot:
    """A system in the plane of two figures; those that calibrate the scorers are drawn quietly."""

    name: str
    x: Interval
    y: Interval
    calibration: bool


def quality_svg(spots: Sequence[Spot], x_name: str, y_name: str, name: str) -> str:
    """Systems in the plane of two figures, with their intervals.

    name: of the picture, as its label and in its ids, which differ from another picture's.
    """
    with _drawing(2.9 + 0.2 * _rows(spots), name) as figure:
        ax = figure.subplots()
        drawn, names = [], []
        colours = _cycle(COLOURS, [s for s in spots if not s.calibration])
        quiet = _cycle(("s", "<", ">"), [s for s in spots if s.calibration])
        for spot in spots:
            colour, marker = (
                (QUIET, quiet[spot.name]) if spot.calibration
                else (colours[spot.name], _MARKERS[COLOURS.index(colours[spot.name])])
            )  # fmt: skip
            drawn.append(ax.errorbar(
                [spot.x.value], [spot.y.value], xerr=np.array([spot.x.reach]).T,
                yerr=np.array([spot.y.reach]).T, color=colour, marker=marker, markersize=6,
                markerfacecolor="none" if spot.calibration else colour, elinewidth=0.9,
                linestyle="none",
            ))  # fmt: skip
            names.append(spot.name)
        ax.margins(0.12)
        _named(ax, x_name, y_name)
        _legend(figure, drawn, names)
        return _svg(figure, name)


def sweep_svg(
    lines: Mapping[str, Sequence[tuple[float, Interval]]], x_name: str, y_name: str, name: str
) -> str:
    """A figure against what it costs, a line for each name; x is drawn on a scale of powers of 2.

    lines: of each name, the points (x, figure).
    """
    from matplotlib.ticker import NullLocator

    with _drawing(2.4 + 0.2 * _rows(lines), name) as figure:
        ax = figure.subplots()
        drawn = []
        for number, points in enumerate(lines.values()):
            ordered = sorted(points, key=lambda point: point[0])
            colour = COLOURS[number % len(COLOURS)]
            drawn.append(ax.errorbar(
                [x for x, _ in ordered], [y.value for _, y in ordered],
                yerr=np.array([y.reach for _, y in ordered]).T, color=colour,
                marker=_MARKERS[number % len(_MARKERS)], markersize=5, linewidth=1.2,
                linestyle=("-", "--", ":")[number // len(COLOURS) % 3], elinewidth=0.6,
            ))  # fmt: skip
        places = sorted({x for points in lines.values() for x, _ in points})
        ax.set_xscale("log", base=2)
        ax.set_xticks(places, [f"{x:g}" for x in places])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(0.08, 0.12)
        _named(ax, x_name, y_name)
        _legend(figure, drawn, list(lines))
        return _svg(figure, name)


def speakers_svg(
    values: Mapping[str, tuple[float, float | None]], x_name: str, voice: str, name: str
) -> str:
    """A row for each speaker, the best above: the voice's figure, and the original's beside it.

    values: of each speaker, the voice's and the original's, None where that is not known.
    """
    ordered = sorted(values.items(), key=lambda item: (item[1][0], item[0]))
    with _drawing(1.0 + 0.17 * min(len(ordered), _NAMED_SPEAKERS), name) as figure:
        ax = figure.subplots()
        rows = range(len(ordered))
        both = [(row, ours, theirs) for row, (_, (ours, theirs)) in enumerate(ordered)
                if theirs is not None]  # fmt: skip
        for row, ours, theirs in both:
            ax.plot([theirs, ours], [row, row], color=QUIET, linewidth=0.7, zorder=1)
        ours_drawn = ax.scatter([v for _, (v, _) in ordered], rows, s=20, color=COLOURS[0])
        drawn, names = [ours_drawn], [voice]
        if both:
            drawn.append(ax.scatter(
                [theirs for *_, theirs in both], [row for row, *_ in both], s=20,
                facecolors="none", edgecolors=QUIET,
            ))  # fmt: skip
            names.append("original")
        named = len(ordered) <= _NAMED_SPEAKERS
        ax.set_yticks(rows if named else [], [speaker for speaker, _ in ordered] if named else [])
        for label in ax.get_yticklabels():
            label.set_parse_math(False)
        ax.set_ylim(len(ordered) - 0.4, -0.6)
        _named(ax, x_name, "speaker")
        ax.tick_params(axis="y", labelsize=7, length=0)
        _legend(figure, drawn, names)
        return _svg(figure, name)


def spectrogram_png(mel: np.ndarray, low: float, high: float) -> bytes:
    """A log-mel (T, M) as a small PNG without axes, a pixel for two frames; `low` is black.

    In few colours, so that a page can hold many of them.
    """
    from matplotlib import colormaps
    from PIL import Image

    whole = mel[: max(len(mel) // _FRAMES_A_PIXEL, 1) * _FRAMES_A_PIXEL]
    n = min(_FRAMES_A_PIXEL, len(whole))
    shown = whole.reshape(-1, n, mel.shape[1]).mean(1)
    share = np.clip((shown - low) / max(high - low, 1e-6), 0, 1)
    levels = np.round(share * (_LEVELS - 1)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(levels.T[::-1]))
    palette = colormaps["magma"](np.linspace(0, 1, _LEVELS))[:, :3]
    image.putpalette(np.round(255 * palette).astype(np.uint8).tobytes())
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True, bits=4)
    return written.getvalue()


@contextmanager
def _drawing(height: float, name: str) -> Iterator[Figure]:
    """An empty figure whose texts and lines are ink, not black."""
    from matplotlib import rc_context

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: Any = {
        **dict.fromkeys(inked, INK), "svg.fonttype": "none", "svg.hashsalt": name,
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
        "font.family": ["DejaVu Sans"], "font.size": _POINTS, "errorbar.capsize": 0,
    }  # fmt: skip
    with rc_context(settings):
        yield new_page(_WIDTH, height, "")


def _named(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=_POINTS, parse_math=False)
    ax.set_ylabel(y, fontsize=_POINTS, parse_math=False)
    ax.tick_params(labelsize=_POINTS - 1)
    ax.grid(axis="both", color=QUIET, alpha=0.25, linewidth=0.5)
    ax.set_axisbelow(True)


def _legend(figure: Figure, drawn: Sequence[Any], names: Sequence[str]) -> None:
    """Under the plot, where it covers nothing."""
    legend = figure.legend(
        drawn, names, loc="outside lower left", ncols=2, frameon=False, fontsize=_POINTS - 1,
        numpoints=1,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _rows(named: Sequence[Any] | Mapping[str, Any]) -> int:
    return (len(named) + 1) // 2


def _cycle(choices: Sequence[str], spots: Sequence[Spot]) -> dict[str, str]:
    return {spot.name: choices[i % len(choices)] for i, spot in enumerate(spots)}


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element to stand in a page: no prologue, ids of its own."""
    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    mine = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    text = re.sub(r'\bid="', f'id="{mine}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{mine}-", text)
    variables = {INK: "--ink", QUIET: "--quiet"} | {c: f"--c{i}" for i, c in enumerate(COLOURS)}
    for colour, variable in variables.items():
        text = text.replace(colour, f"var({variable}, {colour})")
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif")
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)
