"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

VoiceOption = Annotated[str, typer.Option("--voice", help="A bundled voice or a model folder.")]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same sound.")]
StepsOption = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Solver steps; the voice's own if not given."),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        min=0.0,
        help="How much more text and context count than by themselves: 0 is not at all, 0.5 to 1 "
        "usual; the voice's own if not given.",
    ),
]
ContextGuidanceOption = Annotated[
    float | None,
    typer.Option(
        "--context-guidance",
        min=0.0,
        help="How much more a prompt, or what is continued, counts beside the text: brings the "
        "speaker nearer, for half as much time again; the voice's own if not given. Gaps between "
        "two sides have none.",
    ),
]
SolverOption = Annotated[
    str | None,
    typer.Option(
        "--solver",
        help="euler, midpoint, heun, rk4, dopri5, adams_bashforth or dpm_multistep; the voice's "
        "own if not given.",
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", help="paper, best or fast, instead of the voice's own settings."),
]
GridOption = Annotated[
    str | None,
    typer.Option(
        "--grid",
        help="How the steps lie in time: uniform, cosine, sway:-0.5, shifted:3 (or other numbers).",
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="What the network computes in: float32, bfloat16, or auto (bfloat16 where fast); "
        "the voice's own if not given.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Where the network runs: cpu, cuda, cuda:1, ...")
]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", help="A PNG of the spectrogram before and after.")
]
