"""The tables of a result, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from voiceflow.benchmark.systems import CALIBRATION

Results = Mapping[str, Any]
DASH = "–"
AS_REPORTED = "as reported, other scorers"
ALL_TASKS = "all tasks"
_COSTS = {"trials": "trials", "failed": "failed", "nfe": "NFE", "network_passes": "passes",
          "rtf": "RTF"}  # fmt: skip
_OVERVIEW = ("WER", "matching", "SIM-o", "DNSMOS (overall)")  # figures that all tasks have


@dataclass(frozen=True)
class Column:
    """A figure's name, its unit ("%": its values are shares), and which is better, if known."""

    name: str
    unit: str = ""
    better: str = ""

    @property
    def told(self) -> str:
        """What stands in small print under the name."""
        better = f"{self.better} is better" if self.better else ""
        return ", ".join(filter(None, (self.unit, better)))


@dataclass(frozen=True)
class Cell:
    """A number as it is shown, what is told of it in small print, and by what it is sorted."""

    text: str = DASH
    small: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Line:
    """A row: its name, a note, and its cells by column.

    group: calibration, voice or reported; where several tasks are in a table, the task.
    """

    name: str
    note: str
    group: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Table:
    """first: the name of the column of names."""

    first: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


def markdown_table(results: Results) -> str:
    """The tables as Markdown: of many tasks one of all, one of each, and those of a sweep."""
    parts = [f"# {title_of(results)}", summary_of(results)]
    tasks = tasks_of(results)
    if (overview := overview_of(results)).lines:
        parts += [f"## {ALL_TASKS}", _as_markdown(overview)]
    for task in tasks:
        tables = {
            task: table_of(results, task),
            f"{task}, sweep": sweep_of(results, task, tasks[0]),
        }
        for name, table in tables.items():
            if table.lines:
                parts += [f"## {name}", _as_markdown(table)]
    return "\n\n".join(parts) + "\n"


def _as_markdown(table: Table) -> str:
    def row(cells: Iterable[str]) -> str:
        flat = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(flat)} |"

    arrows = {"lower": " ↓", "higher": " ↑"}  # where the better is
    head = [table.first, *(axis(c) + arrows.get(c.better, "") for c in table.columns)]
    rows = [row(head), "|---" + "|---:" * len(table.columns) + "|"]
    for line in table.lines:
        name = f"*{line.name}*" if line.group == "reported" else line.name
        cells = [line.cells.get(c.name, Cell()) for c in table.columns]
        told = [f"{c.text} ({c.small})" if c.small else c.text for c in cells]
        if line.group == "reported":
            told = [text if text == DASH else f"*{text}*" for text in told]
        rows.append(row([f"{name} ({line.note})" if line.note else name, *told]))
    return "\n".join(rows)


def tasks_of(results: Results) -> list[str]:
    """All of them, in the order of the rows."""
    return list(dict.fromkeys(r["task"] for r in [*results["rows"], *results["trials"]]))


def title_of(results: Results) -> str:
    voice, protocol = results["voice"], results["protocol"]
    name = Path(voice.get("outputs") or voice["voice"]).name
    corpus = " ".join(protocol[key] for key in ("corpus", "subset") if protocol.get(key))
    return f"{name}: {protocol['name']}" + (f" on {corpus}" if corpus else "")


def summary_of(results: Results) -> str:
    protocol = results["protocol"]
    limit = protocol.get("limit")
    told = [
        f"{protocol['trials']} trials, {protocol['speakers']} speakers, seed {protocol['seed']}",
        f", at most {limit} utterances a task" if limit else "",
        f"; voiceflow {results['voiceflow']}, {results['date']}. ",
        "Intervals are 95 %, over speakers.",
    ]
    return "".join(told)


def table_of(results: Results, task: str) -> Table:
    """A task's rows: calibration, then what was measured, then what papers report."""
    measured = [row for row in results["rows"] if row["task"] == task]
    columns: dict[str, Column] = {}
    for row in measured:
        for name, figure in row["figures"].items():
            columns.setdefault(name, Column(name, figure["unit"], figure.get("better", "")))
    lines = [_measured(row, row["system"], columns) for row in measured]
    lines.sort(key=lambda line: line.group != "calibration")
    for row in results.get("reported", ()):
        if row["task"] != task:
            continue
        cells = {}
        for name, figure in row["figures"].items():
            # "WER" stands under "WER (pocketsphinx)": marked, since another listener counted.
            place = next((c for c in columns if c == name or c.startswith(f"{name} (")), name)
            column = columns.setdefault(place, Column(place, figure["unit"]))
            cells[place] = _cell(figure, column.unit)
        note = "; ".join(filter(None, (row.get("note") or AS_REPORTED, row.get("source"))))
        lines.append(Line(row["system"], note, "reported", cells))
    return Table("system", (*columns.values(), *_costs(measured)), tuple(lines))


def overview_of(results: Results) -> Table:
    """The rows of all tasks, with the figures that they share; empty of one task, or of two."""
    tables = {task: table_of(results, task) for task in tasks_of(results)}
    every = list(dict.fromkeys(c for table in tables.values() for c in table.columns))
    figures = [c for name in _OVERVIEW for c in every if c.name.startswith(name)]
    costs = [c for c in every if c.name in (_COSTS["trials"], _COSTS["failed"])]
    if len(tables) < 3 or not figures:
        return Table("", (), ())
    lines = tuple(
        Line(f"{task}: {line.name}", line.note, task, line.cells)
        for task, table in tables.items()
        for line in table.lines
        if line.group != "reported"
    )
    return Table("task: system", (*figures, *costs), lines)


def sweep_of(results: Results, task: str, first_task: str) -> Table:
    """A line for each setting that was tried; empty where there was no sweep."""
    points = points_of(results, task, first_task)
    columns: dict[str, Column] = {}
    for point in points:
        for name, figure in point["figures"].items():
            columns.setdefault(name, Column(name, figure["unit"], figure.get("better", "")))
    lines = [
        _measured(p, f"{setting_of(p)}, {p['steps']} steps", columns, "voice") for p in points
    ]
    return Table("setting", (*columns.values(), *_costs(points)), tuple(lines))


def points_of(results: Results, task: str, first_task: str) -> list[Results]:
    """A task's points of the sweep; one that names no task is of the first."""
    return [p for p in results.get("sweep") or () if p.get("task", first_task) == task]


def setting_of(point: Results) -> str:
    grid = f", {point['grid']}" if point.get("grid") else ""
    return f"{point['solver']}{grid}, guidance {point['guidance']:g}"


def _costs(rows: Sequence[Results]) -> list[Column]:
    """Those columns that any of the rows has."""
    found = [key for key in _COSTS if any(row.get(key) is not None for row in rows)]
    if not any(row.get("failed") for row in rows):
        found = [key for key in found if key != "failed"]
    return [Column(_COSTS[key]) for key in found]


def _measured(row: Results, name: str, columns: Mapping[str, Column], group: str = "") -> Line:
    calibration = group == "" and row["system"] in CALIBRATION
    cells = {
        name: _cell(figure, columns[name].unit, row.get("trials"))
        for name, figure in row["figures"].items()
    }
    for key, title in _COSTS.items():
        if row.get(key) is not None:
            value = float(row[key])
            cells[title] = Cell(f"{value:.2f}" if key == "rtf" else f"{value:g}", "", value)
    group = group or ("calibration" if calibration else "voice")
    return Line(name, "calibration" if calibration else "", group, cells)


def _cell(figure: Results, unit: str, trials: int | None = None) -> Cell:
    value, low, high = (figure.get(key) for key in ("value", "low", "high"))
    if not finite(value):
        return Cell()
    small = []
    if finite(low) and finite(high):
        small.append(f"{_number(low, unit)} to {_number(high, unit)}")
    count = figure.get("count")
    if count is not None and trials is not None and count < trials:
        small.append(f"of {count}")
    return Cell(_number(value, unit), ", ".join(small), float(value))


def finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: float, unit: str) -> str:
    """Shares times 100 with one decimal; others with three decimals, fewer of large ones."""
    if unit == "%":
        return f"{100 * value:.1f}"
    return f"{value:.{3 if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"


def axis(column: Column) -> str:
    return f"{column.name}, {column.unit}" if column.unit else column.name
