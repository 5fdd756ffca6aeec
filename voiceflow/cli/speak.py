"""`voiceflow speak`: text to speech."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.task import OutOption, Task, check_file, check_out, get, makes_sound
from voiceflow.config import UserError


@makes_sound
def speak(
    task: Task,
    text: Annotated[str, typer.Argument(help="What to say, in English.")],
    out: OutOption,
    prompt: Annotated[
        Path | None, typer.Option(help="A recording of the speaker to sound like.")
    ] = None,
    prompt_text: Annotated[str | None, typer.Option(help="What the prompt says.")] = None,
    speed: Annotated[float, typer.Option(help="2 is twice as fast.")] = 1.0,
    durations: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Seconds phone by phone, of --save-durations."),
    ] = None,
    save_durations: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write the phones' seconds, to change them."),
    ] = None,
) -> None:
    """Speak a text, in a voice of its own choosing or in that of a prompt.

    A long text is spoken sentence by sentence, with pauses between, all in one voice.

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
    if durations and speed != 1:
        raise UserError(
            f"--speed {speed:g} and --durations exclude each other: the file tells every duration"
        )
    check_out(out)
    if save_durations:
        check_file(save_durations, ".json")
    made = task.load().speak(
        text, prompt=None if prompt is None else get(prompt), prompt_text=prompt_text, speed=speed,
        durations=durations, **task.asked,
    )  # fmt: skip
    if save_durations:
        made.save_durations(save_durations)
    task.finish(made, out, "spoken", text)
