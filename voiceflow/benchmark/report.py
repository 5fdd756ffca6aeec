"""The page of a benchmark, whole in one file: tables, plots, sounds; and the tables as Markdown.

Nothing is loaded from elsewhere: sounds (FLAC) and spectrograms stand in the page itself.
"""

from __future__ import annotations

import base64
import io
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any, TypeGuard

import numpy as np

from voiceflow.audio.io import Recording, from_float, read
from voiceflow.benchmark.systems import CALIBRATION, ORIGINAL, PROMPT, RESYNTHESIS
from voiceflow.files import replacing
from voiceflow.measures.words import normalised

Results = Mapping[str, Any]

DASH = "–"
AS_REPORTED = "as reported, other scorers"
_RANDOM = 3  # examples beside the best and the worst
_MOST_BYTES = 6_000_000  # of the page, about
_BYTES_IN_PAGE = 0.8  # of FLAC in base64, picture and all, for one of 16-bit PCM
_PANELS = ("WER", "SIM-o", "DNSMOS", "CER", "PER", "matching")  # of a sweep, those that are there
_MOST_PANELS = 4
_COSTS = {"trials": "trials", "failed": "failed", "nfe": "NFE", "network_passes": "passes",
          "rtf": "RTF"}  # fmt: skip


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
    """A row: its name, a note, and its cells by column; group: calibration, voice or reported."""

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


def write_report(results: Results, folder: Path, out: Path) -> None:
    """Write the page of a result (as results.json has it) to `out`; folder: where its sounds are.

    Sounds that are not there are left out. Raises UserError when the file cannot be written, or a
    sound that is there cannot be read.
    """
    tasks = _tasks(results)
    title = _title(results)
    links = "".join(f'<a href="#{escape(t)}">{escape(t)}</a>' for t in tasks)
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f"<p>{escape(_summary(results))}</p>",
        f"<nav>{links}</nav>" if len(tasks) > 1 else "",
        "</header>",
        _made_with(results),
        *(part for task in tasks for part in _task(results, task, tasks[0], folder)),
    ]
    template = Template(Path(__file__).with_suffix(".html").read_text("utf-8"))
    page = template.substitute(title=escape(title), body="\n".join(filter(None, body)))
    with replacing(out) as temporary:
        temporary.write_text(page, "utf-8")


def markdown_table(results: Results) -> str:
    """The tables as Markdown: one of each task, and those of a sweep."""
    parts = [f"# {_title(results)}", _summary(results)]
    tasks = _tasks(results)
    for task in tasks:
        tables = {task: _table(results, task), f"{task}, sweep": _sweep(results, task, tasks[0])}
        for name, table in tables.items():
            if table.lines:
                parts += [f"## {name}", _as_markdown(table)]
    return "\n\n".join(parts) + "\n"


def _as_markdown(table: Table) -> str:
    def row(cells: Iterable[str]) -> str:
        flat = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(flat)} |"

    arrows = {"lower": " ↓", "higher": " ↑", "": ""}  # where the better is
    head = [table.first, *(_axis(c) + arrows[c.better] for c in table.columns)]
    rows = [row(head), "|---" + "|---:" * len(table.columns) + "|"]
    for line in table.lines:
        name = f"*{line.name}*" if line.group == "reported" else line.name
        cells = [line.cells.get(c.name, Cell()) for c in table.columns]
        told = [f"{c.text} ({c.small})" if c.small else c.text for c in cells]
        if line.group == "reported":
            told = [text if text == DASH else f"*{text}*" for text in told]
        rows.append(row([f"{name} ({line.note})" if line.note else name, *told]))
    return "\n".join(rows)


def _tasks(results: Results) -> list[str]:
    """All of them, in the order of the rows."""
    return list(dict.fromkeys(r["task"] for r in [*results["rows"], *results["trials"]]))


def _title(results: Results) -> str:
    voice, protocol = results["voice"], results["protocol"]
    name = Path(voice.get("outputs") or voice["voice"]).name
    corpus = " ".join(protocol[key] for key in ("corpus", "subset") if protocol.get(key))
    return f"{name}: {protocol['name']}" + (f" on {corpus}" if corpus else "")


def _summary(results: Results) -> str:
    protocol = results["protocol"]
    limit = protocol.get("limit")
    told = [
        f"{protocol['trials']} trials, {protocol['speakers']} speakers, seed {protocol['seed']}",
        f", at most {limit} utterances a task" if limit else "",
        f"; voiceflow {results['voiceflow']}, {results['date']}. ",
        "Intervals are 95 %, over speakers.",
    ]
    return "".join(told)


def _table(results: Results, task: str) -> Table:
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


def _sweep(results: Results, task: str, first_task: str) -> Table:
    """A line for each setting that was tried; empty where there was no sweep."""
    points = _points(results, task, first_task)
    columns: dict[str, Column] = {}
    for point in points:
        for name, figure in point["figures"].items():
            columns.setdefault(name, Column(name, figure["unit"], figure.get("better", "")))
    lines = [
        _measured(p, f"{_setting(p)}, {p['steps']} steps", columns, "voice") for p in points
    ]
    return Table("setting", (*columns.values(), *_costs(points)), tuple(lines))


def _points(results: Results, task: str, first_task: str) -> list[Results]:
    """A task's points of the sweep; one that names no task is of the first."""
    return [p for p in results.get("sweep") or () if p.get("task", first_task) == task]


def _setting(point: Results) -> str:
    return f"{point['solver']}, guidance {point['guidance']:g}"


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
    if not _finite(value):
        return Cell()
    small = []
    if _finite(low) and _finite(high):
        small.append(f"{_number(low, unit)} to {_number(high, unit)}")
    count = figure.get("count")
    if count is not None and trials is not None and count < trials:
        small.append(f"of {count}")
    return Cell(_number(value, unit), ", ".join(small), float(value))


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: float, unit: str) -> str:
    """Shares times 100 with one decimal; others with three decimals, fewer of large ones."""
    if unit == "%":
        return f"{100 * value:.1f}"
    return f"{value:.{3 if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"


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


def _task(results: Results, task: str, first_task: str, folder: Path) -> Iterator[str]:
    """A task's part of the page."""
    voice = _first_voice(results, task)
    trials = [t for t in results["trials"] if t["task"] == task]
    yield f'<section id="{escape(task)}"><h2>{escape(task)}</h2>'
    yield _as_html(_table(results, task))
    yield _failures(trials)
    plots = [*_quality(results, task), *(_speakers(trials, voice, task) if voice else ())]
    yield f'<div class="plots">{"".join(plots)}</div>' if plots else ""
    sweep = _sweep(results, task, first_task)
    if sweep.lines:
        yield "<h3>Quality against compute</h3>"
        yield _as_html(sweep)
        panels = _sweep_plots(_points(results, task, first_task), sweep, task)
        yield f'<div class="plots">{"".join(panels)}</div>'
    if voice:
        yield from _listening(results, trials, voice, folder)
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

    table = _table(results, task)
    wer, sim = (next((c for c in table.columns if c.name.startswith(s)), None)
                for s in ("WER", "SIM-o"))  # fmt: skip
    if wer is None or sim is None:
        return []
    spots = []
    for row in (r for r in results["rows"] if r["task"] == task):
        pair = [row["figures"].get(c.name) for c in (sim, wer)]
        if all(figure and _finite(figure["value"]) for figure in pair):
            x, y = (_interval(f, c.unit) for f, c in zip(pair, (sim, wer), strict=True))
            spots.append(Spot(row["system"], x, y, row["system"] in CALIBRATION))
    if not spots:
        return []
    svg = quality_svg(spots, _axis(sim), _axis(wer), f"{task}: errors against likeness")
    return [_figure(svg, "Errors against likeness; the better, the further down and right.")]


def _interval(figure: Results, unit: str) -> Any:
    from voiceflow.pictures.benchmark import Interval

    scale = 100.0 if unit == "%" else 1.0
    numbers = (figure.get(key) for key in ("value", "low", "high"))
    value, low, high = (scale * n if _finite(n) else None for n in numbers)
    return Interval(value or 0.0, low, high)


def _axis(column: Column) -> str:
    return f"{column.name}, {column.unit}" if column.unit else column.name


def _speakers(trials: Sequence[Results], voice: str, task: str) -> list[str]:
    """WER by speaker: a voice's, and the original's beside it."""
    from voiceflow.pictures.benchmark import speakers_svg

    counts: dict[str, dict[str, np.ndarray]] = {s: defaultdict(lambda: np.zeros(2))
                                                for s in (voice, ORIGINAL)}  # fmt: skip
    for trial in trials:
        for system, mine in counts.items():
            if (found := _errors(trial, system)) is not None:
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


def _errors(trial: Results, system: str) -> tuple[float, float] | None:
    """Word errors and words of a trial; None where they were not counted."""
    scores = trial["scores"].get(system, {})
    errors, words = scores.get("word_errors"), scores.get("words")
    return (errors, words) if _finite(errors) and _finite(words) and words > 0 else None


def _sweep_plots(points: Sequence[Results], table: Table, task: str) -> list[str]:
    """Some figures against the passes through the network, or else against NFE."""
    from voiceflow.pictures.benchmark import sweep_svg

    cost = "network_passes" if all(_finite(p.get("network_passes")) for p in points) else "nfe"
    x_name = "network passes" if cost == "network_passes" else "evaluations of the velocity (NFE)"
    firsts = [next((c for c in table.columns if c.name.startswith(p)), None) for p in _PANELS]
    found = []
    for column in [c for c in firsts if c is not None][:_MOST_PANELS]:
        lines: dict[str, list[Any]] = {}
        for point in points:
            figure = point["figures"].get(column.name)
            if figure and _finite(figure["value"]) and _finite(point.get(cost)):
                pair = (float(point[cost]), _interval(figure, column.unit))
                lines.setdefault(_setting(point), []).append(pair)
        if lines:
            name = f"{task}: {column.name} against {x_name}"
            found.append(_figure(sweep_svg(lines, x_name, _axis(column), name), ""))
    return found


def _listening(
    results: Results, trials: Sequence[Results], voice: str, folder: Path
) -> Iterator[str]:
    """Trials of a voice to listen to: the best, the worst, and some at random."""
    sounding = [t for t in trials if _sound(t, voice, folder) is not None]
    chosen = _chosen(sounding, voice, results["protocol"]["seed"])
    share = _MOST_BYTES / len(_tasks(results))
    while len(chosen) > 2 and _page_bytes(chosen, voice, folder) > share:
        chosen.pop()
    if not chosen:
        return
    yield f"<h3>Listening to {escape(voice)}</h3>"
    yield (
        '<p class="quiet">The best and the worst by word errors, and some at random. Spectrograms '
        "of a trial are drawn to one scale of time, 0 to 8 kHz. In what the recogniser heard, "
        "<mark>marked</mark> words are not those of the text, and <del>struck</del> ones are "
        "missing.</p>"
    )
    for why, trial in chosen:
        yield _example(trial, voice, folder, why)


def _chosen(trials: Sequence[Results], voice: str, seed: int) -> list[tuple[str, Results]]:
    """Why, and which: by share of wrong words, ties by id, then others by the seed."""
    ordered = sorted(trials, key=lambda trial: str(trial["id"]))
    counted = [(e[0] / e[1], t) for t in ordered if (e := _errors(t, voice)) is not None]
    found = []
    if counted:
        found.append(("best", min(counted, key=lambda pair: pair[0])[1]))
    if len(counted) > 1:
        worst = max(share for share, _ in counted)
        others = [t for share, t in counted if share == worst and t is not found[0][1]]
        found += [("worst", t) for t in others[:1]]
    rest = [t for t in ordered if all(t is not other for _, other in found)]
    drawn = random.Random(f"listening {seed}").sample(rest, min(_RANDOM, len(rest)))
    return found + [("at random", t) for t in drawn]


def _sound(trial: Results, system: str, folder: Path) -> Path | None:
    """A trial's sound, if it is there."""
    name = trial.get("sounds", {}).get(system)
    return folder / name if name and (folder / name).is_file() else None


def _sounds(trial: Results, voice: str, folder: Path) -> dict[str, Path]:
    systems = (PROMPT, ORIGINAL, RESYNTHESIS, voice)
    return {s: path for s in systems if (path := _sound(trial, s, folder)) is not None}


def _page_bytes(chosen: Sequence[tuple[str, Results]], voice: str, folder: Path) -> float:
    """About how much of the page examples take."""
    paths = [path for _, trial in chosen for path in _sounds(trial, voice, folder).values()]
    return _BYTES_IN_PAGE * sum(path.stat().st_size for path in paths)


def _example(trial: Results, voice: str, folder: Path, why: str) -> str:
    """A trial: its text, and of each sound a player, a spectrogram, and what was heard."""
    from voiceflow.pictures.benchmark import spectrogram_png

    sounds = {s: read(path) for s, path in _sounds(trial, voice, folder).items()}
    longest = max(sound.seconds for sound in sounds.values())
    mels = {s: mel for s, sound in sounds.items() if (mel := _log_mel(sound)) is not None}
    every = np.concatenate(list(mels.values())) if mels else np.zeros(1)
    low, high = float(np.percentile(every, 3)), float(every.max())
    figures = []
    for system, sound in sounds.items():
        seconds = f"{sound.seconds:.1f} s"
        parts = [
            f"<figcaption>{escape(system)} <small>{escape(_counted(trial, system) or seconds)}"
            "</small></figcaption>",
            f'<audio controls preload="metadata" aria-label="{escape(system)}, {seconds}" '
            f'src="{_uri("audio/flac", _flac(sound))}"></audio>',
        ]
        if system in mels:
            picture = _uri("image/png", spectrogram_png(mels[system], low, high))
            width = 100 * sound.seconds / longest
            parts.append(
                f'<div class="band"><img alt="spectrogram of {escape(system)}, {seconds}" '
                f'style="width:{width:.1f}%" src="{picture}"></div>'
            )
        heard = trial["scores"].get(system, {}).get("hypothesis")
        if isinstance(heard, str):
            parts.append(f'<p class="heard">{_marked(trial["text"], heard)}</p>')
        figures.append(f"<figure>{''.join(parts)}</figure>")
    return (
        f'<article class="example"><h4>{escape(why)} <small>{escape(str(trial["id"]))}, '
        f"speaker {escape(str(trial['speaker']))}</small></h4>"
        f'<p class="said">{escape(trial["text"])}</p>'
        f'<div class="sounds">{"".join(figures)}</div></article>'
    )


def _counted(trial: Results, system: str) -> str:
    counts = _errors(trial, system)
    if counts is None:
        return ""
    errors, words = (int(n) for n in counts)
    return f"{errors} error{'s' * (errors != 1)} in {words} word{'s' * (words != 1)}"


def _log_mel(sound: Recording) -> np.ndarray | None:
    """(T, M); None of a sound too short for a frame."""
    import torch

    from voiceflow.audio.features import FeatureSpec, LogMel
    from voiceflow.audio.io import resample

    spec = FeatureSpec()
    wave = resample(sound.mono(), sound.sample_rate, spec.sample_rate)
    try:
        return LogMel(spec)(torch.from_numpy(wave)).numpy()
    except ValueError:
        return None


def _flac(sound: Recording) -> bytes:
    """The sound, mono of 16 bits."""
    import soundfile

    written = io.BytesIO()
    samples = from_float(sound.mono(), "PCM_16")
    soundfile.write(written, samples, sound.sample_rate, format="FLAC", compression_level=1.0)
    return written.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _marked(said: str, heard: str) -> str:
    """What was heard, as HTML: words that were not said marked, words that are missing struck.

    Both texts are normalised as `measures.words.word_errors` does, which counts the same.
    """
    import jiwer

    wanted, found = normalised(said).split(), normalised(heard).split()
    if not wanted or not found:
        chunks = [("insert", [], found), ("delete", wanted, [])]
    else:
        [aligned] = jiwer.process_words(" ".join(wanted), " ".join(found)).alignments
        chunks = [
            (chunk.type, wanted[chunk.ref_start_idx : chunk.ref_end_idx],
             found[chunk.hyp_start_idx : chunk.hyp_end_idx])
            for chunk in aligned
        ]  # fmt: skip
    parts = []
    for kind, missing, words in chunks:
        text = escape(" ".join(missing if kind == "delete" else words))
        tag = {"delete": "del", "equal": ""}.get(kind, "mark")
        if text:
            parts.append(f"<{tag}>{text}</{tag}>" if tag else text)
    return " ".join(parts)
