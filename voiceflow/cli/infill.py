"""`voiceflow infill`: a gap in a recording, filled."""

from typing import Annotated

import typer

from voiceflow.cli.task import InputArgument, OutOption, Task, check_out, get, makes_sound
from voiceflow.generation.spans import parse_span


@makes_sound
def infill(
    task: Task,
    recording: InputArgument,
    span: Annotated[
        list[str],
        typer.Option(
            metavar="START:END[=WORDS]",
            help="The stretch to fill, in seconds; with =WORDS, the words of the transcript that "
            "shall stand there and that the recording does not hold. May be given several times.",
        ),
    ],
    out: OutOption,
    text: Annotated[
        str | None,
        typer.Option(
            help="The whole transcript, as it shall be once the gap is filled; if it is not given, "
            "what a recogniser hears is shown and asked about."
        ),
    ] = None,
    keep_length: Annotated[
        bool,
        typer.Option(
            "--keep-length/--natural-length",
            help="Let the fill last as long as the gap, or as long as its words take.",
        ),
    ] = True,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take what the recogniser hears without asking.")
    ] = False,
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
    check_out(out)
    sound = get(recording)
    if text is None:
        from voiceflow.cli.transcript import transcript_of
        from voiceflow.config import UserError

        if any(s.words is not None for s in spans):
            raise UserError("--text is needed where a span has words: the whole text as it shall "
                            "be, the span's words in their place")  # fmt: skip
        text = transcript_of(sound, yes)
    made = task.load().infill(sound, text, spans, keep_length=keep_length, **task.asked)
    task.finish(made, out, "filled", f"{recording.name}: {text}")
