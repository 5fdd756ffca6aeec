"""`voiceflow demo`: a word taken out of a recording and another put in its place."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.options import SeedOption, VoiceOption
from voiceflow.config import UserError


def demo(
    recording: Annotated[
        Path | None,
        typer.Option("--input", help="A recording of your own; else the voice speaks one."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="What your recording says.")] = None,
    out: Annotated[Path, typer.Option(help="The folder for the sounds and the picture.")] = Path(
        "demo"
    ),
    voice: VoiceOption = "mini",
    seed: SeedOption = 0,
) -> None:
    """Take a word out of a recording, fill the gap with another, and show both.

    Writes original.wav, filled.wav and picture.png.

    [bold]Example:[/bold]

    voiceflow demo

    [bold]With a recording of your own:[/bold]

    voiceflow demo --input my.wav --text "what it says"
    """
    if (recording is None) != (text is None):
        raise UserError(
            "--input and --text belong together: your recording and what it says; "
            f"found only {'--input' if text is None else '--text'}"
        )
    from voiceflow.voice import Voice

    for path in Voice.load(voice).demonstrate(recording, text, out, seed=seed):
        typer.echo(str(path))
