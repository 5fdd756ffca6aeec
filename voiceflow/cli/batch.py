"""`voiceflow batch`: tasks by the thousand, from a file."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.options import DeviceOption, VoiceOption
from voiceflow.cli.task import VocoderOption
from voiceflow.config import UserError


def batch(
    tasks: Annotated[
        Path, typer.Argument(metavar="TASKS.jsonl", help="A task a line, as JSON.")
    ],
    out: Annotated[Path, typer.Option("--out", help="A folder: ID.wav and ID.json of each task.")],
    processes: Annotated[int, typer.Option(min=1, help="Processes of this machine.")] = 1,
    executor: Annotated[str, typer.Option(help="processes, or ray.")] = "processes",
    address: Annotated[str, typer.Option(help="Of the Ray cluster: auto, local, ...")] = "auto",
    voice: VoiceOption = "mini",
    vocoder: VocoderOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Do many tasks: infill, edit, speak, continue, denoise, style, sample.

    A line is {"id": "a", "task": "edit", "input": "a.flac", "from": "OLD", "to": "NEW", "seed": 1}.
    Paths (input, prompt, durations) are relative to the tasks' file. A task that fails is told of
    in failed.jsonl and stops no other; the same command goes on where it was stopped. Under
    torchrun or accelerate each process takes its share.

    [bold]Keys beside id and task[/bold], after the semicolon those that may be left out:

    infill: input, text, spans; keep_length.

    edit: input, from, to; keep_length.

    speak: text; prompt, prompt_text, speed, durations.

    continue: input, text; prefix.

    denoise: input, text; spans.

    style: input, text, prompt, prompt_text.

    sample: text.

    All: seed, preset, steps, guidance, context_guidance, solver, grid, dtype, candidates.

    Spans are a list of "START:END", "START:END=WORDS" or \\[start, end], in seconds; keep_length is
    true or false.

    [bold]Example:[/bold]

    voiceflow batch tasks.jsonl --out sounds --processes 2
    """
    from voiceflow.batch import Work, read_tasks, run_batch
    from voiceflow.data.executors import Executor, Processes, Ray

    if executor not in ("processes", "ray"):
        raise UserError(f"executor '{executor}' is not one of processes, ray")
    asked = read_tasks(tasks)
    chosen: Executor | None = None
    if executor == "ray":
        chosen = Ray(address)
    elif processes > 1:
        chosen = Processes(processes)
    failed = run_batch(asked, Work(voice, vocoder, out.absolute(), device), chosen)
    typer.echo(f"{len(asked) - len(failed)} of {len(asked)} tasks done: {out}")
    if failed:
        first = next(iter(failed.items()))
        raise UserError(
            f"{len(failed)} tasks failed, {first[0]}: {first[1]}"
            + (f" (all in {out / 'failed.jsonl'})" if len(failed) > 1 else "")
        )
