"""Spectrograms of one sound or several, with their phones and spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voiceflow.audio.features import FeatureSpec
from voiceflow.pictures.page import new_page, write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

TimedPhone = tuple[str, float, float]  # symbol, start and end in seconds
Span = tuple[float, float]  # start and end in seconds

_INCHES_PER_SECOND = 2.2
_FEWEST_INCHES, _MOST_INCHES = 7.0, 40.0
_SILENCES = ("SIL", "SPN", "")
_SPAN_ON_DARK, _SPAN_ON_WHITE = "#3cf0ff", "#007f96"
_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 11025, 12000)


@dataclass(frozen=True)
class Panel:
    """One spectrogram of a picture.

    mel: (T, M) natural-log mel, not normalised. Phones may carry word positions, which are not
    drawn, nor are phones of no length. Times are seconds.
    """

    name: str
    mel: np.ndarray
    phones: Sequence[TimedPhone] = ()
    spans: Sequence[Span] = ()


def infill_picture(
    path: Path, panels: Sequence[Panel], spec: FeatureSpec, title: str, start: float = 0.0
) -> None:
    """Write a PNG of spectrograms one under the other, with their phones and spans marked.

    They begin at `start` seconds, and may be of different lengths. Raises UserError when the file
    cannot be written.
    """
    from matplotlib.ticker import MultipleLocator

    seconds = max(len(panel.mel) for panel in panels) * spec.hop_seconds
    width = float(np.clip(_INCHES_PER_SECOND * seconds, _FEWEST_INCHES, _MOST_INCHES))
    figure = new_page(width, 1.0 + 2.8 * len(panels), title, dpi=120)
    loudest = float(max(panel.mel.max() for panel in panels))
    quietest = float(np.percentile(np.concatenate([panel.mel for panel in panels]), 3))

    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        image = draw_mel(ax, panel.mel, spec, quietest, loudest, start)
        shown = [p for p in panel.phones if start <= p[1] and p[2] <= start + seconds]
        _draw_phones(ax, shown, panel.spans)
        _draw_spans(ax, [(a, b) for a, b in panel.spans if start <= a and b <= start + seconds])
        ax.set_ylabel(f"{panel.name} (Hz)")
    axes[0].set_xlim(start, start + seconds)
    axes[-1].set_xlabel("seconds")
    axes[-1].xaxis.set_major_locator(MultipleLocator(0.5 if seconds < 4 else 1))
    axes[-1].xaxis.set_minor_locator(MultipleLocator(0.1))
    bar = figure.colorbar(image, ax=list(axes), pad=0.01, aspect=40, fraction=0.5 / width)
    bar.set_label("log-mel (natural)")
    write_page(figure, path)


def draw_mel(
    ax: Axes, mel: np.ndarray, spec: FeatureSpec, low: float, high: float, start: float = 0.0
) -> Any:
    """Draw a natural-log mel (T, M) over seconds from `start` on, bands named in Hz; `low` is
    black. The image.
    """
    # Frame i is centred on i hops, so its column begins half a hop earlier.
    half = spec.hop_seconds / 2
    image = ax.imshow(
        mel.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        vmin=low,
        vmax=high,
        extent=(
            start - half, start + len(mel) * spec.hop_seconds - half, -0.5, spec.n_mels - 0.5
        ),
    )
    ticks = [hz for hz in _TICKS_HZ if spec.f_min <= hz <= spec.f_max]
    top = spec.n_mels - 0.5  # the highest band's centre lies under f_max
    ax.set_yticks([min(_band_of(hz, spec), top) for hz in ticks], [str(hz) for hz in ticks])
    return image


def _band_of(hz: float, spec: FeatureSpec) -> float:
    """The (fractional) mel band whose centre is at a frequency."""
    from librosa import hz_to_mel

    htk = spec.mel_scale == "htk"
    low, mel, high = (float(hz_to_mel(f, htk=htk)) for f in (spec.f_min, hz, spec.f_max))
    return (mel - low) / (high - low) * (spec.n_mels + 1) - 1


def _draw_phones(ax: Axes, phones: Sequence[TimedPhone], spans: Sequence[Span]) -> None:
    """Thin borders, and the symbols in a strip over the spectrogram, in two rows by turns."""
    drawn = [phone for phone in phones if phone[2] > phone[1]]
    for border in sorted({second for _, start, end in drawn for second in (start, end)}):
        ax.axvline(border, color="white", linewidth=0.6, alpha=0.5)
    named = [phone for phone in drawn if phone[0].rsplit("_", 1)[0] not in _SILENCES]
    for number, (symbol, start, end) in enumerate(named):
        middle = (start + end) / 2
        filled = any(first <= middle <= last for first, last in spans)
        ax.text(
            middle,
            1.015 + 0.05 * (number % 2),
            symbol.rsplit("_", 1)[0],
            transform=_seconds_by_axes(ax),
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=_SPAN_ON_WHITE if filled else "black",
            fontweight="bold" if filled else "normal",
        )


def _draw_spans(ax: Axes, spans: Sequence[Span]) -> None:
    """Both edges as lines, and the span as a named bar within the foot of the spectrogram."""
    for start, end in spans:
        for edge in (start, end):
            ax.axvline(edge, color=_SPAN_ON_DARK, linewidth=1.8)
        ax.axvspan(start, end, ymax=0.022, color=_SPAN_ON_DARK, linewidth=0)
        ax.text(
            (start + end) / 2,
            0.97,
            "span",
            transform=_seconds_by_axes(ax),
            ha="center",
            va="top",
            fontsize=8,
            color=_SPAN_ON_DARK,
            bbox={"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1.5},
        )


def _seconds_by_axes(ax: Axes) -> Transform:
    """x in seconds, y from 0 (bottom of the axes) to 1 (top)."""
    from matplotlib.transforms import blended_transform_factory

    return blended_transform_factory(ax.transData, ax.transAxes)
