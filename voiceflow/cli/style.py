"""`voiceflow style`: the words and timing of one recording in the voice of another."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.task import InputArgument, OutOption, Task, check_out, get, makes_sound


@makes_sound
def style(
    task: Task,
    recording: InputArgument,
    text: Annotated[str, typer.Option(help="What the recording says.")],
    prompt: Annotated[
        Path, typer.Option(help="A recording of the speaker and the room to sound like.")
    ],
    prompt_text: Annotated[str, typer.Option(help="What the prompt says.")],
    out: OutOption,
) -> None:
    """Keep the words and the timing of a recording, and take voice and room from another.

    [bold]Example:[/bold]

    voiceflow style in.flac --text "WHAT IT SAYS" --prompt ref.flac \\
        --prompt-text "WHAT REF SAYS" --out out.wav
    """
    check_out(out)
    made = task.load().style_transfer(get(recording), text, get(prompt), prompt_text, **task.asked)
    task.finish(made, out, "spoken anew", f"{recording.name}: {text}")
