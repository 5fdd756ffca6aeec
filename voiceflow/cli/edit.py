"""`voiceflow edit`: words of a recording changed as its text is."""

from typing import Annotated

import typer

from voiceflow.cli.task import InputArgument, OutOption, Task, check_out, get, makes_sound


@makes_sound
def edit(
    task: Task,
    recording: InputArgument,
    old: Annotated[str, typer.Option("--from", metavar="TEXT", help="What the recording says.")],
    new: Annotated[str, typer.Option("--to", metavar="TEXT", help="What it shall say.")],
    out: OutOption,
    keep_length: Annotated[
        bool,
        typer.Option(
            "--keep-length/--natural-length",
            help="Let each change last as long as what it replaces, or as long as its words take.",
        ),
    ] = False,
) -> None:
    """Put words into a recording, take them out or replace them: wherever two texts differ.

    The length changes as the new words need. Outside the changes its samples stay as they are.

    [bold]Example:[/bold]

    voiceflow edit in.flac --from "WHAT IT SAYS" --to "WHAT IT SHALL SAY" --out out.wav
    """
    check_out(out)
    made = task.load().edit(get(recording), old, new, keep_length=keep_length, **task.asked)
    task.finish(made, out, "edited", f"{recording.name}: {new}")
