"""`voiceflow vocode`: a recording through a voice's features and a vocoder."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.options import VoiceOption


def vocode(
    recording: Annotated[Path, typer.Argument(metavar="INPUT", help="The recording.")],
    out: Annotated[Path, typer.Option(help="What the vocoder makes of it, .wav or .flac.")],
    voice: VoiceOption = "mini",
    vocoder: Annotated[
        str | None,
        typer.Option(
            help="griffin-lim, a voice or model folder that has one, or a public one's folder or "
            "Hugging Face name; the voice's own if not given."
        ),
    ] = None,
) -> None:
    """Make a recording anew from its mel spectrogram: what the vocoder alone does to it.

    [bold]Example:[/bold]

    voiceflow vocode in.flac --voice mini --out out.wav
    """
    import torch

    from voiceflow.audio.io import Recording, check_output, load_mono, write
    from voiceflow.voice import Voice

    check_output(out)
    loaded = Voice.load(voice, vocoder)
    wave = torch.from_numpy(load_mono(recording, loaded.features.sample_rate))
    try:
        made = loaded.vocode(loaded.log_mel(wave))
    except ValueError as error:
        from voiceflow.config import UserError

        raise UserError(f"{recording}: {error}") from error
    write(out, Recording.from_mono(made, loaded.features.sample_rate))
    typer.echo(f"vocoded: {out}")
