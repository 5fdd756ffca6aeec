"""`voiceflow demo`: a word taken out of a recording and another put in its place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.options import SeedOption, VoiceOption
from voiceflow.config import UserError

SENTENCE = "they walked along the river in the morning and talked about the old house"
REPLACEMENTS = ("GARDEN", "WINDOW", "SUMMER")


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
    from voiceflow.audio.io import read, write
    from voiceflow.generation.spans import Span
    from voiceflow.text.normalise import words_of
    from voiceflow.voice import Voice

    speaker = Voice.load(voice)
    original = out / "original.wav"
    if recording is None or text is None:
        text = SENTENCE
        speaker.speak(text, seed=seed).save(original)
    else:
        write(original, read(recording))
    words = words_of(text)
    spoken = speaker.align(original, text).spoken()
    chosen = choose_word([word.end - word.start for word in spoken])
    new = next(word for word in REPLACEMENTS if word not in words)
    wanted = " ".join([*words[:chosen], new, *words[chosen + 1 :]])
    span = Span(spoken[chosen].start, spoken[chosen].end, new)
    filled = speaker.infill(original, wanted, [span], seed=seed, keep_length=False)
    filled.save(out / "filled.wav")
    filled.draw(out / "picture.png", f"'{words[chosen]}' replaced by '{new}'")
    typer.echo(f"said:   {' '.join(words)}")
    typer.echo(f"filled: {wanted}")
    for name in ("original.wav", "filled.wav", "picture.png"):
        typer.echo(str((out / name).resolve()))


def choose_word(seconds: Sequence[float]) -> int:
    """The longest word that is neither the first nor the last (of three or more)."""
    inner = range(1, len(seconds) - 1) if len(seconds) > 2 else range(len(seconds))
    return max(inner, key=lambda i: seconds[i])
