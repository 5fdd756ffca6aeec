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
)
from voiceflow.generation.spans import parse_span


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
    natural_length: Annotated[
        bool,
        typer.Option(
            "--natural-length",
            help="Let the fill last as long as its words take, instead of as long as the gap.",
        ),
    ] = False,
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
    from voiceflow.audio.io import check_output
    from voiceflow.voice import Voice

    check_output(out)
    filled = Voice.load(voice).infill(
        recording,
        text,
        spans,
        seed=seed,
        steps=steps,
        guidance=guidance,
        solver=solver,
        keep_length=not natural_length,
    )
    filled.save(out)
    if picture:
        filled.draw(picture, f"{recording.name}: {text}")
    typer.echo(f"filled: {out}" + (f", picture: {picture}" if picture else ""))
