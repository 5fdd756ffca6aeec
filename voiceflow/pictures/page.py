"""A page of plots: begun without pyplot, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voiceflow.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_page(width: float, height: float, title: str, dpi: int = 110) -> Figure:
    """An empty figure, `width` by `height` inches, that lays its plots out by itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, parse_math=False)
    return figure


def write_page(figure: Figure, path: Path) -> None:
    """Write the figure as PNG. Raises UserError when the file cannot be written."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
