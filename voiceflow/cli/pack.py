"""`voiceflow pack`: a trained voice, small enough to be given away."""

from pathlib import Path
from typing import Annotated

import typer


def pack(
    model: Annotated[Path, typer.Argument(help="A model folder, as runs/mini/model.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    aligner: Annotated[
        Path | None, typer.Option(help="Another model folder, whose aligner it shall carry.")
    ] = None,
    vocoder: Annotated[
        Path | None, typer.Option(help="Another model folder, whose vocoder it shall carry.")
    ] = None,
    averaged_with: Annotated[
        Path | None,
        typer.Option(
            help="A model folder whose vocoder was trained on from --vocoder's: the mean of both."
        ),
    ] = None,
) -> None:
    """Copy a model folder with its weights in half precision.

    [bold]Example:[/bold]

    voiceflow pack runs/mini/model --out mini
    """
    from voiceflow import model_folder

    for path in model_folder.pack(model, out, aligner, vocoder, averaged_with):
        typer.echo(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
