"""The page of a benchmark, whole in one file: tables, plots, sounds; and the tables as Markdown.

Nothing is loaded from elsewhere: sounds (FLAC) and spectrograms stand in the page itself.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from voiceflow.benchmark.listening import errors_in, listening
from voiceflow.benchmark.systems import CALIBRATION, ORIGINAL
from voiceflow.benchmark.tables import (
    ALL_TASKS,
    DASH,
    Cell,
    Results,
    Table,
    axis,
    finite,
    overview_of,
    points_of,
    setting_of,
    summary_of,
    sweep_of,
    table_of,
    tasks_of,
    title_of,
)
from voiceflow.files import replacing

# Of a sweep, the first four that are there.
_PANELS = ("WER", "SIM-o", "DNSMOS", "phones found", "log-mel error", "CER", "PER", "MCD",
           "matching")  # fmt: skip
_MOST_PANELS = 4


def write_report(results: Results, folder: Path, out: Path) -> None:
    """Write the page of a result (as results.json has it) to `out`; folder: where its sounds are.

    Sounds that are not there are left out. Raises UserError when the file cannot be written, or a
    sound that is there cannot be read.
    """
    tasks = tasks_of(results)
    title = title_of(results)
    links = "".join(f'<a href="#{escape(t)}">{escape(t)}</a>' for t in tasks)
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f"<p>{escape(summary_of(results))}</p>",
        f"<nav>{links}</nav>" if len(tasks) > 1 else "",
        "</header>",
        _made_with(results),
        *_overview(results),
        *(part for task in tasks for part in _task(results, task, tasks[0], folder)),
    ]
    template = Template(Path(__file__).with_suffix(".html").read_text("utf-8"))
    page = template.substitute(title=escape(title), body="\n".join(filter(None, body)))
    with replacing(out) as temporary:
        temporary.write_text(page, "utf-8")


def _as_html(table: Table) -> str:
    """A table that sorts by a click on a head; a body for each group of lines."""
    heads = "".join(
        f'<th scope="col"><button type="button"><span>{escape(name)}</span>'
        f"{_small(told)}</button></th>"
        for name, told in [(table.first, ""), *((c.name, c.told) for c in table.columns)]
    )
    bodies = []
    for group in dict.fromkeys(line.group for line in table.lines):
        rows = []
        for line in table.lines:
            if line.group != group:
                continue
            cells = [line.cells.get(c.name, Cell()) for c in table.columns]
            rows.append(
                f'<tr><th scope="row">{escape(line.name)}{_small(line.note)}</th>'
                + "".join(
                    ("<td>" if c.value is None else f'<td data-value="{c.value!r}">')
                    + f"{escape(c.text)}{_small(c.small)}</td>"
                    for c in cells
                )
                + "</tr>"
            )
        bodies.append(f'<tbody class="{group}">' + "\n".join(rows) + "</tbody>")
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="table"><table class="sorts">'
        f"<thead><tr>{heads}</tr></thead>\n" + "\n".join(bodies) + "</table></div>"
    )


def _small(text: str) -> str:
    return f"<small>{escape(text)}</small>" if text else ""


def _made_with(results: Results) -> str:
    """All ids, hashes and settings, to be unfolded."""
    named = {key: results.get(key) or {} for key in ("voice", "protocol", "machine")}
    named |= {f"scorer {name}": told for name, told in results.get("scorers", {}).items()}
    parts = []
    for title, values in named.items():
        lines = [f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _flat(values)]
        if lines:
            parts.append(f"<h3>{escape(title)}</h3><dl>{''.join(lines)}</dl>")
    return "<details><summary>What it was made with</summary>" + "\n".join(parts) + "</details>"


def _flat(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Names with dots between, and what they are."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        text = values if isinstance(values, str) else json.dumps(values, ensure_ascii=False)
        yield name, text or DASH


def _overview(results: Results) -> Iterator[str]:
    """All tasks in one table, where there are many."""
    table = overview_of(results)
    if table.lines:
        yield f"<section><h2>{escape(ALL_TASKS)}</h2>"
        yield _as_html(table)
        yield "</section>"


def _task(results: Results, task: str, first_task: str, folder: Path) -> Iterator[str]:
    """A task's part of the page."""
    voice = _first_voice(results, task)
    trials = [t for t in results["trials"] if t["task"] == task]
    yield f'<section id="{escape(task)}"><h2>{escape(task)}</h2>'
    yield _as_html(table_of(results, task))
    yield _failures(trials)
    plots = [*_quality(results, task), *(_speakers(trials, voice, task) if voice else ())]
    yield f'<div class="plots">{"".join(plots)}</div>' if plots else ""
    sweep = sweep_of(results, task, first_task)
    if sweep.lines:
        yield "<h3>Quality against compute</h3>"
        yield _as_html(sweep)
        panels = _sweep_plots(points_of(results, task, first_task), sweep, task)
        yield f'<div class="plots">{"".join(panels)}</div>'
    if voice:
        yield from listening(results, trials, voice, folder)
    yield "</section>"


def _first_voice(results: Results, task: str) -> str | None:
    """The first system of a task that was under test."""
    return next(
        (r["system"] for r in results["rows"] if r["task"] == task and r["seed"] is not None), None
    )


def _failures(trials: Sequence[Results]) -> str:
    lines = [
        f"<dt>{escape(trial['id'])}, {escape(system)}</dt><dd>{escape(str(reason))}</dd>"
        for trial in trials
        for system, reason in trial.get("failed", {}).items()
    ]
    if not lines:
        return ""
    return f"<details><summary>{len(lines)} failed</summary><dl>{''.join(lines)}</dl></details>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _quality(results: Results, task: str) -> list[str]:
    """WER against similarity of the task's rows, where both were measured."""
    from voiceflow.pictures.benchmark import Spot, quality_svg

    table = table_of(results, task)
    wer, sim = (next((c for c in table.columns if c.name.startswith(s)), None)
                for s in ("WER", "SIM-o"))  # fmt: skip
    if wer is None or sim is None:
        return []
    spots = []
    for row in (r for r in results["rows"] if r["task"] == task):
        pair = [row["figures"].get(c.name) for c in (sim, wer)]
        if all(figure and finite(figure["value"]) for figure in pair):
            x, y = (_interval(f, c.unit) for f, c in zip(pair, (sim, wer), strict=True))
            spots.append(Spot(row["system"], x, y, row["system"] in CALIBRATION))
    if not spots:
        return []
    svg = quality_svg(spots, axis(sim), axis(wer), f"{task}: errors against likeness")
    return [_figure(svg, "Errors against likeness; the better, the further down and right.")]


def _interval(figure: Results, unit: str) -> Any:
    from voiceflow.pictures.benchmark import Interval

    scale = 100.0 if unit == "%" else 1.0
    numbers = (figure.get(key) for key in ("value", "low", "high"))
    value, low, high = (scale * n if finite(n) else None for n in numbers)
    return Interval(value or 0.0, low, high)



def _speakers(trials: Sequence[Results], voice: str, task: str) -> list[str]:
    """WER by speaker: a voice's, and the original's beside it."""
    from voiceflow.pictures.benchmark import speakers_svg

    counts: dict[str, dict[str, np.ndarray]] = {s: defaultdict(lambda: np.zeros(2))
                                                for s in (voice, ORIGINAL)}  # fmt: skip
    for trial in trials:
        for system, mine in counts.items():
            if (found := errors_in(trial, system)) is not None:
                mine[str(trial["speaker"])] += found
    values = {
        speaker: (100 * found[0] / found[1], 100 * theirs[0] / theirs[1] if theirs[1] else None)
        for speaker, found in counts[voice].items()
        for theirs in [counts[ORIGINAL].get(speaker, np.zeros(2))]
    }
    if len(values) < 2:
        return []
    svg = speakers_svg(values, "word errors, %", voice, f"{task}: word errors by speaker")
    return [_figure(svg, "Word errors of each speaker's trials together.")]


def _sweep_plots(points: Sequence[Results], table: Table, task: str) -> list[str]:
    """Some figures against the passes through the network, or else against NFE."""
    from voiceflow.pictures.benchmark import sweep_svg

    cost = "network_passes" if all(finite(p.get("network_passes")) for p in points) else "nfe"
    x_name = "network passes" if cost == "network_passes" else "evaluations of the velocity (NFE)"
    firsts = [next((c for c in table.columns if c.name.startswith(p)), None) for p in _PANELS]
    found = []
    for column in [c for c in firsts if c is not None][:_MOST_PANELS]:
        lines: dict[str, list[Any]] = {}
        for point in points:
            figure = point["figures"].get(column.name)
            if figure and finite(figure["value"]) and finite(point.get(cost)):
                pair = (float(point[cost]), _interval(figure, column.unit))
                lines.setdefault(setting_of(point), []).append(pair)
        if lines:
            name = f"{task}: {column.name} against {x_name}"
            found.append(_figure(sweep_svg(lines, x_name, axis(column), name), ""))
    return found
