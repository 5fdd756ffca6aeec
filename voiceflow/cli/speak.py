"""`voiceflow speak`: text to speech."""

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
from voiceflow.config import UserError


def speak(
    text: Annotated[str, typer.Argument(help="What to say, in English.")],
    out: Annotated[Path, typer.Option(help="The recording, .wav or .flac.")],
    prompt: Annotated[
        Path | None, typer.Option(help="A recording of the speaker to sound like.")
    ] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What the prompt says.")] = None,
    picture: PictureOption = None,
    voice: VoiceOption = "mini",
    seed: SeedOption = 0,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    solver: SolverOption = None,
) -> None:
    """Speak a text, in a voice of its own choosing or in that of a prompt.

    [bold]Example:[/bold]

    voiceflow speak "some text" --out out.wav

    [bold]As the speaker of a recording:[/bold]

    voiceflow speak "some text" --out out.wav \\
        --prompt ref.wav --prompt-text "what ref.wav says"
    """
    if (prompt is None) != (prompt_text is None):
        raise UserError(
            "--prompt and --prompt-text belong together: the recording and what it says; "
            f"found only {'--prompt' if prompt_text is None else '--prompt-text'}"
        )
    from voiceflow.audio.io import check_output
    from voiceflow.voice import Voice

    check_output(out)
    spoken = Voice.load(voice).speak(
        text,
        prompt=prompt,
        prompt_text=prompt_text,
        seed=seed,
        steps=steps,
        guidance=guidance,
        solver=solver,
    )
    spoken.save(out)
    if picture:
        spoken.draw(picture, text)
    typer.echo(f"spoken: {out}" + (f", picture: {picture}" if picture else ""))
