"""Prepared data: one utterance as lines of sound, words, phones and mel; and figures of all."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voiceflow.audio.features import FeatureSpec
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError, UserNote
from voiceflow.data.inspect import Spread, Statistics
from voiceflow.data.recordings import at_speed
from voiceflow.data.shards import PreparedUtterance
from voiceflow.pictures.page import new_page, write_page
from voiceflow.pictures.spectrogram import draw_mel
from voiceflow.text.phones import SILENCE, base_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

_SECONDS_A_LINE = 5.0
_INCHES_PER_SECOND = 3.0
_PAD_SECONDS = 0.05  # at both ends of a line, for names of short phones
_FEWEST_INCHES = 8.0
_INCHES_BESIDE = 0.9  # for the names of the axes
_ROW_INCHES = 0.17  # of a tier
_POINTS = 8.0
_GAP_INCHES = 0.04
_WAVE, _BAR, _OTHER_BAR, _SHADE = "#34607f", "#5b7fa6", "#b98a4f", "#ececec"
_ALARM = "#c1121f"
_KINDS_SHOWN = 8


@dataclass(frozen=True)
class _Cell:
    """A piece of a tier, in seconds, and its name; a silence has none."""

    name: str
    start: float
    end: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


def utterance_picture(path: Path, row: PreparedUtterance, spec: FeatureSpec) -> None:
    """Write a PNG of an utterance, in lines of some five seconds that end between words.

    Each line has the waveform (where the recording is still there: a UserNote is given if not),
    words, phones and log-mel. Spoken phones of no frames are red. Raises UserError when the file
    cannot be written.
    """
    wave = _wave(row, spec)
    hop = spec.hop_seconds
    words, phones = _cells(row, hop)
    lines = _lines(row, hop)
    seconds = max(end - start for start, end in lines)
    width = max(_FEWEST_INCHES, _INCHES_PER_SECOND * seconds + _INCHES_BESIDE)
    inches_per_second = (width - _INCHES_BESIDE) / (seconds + 2 * _PAD_SECONDS)
    tiers = [(cells, *_stacked(cells, inches_per_second)) for cells in (words, phones)]
    tier_heights = [_ROW_INCHES * n + 0.05 for _, _, n in tiers]
    heights = [*([] if wave is None else [0.75]), *tier_heights, 1.9, _GAP_INCHES]
    title = f"{row.utterance.id}: speaker {row.utterance.speaker}, {row.seconds:.2f} s"
    figure = new_page(width, (sum(heights) + 0.4) * len(lines) + 0.6, title)
    engine: Any = figure.get_layout_engine()
    engine.set(h_pad=0.015, hspace=0, w_pad=0.02)
    # One grid for all lines, so that a second is as long in each; a thin row is left under each.
    n_rows = len(heights)
    grid = figure.add_gridspec(n_rows * len(lines), 1, height_ratios=heights * len(lines))
    low, high = float(np.percentile(row.mel.astype(np.float32), 3)), float(row.mel.max())
    for place, (start, end) in enumerate(lines):
        axes = [figure.add_subplot(grid[n_rows * place + i]) for i in range(n_rows - 1)]
        if wave is not None:
            _draw_wave(axes[0], wave, spec.sample_rate, start, end)
        words_ax, phones_ax, mel_ax = axes[-3:]
        until = end if place < len(lines) - 1 else math.inf  # with what has no frames at the end
        for ax, name, tier in ((words_ax, "words", tiers[0]), (phones_ax, "phones", tiers[1])):
            _draw_tier(ax, *tier, start, until)
            ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=_POINTS)
        shown = row.mel[: round(end / hop)].astype(np.float32)
        draw_mel(mel_ax, shown, spec, low, high)
        mel_ax.axvspan(start - 1, start, color="white", linewidth=0)
        for cell in phones:
            if start <= cell.start < end:
                mel_ax.axvline(cell.start, color="white", linewidth=0.6, alpha=0.5)
        mel_ax.set_ylabel("Hz", fontsize=_POINTS)
        for ax in axes:
            _time_axis(ax, start - _PAD_SECONDS, start + seconds + _PAD_SECONDS, ax is mel_ax)
    figure.supxlabel(
        f"seconds; natural log-mel from {low:.1f} and less (black) to {high:.1f}", fontsize=9
    )
    write_page(figure, path)


def _wave(row: PreparedUtterance, spec: FeatureSpec) -> np.ndarray | None:
    audio = row.utterance.audio
    if not audio:
        warnings.warn("the manifest names no recording: drawn without it", UserNote, stacklevel=3)
        return None
    try:
        return at_speed(load_mono(audio, spec.sample_rate), row.utterance.speed)
    except UserError as error:
        warnings.warn(f"drawn without the recording: {error}", UserNote, stacklevel=3)
        return None


def _cells(row: PreparedUtterance, hop_seconds: float) -> tuple[list[_Cell], list[_Cell]]:
    """Words and phones in their order, silences of some length among them."""
    framed = row.alignment
    borders = np.cumsum([0, *framed.durations]) * hop_seconds
    phones = [
        _Cell("" if phone == SILENCE else base_of(phone), float(start), float(end))
        for phone, start, end in zip(framed.phones, borders, borders[1:], strict=False)
        if phone != SILENCE or end > start
    ]
    words = [
        _Cell(w.text, float(borders[w.first_phone]), float(borders[w.first_phone + w.n_phones]))
        for w in framed.words
    ]
    silences = [cell for cell in phones if not cell.name]
    return sorted([*words, *silences], key=lambda cell: (cell.start, cell.end)), phones


def _lines(row: PreparedUtterance, hop_seconds: float) -> list[tuple[float, float]]:
    """Start and end in seconds of lines of about equal length, cut at starts of words."""
    borders = np.cumsum([0, *row.alignment.durations]) * hop_seconds
    total = float(borders[-1])
    number = math.ceil(total / _SECONDS_A_LINE)
    starts = np.array([borders[word.first_phone] for word in row.alignment.words])
    cuts = {0.0, total}
    for part in range(1, number):
        if len(starts):
            cuts.add(float(starts[np.abs(starts - part * total / number).argmin()]))
    ordered = sorted(cuts)
    return list(pairwise(ordered))


def _stacked(cells: Sequence[_Cell], inches_per_second: float) -> tuple[list[int], int]:
    """For each cell the row of its name, so that no two names touch; and the number of rows."""
    from matplotlib.textpath import TextPath

    free: list[float] = []  # where each row's last name ends, in inches
    rows = []
    for cell in cells:
        if not cell.name:
            rows.append(0)
            continue
        half = TextPath((0, 0), cell.name, size=_POINTS).get_extents().width / 72 / 2
        middle = cell.middle * inches_per_second
        fitting = [row for row, end in enumerate(free) if end + _GAP_INCHES <= middle - half]
        row = fitting[0] if fitting else len(free)
        free[row : row + 1] = [middle + half]
        rows.append(row)
    return rows, max(len(free), 1)


def _draw_tier(
    ax: Axes, cells: Sequence[_Cell], rows: Sequence[int], n_rows: int, start: float, end: float
) -> None:
    for cell, row in zip(cells, rows, strict=True):
        if not start <= cell.start < end:
            continue
        if not cell.name:
            ax.axvspan(cell.start, cell.end, color=_SHADE, linewidth=0)
            continue
        empty = cell.end <= cell.start
        for border in (cell.start, cell.end):
            ax.axvline(border, color="#888888", linewidth=0.6)
        ax.text(
            cell.middle, n_rows - row - 0.5, cell.name, fontsize=_POINTS, ha="center",
            va="center_baseline", color=_ALARM if empty else "black", parse_math=False,
            bbox={"facecolor": "white", "linewidth": 0, "pad": 0.3},
        )  # fmt: skip
    ax.set_ylim(0, n_rows)
    ax.set_yticks([])


def _draw_wave(ax: Axes, wave: np.ndarray, rate: int, start: float, end: float) -> None:
    """The least and greatest sample of every two milliseconds."""
    first, block = round(start * rate), max(rate // 500, 1)
    part = wave[first : round(end * rate)]
    part = part[: max(len(part) // block, 1) * block]
    if len(part) >= block:
        blocks = part.reshape(-1, block)
        times = (first + block * (np.arange(len(blocks)) + 0.5)) / rate
        ax.fill_between(
            times, blocks.min(1), blocks.max(1), color=_WAVE, edgecolor=_WAVE, linewidth=0.4
        )
    peak = max(float(np.abs(wave).max()), 1e-3)
    ax.set_ylim(-1.05 * peak, 1.05 * peak)
    ax.set_yticks([0], ["0"], fontsize=_POINTS)


def _time_axis(ax: Axes, start: float, end: float, told: bool) -> None:
    from matplotlib.ticker import MultipleLocator

    ax.set_xlim(start, end)
    ax.xaxis.set_major_locator(MultipleLocator(0.5))
    ax.xaxis.set_minor_locator(MultipleLocator(0.1))
    ax.tick_params(labelsize=_POINTS)
    ax.tick_params("x", which="both", bottom=told, labelbottom=told)


def statistics_picture(path: Path, found: Statistics) -> None:
    """Write a PNG of the figures of prepared data. Raises UserError when it cannot be written."""
    kinds = sorted(found.rejected.items(), key=lambda item: -item[1])[:_KINDS_SHOWN]
    heights = [2.3, 2.3, 2.0, 2.0, *([0.5 + 0.26 * len(kinds)] if kinds else [])]
    title = (
        f"{found.folder}: {found.hours:.2f} hours, {len(found.seconds)} utterances, "
        f"{len(found.speakers)} speakers, {100 * found.silent_share:.1f} % silence"
    )
    figure = new_page(14, sum(heights) + 1.0, title)
    grid = figure.add_gridspec(len(heights), 3, height_ratios=heights)
    _histogram(figure.add_subplot(grid[0, 0]), found.seconds, "length of utterances", "seconds")
    _speakers(figure.add_subplot(grid[0, 1]), found)
    _pauses(figure.add_subplot(grid[0, 2]), found)
    _histogram(
        figure.add_subplot(grid[1, 0]), found.phone_rates, "pace of the phones",
        "phones a second, silence aside",
    )  # fmt: skip
    _histogram(figure.add_subplot(grid[1, 1]), found.word_rates, "pace of the words", "a minute")
    _histogram(figure.add_subplot(grid[1, 2]), found.scores, "alignment scores", "score")
    _phones(figure, grid, found)
    if kinds:
        _rejected(figure.add_subplot(grid[4, :]), kinds, sum(found.rejected.values()))
    write_page(figure, path)


def _histogram(
    ax: Axes,
    values: np.ndarray,
    title: str,
    unit: str,
    counts: np.ndarray | None = None,
    bins: int | list[float] = 40,
    of: str = "utterances",
) -> None:
    ax.set_title(title, fontsize=10)
    if len(values) == 0:
        ax.set_axis_off()
        ax.text(0.5, 0.5, "none", ha="center", va="center", transform=ax.transAxes)
        return
    spread = Spread.of(values, counts)
    ax.hist(values, bins=bins, weights=counts, color=_BAR)
    ax.margins(y=0.3)  # room for the legend, which the lines end under
    line: dict[str, Any] = {"color": _ALARM, "linewidth": 1.0, "ymax": 0.85}
    ax.axvline(spread.median, label=f"median {spread.median:.3g}", **line)
    ax.axvline(spread.percentile5, label="5 %, 95 %", linestyle=":", **line)
    ax.axvline(spread.percentile95, linestyle=":", **line)
    ax.legend(fontsize=7.5, frameon=False, loc="upper right", ncols=2)
    _names(ax, unit, of)


def _names(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=8.5)
    ax.set_ylabel(y, fontsize=8.5)
    ax.tick_params(labelsize=8)


def _speakers(ax: Axes, found: Statistics) -> None:
    from matplotlib.ticker import MaxNLocator

    minutes = np.sort(np.array(list(found.speakers.values())) / 60)[::-1]
    ax.fill_between(
        np.arange(len(minutes) + 1), [*minutes, minutes[-1]], step="post", color=_OTHER_BAR
    )
    ax.set_xlim(0, len(minutes))
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ax.set_ylim(0, 1.1 * minutes[0])
    ax.set_title("sound of each speaker, the most first", fontsize=10)
    _names(ax, "speakers", "minutes")


def _pauses(ax: Axes, found: Statistics) -> None:
    frames = np.arange(1, len(found.pauses))
    counts = found.pauses[1:]
    if not counts.any():
        _histogram(ax, np.zeros(0), "pauses between words", "")
        return
    hop = found.hop_seconds
    n_borders = int(found.pauses.sum())
    share = 100 * int(counts.sum()) / n_borders
    # Edges between frames: a bin holds whole frames, the same number in each.
    width = max(1, round(found.pause_spread.percentile95 / hop / 30))
    edges = (np.arange(0, len(found.pauses) + width, width) + 0.5) * hop
    _histogram(
        ax, frames * hop, f"pauses: at {share:.1f} % of {n_borders} borders of words", "seconds",
        counts, edges.tolist(), "pauses",
    )  # fmt: skip
    ax.set_xlim(0, min(float(edges[-1]), 2 * found.pause_spread.percentile95))


def _phones(figure: Figure, grid: GridSpec, found: Statistics) -> None:
    uses = sorted(found.phones.items(), key=lambda item: -item[1].count)
    names = [name for name, _ in uses]
    counts = [float(use.count) for _, use in uses]
    means = [1000 * use.mean_seconds for _, use in uses]
    rows = (
        ("how often each phone is said", counts, _BAR, "phones"),
        ("its mean duration", means, _OTHER_BAR, "milliseconds"),
    )
    for place, (title, heights, colour, unit) in enumerate(rows, 2):
        ax = figure.add_subplot(grid[place, :])
        ax.bar(range(len(names)), heights, color=colour, width=0.75)
        ax.set_xticks(range(len(names)), names)
        ax.set_xlim(-0.6, len(names) - 0.4)
        ax.set_title(title, fontsize=10)
        _names(ax, "", unit)
        ax.tick_params(axis="x", labelsize=8 if len(names) <= 60 else 6)


def _rejected(ax: Axes, kinds: Sequence[tuple[str, int]], total: int) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.barh(range(len(kinds)), [count for _, count in kinds], color="#d9c3c3", height=0.8)
    for place, (kind, count) in enumerate(kinds):
        short = kind if len(kind) <= 120 else kind[:119] + "…"
        ax.annotate(
            f"{count}  {short}", (0, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8, parse_math=False,
        )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    ax.set_yticks([])
    ax.set_title(f"{total} rejected, by reason", fontsize=10)
    ax.tick_params(labelsize=8)
