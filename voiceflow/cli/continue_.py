"""`voiceflow continue`: a recording, spoken on."""

from typing import Annotated

import typer

from voiceflow.cli.task import InputArgument, OutOption, Task, check_out, get, makes_sound


@makes_sound
def continue_(
    task: Task,
    recording: InputArgument,
    text: Annotated[
        str,
        typer.Option(help="The whole text, of which the recording says the beginning, or all."),
    ],
    out: OutOption,
    prefix: Annotated[
        float | None,
        typer.Option(help="Seconds of the recording that are kept; all of it if not given."),
    ] = None,
) -> None:
    """Speak on after the beginning of a recording, in its voice.

    [bold]Example:[/bold]

    voiceflow continue in.flac --text "WHAT IT SAYS AND WHAT SHALL COME" --prefix 3.0 --out out.wav
    """
    check_out(out)
    made = task.load().continue_(get(recording), text, prefix=prefix, **task.asked)
    task.finish(made, out, "continued", f"{recording.name}: {text}")
