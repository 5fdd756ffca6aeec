"""`voiceflow infill`: a gap in a recording, filled."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.options import (
    GuidanceOption,
    PictureOption,
    SeedOption,
    SolverOption,
    StepsOption,
    VoiceOption,
    parse_span,
)


def infill(
    recording: Annotated[Path, typer.Argument(metavar="INPUT", help="The recording.")],
    text: Annotated[
        str, typer.Option(help="The whole transcript, as it shall be once the gap is filled.")
    ],
    span: Annotated[
        list[str],
        typer.Option(
            metavar="START:END[=WORDS]",
            help="The stretch to fill, in seconds; with =WORDS, the words of the transcript that "
            "shall stand there and that the recording does not hold. May be given several times.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The filled recording, .wav or .flac.")],
    picture: PictureOption = None,
    voice: VoiceOption = "mini",
    seed: SeedOption = 0,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    solver: SolverOption = None,
) -> None:
    """Fill one or more gaps in a recording; outside of them its samples stay as they are.

    [bold]Example:[/bold]

    voiceflow infill in.flac --text "THE WHOLE TRANSCRIPT" \\
        --span 1.20:1.85 --out out.wav --picture out.png

    [bold]With words that the recording does not hold:[/bold]

    voiceflow infill in.flac --text "THE TRANSCRIPT AS IT SHALL BE" \\
        --span '1.20:1.85=SHALL BE' --out out.wav
    """
    spans = [parse_span(item) for item in span]
    from voiceflow.voice import Voice

    Voice.load(voice).infill(
        recording,
        text,
        spans,
        out=out,
        picture=picture,
        seed=seed,
        steps=steps,
        guidance=guidance,
        solver=solver,
    )
    typer.echo(f"filled: {out}" + (f", picture: {picture}" if picture else ""))
