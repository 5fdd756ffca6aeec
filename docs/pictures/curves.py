"""Draws training curves: the loss of each network that was trained, and its validation loss.

    python docs/pictures/curves.py runs/mine/velocity runs/mine/duration curves.png

reads RUN/log.jsonl, a panel each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAMES = {"velocity": "velocity: squared error a band", "duration": "durations: |log error|",
         "duration_flow": "durations, drawn: squared error", "aligner": "aligner: nats",
         "vocoder": "vocoder"}  # fmt: skip


def smooth(rows: list[tuple[int, float]], n: int = 15) -> list[tuple[int, float]]:
    """Each value's mean with those before it, n in all."""
    return [
        (update, fmean(value for _, value in rows[max(i - n + 1, 0) : i + 1]))
        for i, (update, _) in enumerate(rows)
    ]


def main(runs: list[Path], out: Path) -> None:
    """One panel a run."""
    logs = [run / "log.jsonl" for run in runs]
    figure, axes = plt.subplots(1, len(logs), figsize=(3.4 * len(logs), 2.8), squeeze=False)
    for ax, path in zip(axes[0], logs, strict=True):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        loss = smooth([(row["update"], row["loss"]) for row in rows if "loss" in row])
        held = [(r["update"], r["validation_loss"]) for r in rows if "validation_loss" in r]
        ax.plot(*zip(*loss, strict=True), color="#b9c6d3", label="training, smoothed")
        ax.plot(*zip(*held, strict=True), color="#c8553d", marker=".", label="held out")
        shown = [v for _, v in loss[len(loss) // 20 :]] + [v for _, v in held]
        ax.set_ylim(min(shown) * 0.97, max(shown) * 1.03)
        ax.set_title(NAMES[path.parent.name], fontsize=9)
        ax.set_xlabel(f"updates of {path.parent.parent.name}", fontsize=8)
        ax.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main([Path(run) for run in sys.argv[1:-1]], Path(sys.argv[-1]))
