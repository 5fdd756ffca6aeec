"""One table of what both voices say, of all budgets and seeds, and one of their differences.

    python recipes/aligned_or_not/table.py runs/aligned_or_not --budgets 1000 2000 --seeds 0 1

reads measured-TEXT-SEED-BUDGET of the folder, as `run.sh` makes them, and prints Markdown. The
differences are of both seeds together, trial by trial, with intervals over speakers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voiceflow.benchmark.compare import differences, read_results
from voiceflow.benchmark.systems import CALIBRATION
from voiceflow.benchmark.tables import markdown_table

TEXTS = {"aligned": "aligned phones", "unaligned": "unaligned letters"}
FIGURES = ("PER (ctc)", "PER (pocketsphinx)", "WER (pocketsphinx)", "matching",
           "SIM-o (resemblyzer)", "DNSMOS (overall)")  # fmt: skip
Results = dict[str, Any]


def as_one(named: Mapping[str, Results]) -> Results:
    """Results of the same trials as one, whose systems under test are those of all, renamed.

    The rows that calibrate are those of the first that has them.
    """
    first = next(iter(named.values()))
    rows: dict[str, Results] = {}
    trials: dict[str, Results] = {t["id"]: {**t, "scores": {}} for t in first["trials"]}
    for name, results in named.items():
        for row in results["rows"]:
            system = row["system"] if row["system"] in CALIBRATION else name
            told = {k: v for k, v in row["figures"].items() if k in FIGURES}
            rows.setdefault(system, {**row, "system": system, "figures": told, "rtf": None})
        for trial in results["trials"]:
            for system, scores in trial["scores"].items():
                if system not in CALIBRATION:
                    trials[trial["id"]]["scores"][name] = scores
    return {**first, "rows": list(rows.values()), "trials": list(trials.values()), "reported": []}


def table(runs: Path, budgets: Sequence[int], seeds: Sequence[int]) -> str:
    """All figures, then, budget by budget, the aligned voice less the unaligned."""
    named = {
        (text, number, seed): read_results(runs / f"measured-{text}-{seed}-{number}")
        for number in range(len(budgets)) for text in TEXTS for seed in seeds
    }  # fmt: skip
    every = as_one({
        f"{TEXTS[text]}, {budgets[number]} updates, seed {seed}": results
        for (text, number, seed), results in named.items()
    })  # fmt: skip
    parts = [markdown_table(every).partition("\n\n")[2]]
    parts += ["| updates | metric | letters | phones | difference | 95 % interval |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for number, updates in enumerate(budgets):
        phones, letters = (
            as_one({f"{text}-{seed}": named[text, number, seed] for seed in seeds})
            for text in TEXTS
        )
        for row in differences(letters, phones):
            if row["metric"] in FIGURES:
                scale, unit = (100, " %") if row["unit"] == "%" else (1, "")
                a, b, by, low, high = (
                    f"{scale * row[k]:.{1 if unit else 3}f}"
                    for k in ("a", "b", "difference", "low", "high")
                )
                parts.append(f"| {updates} | {row['metric']} | {a}{unit} | {b}{unit} | {by} "
                             f"| {low} to {high} |")  # fmt: skip
    return "\n".join(parts)


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    asked = parser.parse_args()
    print(table(asked.runs, asked.budgets, asked.seeds))


if __name__ == "__main__":
    main()
