"""`voiceflow benchmark`: a voice measured as the papers do, and two measurements compared."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli import costs
from voiceflow.cli.costs import JsonOption
from voiceflow.cli.options import (
    ContextGuidanceOption,
    DtypeOption,
    GridOption,
    GuidanceOption,
    PresetOption,
    SolverOption,
    StepsOption,
    VoiceOption,
)

app = typer.Typer(
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
)


class ExecutorName(StrEnum):
    """Who does the work."""

    processes = "processes"
    ray = "ray"


@app.callback()
def benchmark(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="The LibriSpeech folder, which holds the subsets."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where all goes; given again, it goes on.")
    ] = None,
    subset: Annotated[str, typer.Option(help="The subset that is spoken.")] = "test-clean",
    protocol: Annotated[
        str,
        typer.Option(
            help="voicebox, librispeech-pc, infill, denoise, diverse, tasks, durations, likelihood "
            "or speed; several with commas, each then in a folder of its own."
        ),
    ] = "voicebox",
    scorers: Annotated[
        str,
        typer.Option(
            help="offline, paper, or names with commas; NAME=FOLDER for a model of one's own."
        ),
    ] = "offline",
    voice: VoiceOption = "mini",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Utterances a task, one of each speaker first.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Samples a trial; the protocol's if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the list of trials and the first sample.")] = 0,
    listed: Annotated[
        Path | None, typer.Option("--list", help="For librispeech-pc: the list of pairs.")
    ] = None,
    outputs: Annotated[
        Path | None,
        typer.Option(help="Score these sounds (TRIAL.wav) in the place of the voice's."),
    ] = None,
    preset: PresetOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    context_guidance: ContextGuidanceOption = None,
    solver: SolverOption = None,
    grid: GridOption = None,
    dtype: DtypeOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    executor: Annotated[ExecutorName, typer.Option(help="Who does the work.")] = (
        ExecutorName.processes
    ),
    address: Annotated[str, typer.Option(help="For ray: the cluster.")] = "auto",
    device: Annotated[
        str, typer.Option(help="Of the voice's network and of scorers that are networks.")
    ] = "cpu",
    calibrate: Annotated[
        bool,
        typer.Option(
            help="Also score the recordings themselves, resynthesised and by Griffin-Lim."
        ),
    ] = True,
    trials_only: Annotated[
        bool,
        typer.Option(
            "--trials-only", help="Write the list of trials, and noisy recordings, and stop."
        ),
    ] = False,
) -> None:
    """Measure a voice by a protocol: trials, sounds, scores, results.json, report.html.

    [bold]Example:[/bold]

    voiceflow benchmark --voice mini --data LibriSpeech --subset test-clean \\
        --protocol voicebox --scorers offline --out runs/benchmark
    """
    if context.invoked_subcommand is not None:
        return
    from voiceflow.benchmark.main import run
    from voiceflow.cli.prepare import read_utterances
    from voiceflow.config import UserError
    from voiceflow.data.executors import Executor, Processes, Ray

    if data is None or out is None:
        raise UserError(
            "a benchmark needs --data, the LibriSpeech folder, and --out, a folder for its result "
            "(voiceflow benchmark --help)"
        )
    others: Executor | None = Processes(workers) if workers > 1 else None
    if executor is ExecutorName.ray:
        others = Ray(address)
    run(
        read_utterances(data, subset),
        protocols=protocol.split(","),
        corpus={"corpus": "LibriSpeech", "subset": subset},
        out=out,
        voice=voice,
        scorers=scorers,
        limit=limit,
        seeds=seeds,
        seed=seed,
        listed=listed,
        outputs=outputs,
        sampling={
            "preset": preset, "steps": steps, "guidance": guidance,
            "context_guidance": context_guidance, "solver": solver, "grid": grid, "dtype": dtype,
        },
        executor=others,
        device=device,
        trials_only=trials_only,
        calibrate=calibrate,
    )


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="results.json, or its folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The same of another voice.")],
    json: JsonOption = None,
) -> None:
    """Differences of two results, B less A, trial by trial, with 95 % intervals over speakers.

    [bold]Example:[/bold]

    voiceflow benchmark compare runs/first/results.json runs/second/results.json
    """
    from voiceflow.benchmark.compare import compare_results

    compare_results(first, second, out=json)


@app.command()
def sweep(
    data: Annotated[Path, typer.Option("--data", help="The LibriSpeech folder.")],
    out: Annotated[Path, typer.Option("--out", help="Where all goes; given again, it goes on.")],
    subset: Annotated[str, typer.Option(help="The subset that is spoken.")] = "test-clean",
    protocol: Annotated[
        str, typer.Option(help="voicebox, infill, denoise, diverse or tasks.")
    ] = "voicebox",
    scorers: Annotated[str, typer.Option(help="As `voiceflow benchmark` takes them.")] = "offline",
    voice: VoiceOption = "mini",
    limit: Annotated[int, typer.Option(min=1, help="Utterances a task.")] = 20,
    step: Annotated[
        list[int], typer.Option(min=1, help="Solver steps; may be given several times.")
    ] = [4, 8, 16],  # noqa: B006
    solver: Annotated[
        list[str], typer.Option(help="May be given several times.")
    ] = ["midpoint"],  # noqa: B006
    guidance: Annotated[
        list[float], typer.Option(min=0.0, help="May be given several times.")
    ] = [0.0, 0.5, 1.0],  # noqa: B006
    grid: Annotated[
        list[str] | None,
        typer.Option(help="uniform, cosine, sway:-0.5, ...; the voice's own if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the list of trials and of the samples.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
) -> None:
    """Quality against compute: the same trials with other steps, solvers, grids and guidance.

    [bold]Example:[/bold]

    voiceflow benchmark sweep --data LibriSpeech --out runs/sweep --limit 20
    """
    from voiceflow.benchmark.main import run_sweep
    from voiceflow.cli.prepare import read_utterances
    from voiceflow.data.executors import Processes

    run_sweep(
        read_utterances(data, subset),
        protocol=protocol,
        corpus={"corpus": "LibriSpeech", "subset": subset},
        out=out,
        voice=voice,
        scorers=scorers,
        limit=limit,
        seed=seed,
        steps=step,
        solvers=solver,
        guidances=guidance,
        grids=grid or (None,),
        executor=Processes(workers) if workers > 1 else None,
    )


for _verb in (costs.speed, costs.sampling, costs.scaling, costs.ablation):
    app.command()(_verb)
