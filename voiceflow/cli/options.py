"""Options that several verbs share, and the reading of `--span`."""

import re
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from voiceflow.config import UserError

VoiceOption = Annotated[str, typer.Option("--voice", help="A bundled voice or a model folder.")]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same sound.")]
StepsOption = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Solver steps; the voice's own if not given."),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--guidance", min=0.0, help="How closely to follow the text; the voice's own if not given."
    ),
]
SolverOption = Annotated[
    str | None,
    typer.Option("--solver", help="midpoint or euler; the voice's own if not given."),
]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", help="A PNG of the spectrogram before and after.")
]

_SPAN = re.compile(
    r"\s*(?P<start>\d+(?:\.\d*)?|\.\d+)\s*:\s*(?P<end>\d+(?:\.\d*)?|\.\d+)\s*"
    r"(?:=(?P<words>.*))?",
    re.DOTALL,
)


class Span(NamedTuple):
    """A stretch of the recording to be filled, in seconds.

    `words` are those to be heard in it, where the recording does not hold them; None means that
    the recording already says what the transcript says.
    """

    start: float
    end: float
    words: str | None = None


def parse_span(text: str) -> Span:
    """Read `1.20:1.85` or `1.20:1.85=NEW WORDS`; raises UserError where it is neither."""
    found = _SPAN.fullmatch(text)
    if not found:
        raise UserError(
            "--span is START:END in seconds, as 1.20:1.85 or '1.20:1.85=NEW WORDS'; "
            f"found {text!r}"
        )
    words = found["words"]
    return Span(
        float(found["start"]), float(found["end"]), None if words is None else words.strip()
    )
