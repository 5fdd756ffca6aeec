"""Two results of the same trials beside each other, or the reason why they cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from voiceflow.benchmark.systems import CALIBRATION
from voiceflow.config import UserError
from voiceflow.files import read_json, write_json
from voiceflow.measures.bootstrap import bootstrap_interval
from voiceflow.measures.scorer import Metric

Results = Mapping[str, Any]


def read_results(path: Path) -> dict[str, Any]:
    """A results.json, or that of a folder; UserError where it is none."""
    path = path / "results.json" if path.is_dir() else path
    found = read_json(path)
    if not isinstance(found, dict) or not {"protocol", "rows", "trials", "metrics"} <= set(found):
        raise UserError(f"{path} is not the results.json of a benchmark")
    return found


def why_not(a: Results, b: Results) -> list[str]:
    """What makes two results incomparable, a reason each."""
    reasons = []
    if a["protocol"]["name"] != b["protocol"]["name"]:
        reasons.append(f"protocols {a['protocol']['name']} and {b['protocol']['name']}")
    elif a["protocol"]["sha256"] != b["protocol"]["sha256"]:
        told = [
            f"{p.get('subset', '?')}, seed {p['seed']}, {p['trials']} trials"
            for p in (a["protocol"], b["protocol"])
        ]
        reasons.append(f"other lists of trials ({told[0]}; {told[1]})")
    shared = set(a["scorers"]) & set(b["scorers"])
    if not shared:
        reasons.append(
            f"no scorer in common ({', '.join(a['scorers'])}; {', '.join(b['scorers'])})"
        )
    for name in sorted(shared):
        mine, theirs = a["scorers"][name], b["scorers"][name]
        if differing := sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k)):
            reasons.append(f"scorer {name} was another: {', '.join(differing)}")
    return reasons


def tested(results: Results) -> list[str]:
    """The systems under test, by the names that their trials' scores stand under."""
    named = (system for trial in results["trials"] for system in trial["scores"])
    return [system for system in dict.fromkeys(named) if system not in CALIBRATION]


def differences(a: Results, b: Results) -> list[dict[str, Any]]:
    """B less A of every metric that both have, a row each, paired trial by trial.

    All seeds of a voice count: a trial's numbers are their means. Sets (Fréchet distances) have no
    trials and are left out. Raises UserError where the two cannot be compared.
    """
    if reasons := why_not(a, b):
        raise UserError("these results cannot be compared: " + "; ".join(reasons))
    theirs = {t["id"]: t for t in b["trials"]}
    rows = []
    for task in dict.fromkeys(t["task"] for t in a["trials"]):
        pairs = [(t, theirs[t["id"]]) for t in a["trials"] if t["task"] == task]
        for name, told in a["metrics"].items():
            if told["columns"] is None or name not in b["metrics"]:
                continue
            columns, scorer = told["columns"], told["scorer"]
            made = [
                (x + y, one["speaker"])
                for one, other in pairs
                if (x := _numbers(one, tested(a), scorer, columns)) is not None
                and (y := _numbers(other, tested(b), scorer, columns)) is not None
            ]
            if made:
                rows.append(_row(task, name, told, made))
    if not rows:
        raise UserError("these results cannot be compared: no trial was scored in both")
    return rows


def _numbers(
    trial: Results, systems: list[str], scorer: str, columns: list[str]
) -> list[float] | None:
    """Each column's mean over the seeds that have all of them."""
    found = [
        [scores[c] for c in columns]
        for system in systems
        if all(
            isinstance(
                (scores := trial["scores"].get(system, {}).get(scorer, {})).get(c), int | float
            )
            for c in columns
        )
    ]
    return list(np.mean(found, axis=0)) if found else None


def _row(
    task: str, name: str, told: Results, made: list[tuple[list[float], str]]
) -> dict[str, Any]:
    columns = told["columns"]
    metric = (
        Metric.mean(columns[0], told["better"]) if len(columns) == 1
        else Metric.ratio(columns[0], columns[1], told["better"])
    )  # fmt: skip
    values = np.array([numbers for numbers, _ in made], float)
    n = len(columns)

    def figure(means: np.ndarray) -> np.ndarray:
        difference: np.ndarray = metric.figure(means[:, n:]) - metric.figure(means[:, :n])
        return difference

    means = values.mean(0, keepdims=True)
    low, high = bootstrap_interval(values, [speaker for _, speaker in made], figure)
    better = None if low <= 0 <= high else (low > 0) == (told["better"] == "higher")
    return {
        "task": task, "metric": name, "unit": told["unit"], "trials": len(made),
        "a": float(metric.figure(means[:, :n])[0]), "b": float(metric.figure(means[:, n:])[0]),
        "difference": float(figure(means)[0]), "low": low, "high": high, "b_is_better": better,
    }  # fmt: skip


def compare_results(first: Path, second: Path, out: Path | None = None) -> list[dict[str, Any]]:
    """Print the differences as a table, and write them as JSON."""
    a, b = read_results(first), read_results(second)
    rows = differences(a, b)
    print(f"A: {', '.join(tested(a))} ({first})\nB: {', '.join(tested(b))} ({second})\n")
    print("| task | metric | A | B | B - A | 95 % interval | trials | B is |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        scale, unit = (100, " %") if row["unit"] == "%" else (1, "")
        a_is, b_is, by, low, high = (
            f"{scale * row[key]:.{1 if unit else 3}f}"
            for key in ("a", "b", "difference", "low", "high")
        )
        verdict = {None: "as good", True: "better", False: "worse"}[row["b_is_better"]]
        print(
            f"| {row['task']} | {row['metric']} | {a_is}{unit} | {b_is}{unit} | {by} "
            f"| {low} to {high} | {row['trials']} | {verdict} |"
        )
    if out is not None:
        write_json(out, {"a": str(first), "b": str(second), "rows": rows})
    return rows
