"""What `voiceflow benchmark` and `voiceflow benchmark sweep` do, from the corpus to the report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from voiceflow.benchmark.protocols import (
    DIVERSE,
    INFILL,
    LIKELIHOOD,
    LISTED,
    SILENT,
    SPEED,
    TASKS,
)
from voiceflow.benchmark.result import collect, write_results
from voiceflow.benchmark.run import Benchmark, set_up
from voiceflow.benchmark.scorers import make_scorers, parse_scorers
from voiceflow.benchmark.systems import NOISY
from voiceflow.benchmark.work import Generate, Judge, Weigh, leads, require_same, work_off
from voiceflow.config import BenchmarkConfig, UserError, load_group
from voiceflow.data.executors import Executor
from voiceflow.data.manifest import Utterance
from voiceflow.jobs import SampleOptions
from voiceflow.voice import Voice


def run(
    utterances: Sequence[Utterance],
    *,
    protocols: Sequence[str],
    corpus: dict[str, str],
    out: Path,
    voice: str,
    scorers: str,
    limit: int | None = None,
    seeds: int | None = None,
    seed: int = 0,
    listed: Path | None = None,
    outputs: Path | None = None,
    sampling: SampleOptions | None = None,
    executor: Executor | None = None,
    device: str = "cpu",
    trials_only: bool = False,
    calibrate: bool = True,
) -> list[dict[str, Any]]:
    """Measure a voice by protocols, each in `out` or, of several, in a folder of its own.

    sampling: what is asked for instead of the voice's own preset; device: of the voice's network
    and of the scorers that are networks; calibrate: also score the recordings themselves,
    resynthesised and by Griffin-Lim.

    Returns what stands in each results.json; of a process that does not lead, nothing. Raises
    UserError, before anything is generated, for whatever can be known by then.
    """
    from voiceflow.benchmark.tables import markdown_table

    asked = parse_scorers(scorers)
    loaded = Voice.load(voice)
    todo = []
    for name in protocols:
        protocol = load_group(BenchmarkConfig, "benchmark", name.strip())
        if outputs is not None and (own := set(protocol.tasks) & {*SILENT, SPEED}):
            raise UserError(f"--outputs are sounds: {', '.join(own)} is measured of voices alone")
        if listed is not None and LISTED not in protocol.tasks:
            raise UserError(f"--list is for librispeech-pc, not for {protocol.name}")
        told = sampling or {}
        if told.get("guidance") is None:
            told = {**told, "guidance": protocol.guidance}
        settings = loaded.settings(**told)
        folder = out / protocol.name if len(protocols) > 1 else out
        benchmark = Benchmark(
            folder, voice, settings, str(outputs or ""), seed, seeds or protocol.seeds, calibrate,
            device,
        )  # fmt: skip
        todo.append((protocol, benchmark))
    found = []
    for protocol, benchmark in todo:
        trials = set_up(benchmark, protocol, utterances, corpus=corpus, limit=limit, listed=listed)
        if leads():
            print(f"{protocol.name}: {len(trials)} trials, in {benchmark.out}", flush=True)
        generate = Generate(benchmark)
        units = generate.units(trials)
        if trials_only:
            # Noise is part of a trial: what another system is to be given.
            noisy = [unit for unit in units if unit[0] == NOISY]
            work_off(generate, noisy, executor, "noisy recordings")
            continue
        heard = [] if set(protocol.tasks) <= {*SILENT, SPEED} else asked
        judge = Judge(benchmark, tuple(heard))
        if heard:
            # Before the long work: all that is missing, and scores by other scorers.
            require_same(benchmark, make_scorers(heard, judge.setting()))
        weigh = Weigh(benchmark)
        if LIKELIHOOD in protocol.tasks:
            require_same(benchmark, {LIKELIHOOD: weigh})
        work_off(generate, units, executor, "sounds")
        work_off(judge, judge.units(trials), executor, "scores")
        if LIKELIHOOD in protocol.tasks:
            work_off(weigh, weigh.units(trials), executor, "likelihoods")
        if not leads():
            continue
        results = collect(benchmark, protocol, trials, judge)
        write_results(benchmark, results)
        print(markdown_table(results))
        print(f"{benchmark.out / 'report.html'}", flush=True)
        found.append(results)
    return found


def run_sweep(
    utterances: Sequence[Utterance],
    *,
    protocol: str,
    corpus: dict[str, str],
    out: Path,
    voice: str,
    scorers: str,
    limit: int,
    seed: int,
    steps: Sequence[int],
    solvers: Sequence[str],
    guidances: Sequence[float],
    grids: Sequence[str | None] = (None,),
    executor: Executor | None = None,
) -> dict[str, Any]:
    """The same trials with other settings; the first of them with calibration, for the report.

    grids: as `SampleOptions` has them, None for the voice's own.
    Each is a benchmark of its own under `out`, and goes on where it stopped; the result of the
    whole is that of the first with all points beside it.
    """
    from voiceflow.benchmark.tables import markdown_table

    config = load_group(BenchmarkConfig, "benchmark", protocol)
    if not set(config.tasks) <= set(TASKS) - {*SILENT, SPEED, LISTED}:
        raise UserError(
            f"a sweep is of voicebox, {INFILL}, denoise, {DIVERSE} or tasks, not of {protocol}"
        )
    whole: dict[str, Any] = {}
    points = []
    every = product(solvers, grids, steps, guidances)
    for number, (solver, grid, n, guidance) in enumerate(every):
        folder = out / "-".join(
            [solver, *([grid.replace(":", "")] if grid else []), str(n), f"{guidance:g}"]
        )
        made = run(
            utterances, protocols=[protocol], corpus=corpus, out=folder, voice=voice,
            scorers=scorers, limit=limit, seed=seed,
            sampling={"steps": n, "guidance": guidance, "solver": solver, "grid": grid},
            executor=executor, calibrate=number == 0,
        )  # fmt: skip
        if not made:
            continue
        [results] = made
        whole = whole or {**results, "folder": folder}
        points += [
            {"task": row["task"], "solver": solver, "grid": grid, "steps": n, "guidance": guidance,
             "nfe": row["nfe"], "network_passes": row["network_passes"], "rtf": row["rtf"],
             "figures": row["figures"]}
            for row in results["rows"] if row["seed"] is not None
        ]  # fmt: skip
    if whole and leads():
        folder = whole.pop("folder")
        whole["sweep"] = points
        write_results_of_sweep(out, folder, whole)
        print(markdown_table(whole))
    return whole


def write_results_of_sweep(out: Path, folder: Path, results: dict[str, Any]) -> None:
    """sweep.json and sweep.html in `out`; folder: where the first point's sounds are."""
    from voiceflow.benchmark.report import write_report
    from voiceflow.files import write_json

    write_json(out / "sweep.json", results)
    write_report(results, folder, out / "sweep.html")
