"""`voiceflow denoise`: noise taken out of a recording, and what it covers spoken anew."""

from collections.abc import Sequence
from typing import Annotated

import typer

from voiceflow.cli.task import InputArgument, OutOption, Task, check_out, get, makes_sound
from voiceflow.generation.spans import Spanlike, parse_span, without_words


@makes_sound
def denoise(
    task: Task,
    recording: InputArgument,
    text: Annotated[str, typer.Option(help="What the recording says.")],
    out: OutOption,
    span: Annotated[
        list[str] | None,
        typer.Option(
            metavar="START:END",
            help="A stretch that noise covers, in seconds; may be given several times. Without "
            "any they are proposed, by loudness and by how little they sound like the text.",
        ),
    ] = None,
) -> None:
    """Remove transient noise, a cough or a slammed door, by speaking anew what it covers.

    [bold]Example:[/bold]

    voiceflow denoise in.flac --text "WHAT IT SAYS" --span 1.20:1.85 --out out.wav

    [bold]Let it find the noise, and look at what it found:[/bold]

    voiceflow denoise in.flac --text "WHAT IT SAYS" --out out.wav --picture out.png
    """
    given = without_words([parse_span(item) for item in span or []])
    check_out(out)
    sound, voice = get(recording), task.load()
    spans: Sequence[Spanlike] = given
    if not given:
        spans = found = voice.propose_noise(sound, text)
        shown = " ".join(f"{a:.2f}:{b:.2f}" for a, b in found)
        typer.echo(f"noise found at: {shown or 'no place'}", err=True)
    made = voice.denoise(sound, text, spans or None, **task.asked)
    task.finish(made, out, "denoised", f"{recording.name}: {text}")
