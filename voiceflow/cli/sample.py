"""`voiceflow sample`: one text, many speakers."""

import json
from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.task import Task, check_out, is_stream, makes_sound, put
from voiceflow.config import UserError


@makes_sound
def sample(
    task: Task,
    text: Annotated[str, typer.Argument(help="What to say, in English.")],
    out: Annotated[Path, typer.Option("--out", help="A folder for the sounds, 0.wav and so on.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 8,
) -> None:
    """Speak a text many times: other speakers, other prosody, other durations each time.

    Sound number n has seed --seed + n, guidance 0 unless it is given, and drawn durations.

    [bold]Example:[/bold]

    voiceflow sample "some text" --count 8 --out sounds
    """
    if is_stream(out):
        raise UserError("--out names a folder for the sounds, found -: there are several of them")
    check_out(out / "0.wav")
    voice = task.load()
    asked = task.asked
    for number in range(count):
        asked["seed"] = task.seed + number
        [made] = voice.sample(text, 1, **asked)
        put(made, out / f"{number}.wav")
        if task.picture:
            made.draw(task.picture.with_stem(f"{task.picture.stem}-{number}"), text)
        if task.as_json:
            typer.echo(json.dumps({"out": str(out / f"{number}.wav"), **made.report()}))
        else:
            typer.echo(f"spoken: {out / f'{number}.wav'}")
