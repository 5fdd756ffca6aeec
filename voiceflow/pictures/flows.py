"""Flows of points in the plane: densities as heat maps, lines of motion, velocities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from voiceflow.pictures.page import new_page, write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Density = Callable[[Tensor], Tensor]
"""points (N, 2) -> log density (N,) in nats"""

Field = Callable[[Tensor, Tensor], Tensor]
"""t (), points (N, 2) -> velocity (N, 2)"""

FIELD_TIMES = (0.0, 0.25, 0.5, 0.75, 0.95)
_COLOURS = "magma"
_BINS = 120
_POINTS = 101  # along each axis of a density
_ARROWS = 17
_LINES = 250


@dataclass(frozen=True)
class DrawnFlow:
    """What is drawn of one flow.

    title; samples: (N, 2); times: (S,) and states: (S, L, 2) of some lines; velocity, the times
    between which it is known, and the log density by its likelihood; marginal: log density of x_t
    by the path itself, t () and points (N, 2), None where the flow follows no path.
    """

    title: str
    samples: Tensor
    times: Tensor
    states: Tensor
    velocity: Field
    within: tuple[float, float]
    log_density: Density
    marginal: Callable[[Tensor, Tensor], Tensor] | None


def flow_picture(
    path: Path, flow: DrawnFlow, data: Tensor, true_log_density: Density, reach: float
) -> None:
    """Write a PNG page of one flow: samples and density beside the truth, lines, velocities.

    data: (N, 2) of the target; reach: half the side of the square that is shown. Raises UserError
    when the file cannot be written.
    """
    figure = new_page(15.5, 6.6, flow.title)
    upper, lower = figure.subfigures(2, 1, squeeze=False).flat
    axes = upper.subplots(1, 5)
    _heat(axes[0], data, reach, "data")
    _heat(axes[1], flow.samples, reach, "samples")
    top = 1.1 * float(true_log_density(_square(reach, _POINTS)).exp().max())
    _density(axes[2], true_log_density, reach, top, "true density")
    _density(axes[3], flow.log_density, reach, top, "density by likelihood")
    _lines(axes[4], flow.states, reach, "lines of motion")
    _velocities(lower.subplots(1, len(FIELD_TIMES)), flow, reach)
    write_page(figure, path)


def comparison_picture(
    path: Path, flows: Mapping[str, DrawnFlow], data: Tensor, exact_states: Tensor, reach: float
) -> None:
    """Write a PNG of all flows side by side: heat map of the samples, and lines under it.

    data: (N, 2) of the target, and exact_states (S, L, 2), lines of its flow in closed form, stand
    first. Raises UserError when the file cannot be written.
    """
    figure = new_page(2.9 * (len(flows) + 1), 6.2, "From noise to a mixture of Gaussians")
    axes = figure.subplots(2, len(flows) + 1, squeeze=False)
    _heat(axes[0, 0], data, reach, "data")
    _lines(axes[1, 0], exact_states, reach, "optimal transport, exact")
    for column, flow in enumerate(flows.values(), 1):
        _heat(axes[0, column], flow.samples, reach, flow.title)
        _lines(axes[1, column], flow.states, reach, "")
    write_page(figure, path)


def _square(reach: float, points: int) -> Tensor:
    """(points^2, 2), row by row from below."""
    axis = torch.linspace(-reach, reach, points)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], 2).reshape(-1, 2)


def _frame(ax: Axes, reach: float, title: str) -> None:
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=10)


def _heat(ax: Axes, points: Tensor, reach: float, title: str) -> None:
    counts, _, _ = np.histogram2d(
        points[:, 1].numpy(), points[:, 0].numpy(), bins=_BINS, range=[[-reach, reach]] * 2
    )
    ax.imshow(
        counts, origin="lower", extent=(-reach, reach, -reach, reach), cmap=_COLOURS,
        vmax=max(1.0, float(np.percentile(counts, 99.7))),
    )  # fmt: skip
    _frame(ax, reach, title)


def _density(ax: Axes, log_density: Density, reach: float, top: float, title: str) -> None:
    values = log_density(_square(reach, _POINTS)).exp().reshape(_POINTS, _POINTS)
    ax.imshow(
        values.numpy(), origin="lower", extent=(-reach, reach, -reach, reach), cmap=_COLOURS,
        vmin=0, vmax=top, interpolation="bilinear",
    )  # fmt: skip
    _frame(ax, reach, title)


def _lines(ax: Axes, states: Tensor, reach: float, title: str) -> None:
    from matplotlib.collections import LineCollection

    lines = states[:, :_LINES].transpose(0, 1).numpy()
    ax.add_collection(LineCollection(list(lines), colors="#5b4b8a", linewidths=0.5, alpha=0.45))
    ax.scatter(lines[:, 0, 0], lines[:, 0, 1], s=3, color="#9a9a9a", zorder=2)
    ax.scatter(lines[:, -1, 0], lines[:, -1, 1], s=5, color="#d1495b", zorder=3)
    _frame(ax, reach, title)


def _velocities(axes: np.ndarray, flow: DrawnFlow, reach: float) -> None:
    """Arrows at five times; behind them the points that are on their way, as a heat map."""
    first, last = flow.within
    for ax, part in zip(axes, FIELD_TIMES, strict=True):
        t = torch.tensor(first + part * (last - first))
        state = flow.states[int((flow.times - t).abs().argmin())]
        shown = max(reach, 1.1 * float(state.abs().quantile(0.99)))
        if flow.marginal is not None:
            _marginal(ax, flow.marginal, t, shown)
        points = _square(0.94 * shown, _ARROWS)
        with torch.no_grad():
            arrows = flow.velocity(t, points)
        size = float(arrows.norm(dim=1).quantile(0.9))
        ax.quiver(
            points[:, 0].numpy(), points[:, 1].numpy(), arrows[:, 0].numpy(), arrows[:, 1].numpy(),
            color="#2f6f8f" if flow.marginal is None else "#7fe7dc", angles="xy",
            scale=max(size, 1e-6) * _ARROWS, width=0.005,
        )  # fmt: skip
        _frame(
            ax,
            shown,
            f"velocity at t = {float(t):.2f}" + (f", ±{shown:.0f}" if shown > reach else ""),
        )


def _marginal(
    ax: Axes, marginal: Callable[[Tensor, Tensor], Tensor], t: Tensor, shown: float
) -> None:
    values = marginal(t, _square(shown, _POINTS)).exp().reshape(_POINTS, _POINTS)
    ax.imshow(
        values.numpy(), origin="lower", extent=(-shown, shown, -shown, shown), cmap=_COLOURS,
        vmin=0, interpolation="bilinear",
    )  # fmt: skip
