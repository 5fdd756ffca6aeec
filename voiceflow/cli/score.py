"""`voiceflow score`: how likely a recording is, given its text."""

import json
from typing import Annotated

import typer

from voiceflow.cli.options import DeviceOption, SeedOption, VoiceOption
from voiceflow.cli.task import InputArgument, get
from voiceflow.generation.spans import parse_span


def score(
    recording: InputArgument,
    text: Annotated[str, typer.Option(help="What the recording says.")],
    span: Annotated[
        str | None,
        typer.Option(
            metavar="START:END[=WORDS]",
            help="Only this stretch (seconds), given the rest; with =WORDS, by these words' own "
            "durations instead of by the alignment of what is heard.",
        ),
    ] = None,
    voice: VoiceOption = "mini",
    seed: SeedOption = 0,
    probes: Annotated[int, typer.Option(min=1, help="Random probes; more are surer.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Midpoint steps from data to noise.")] = 16,
    context_frames: Annotated[
        int | None,
        typer.Option(min=1, help="What is heard on either side of a span; fewer are faster."),
    ] = None,
    device: DeviceOption = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Tell the log-likelihood of audio given text, or of a span given the rest.

    In bits per dimension of the normalised log-mel (a band of a frame), with the standard error
    over probes. Less is likelier, and it may be negative; the same seed compares two texts of the
    same audio.

    [bold]Example:[/bold]

    voiceflow score in.flac --text "WHAT IT SAYS" --span 1.20:1.85 --probes 2 --steps 8
    """
    asked = None if span is None else parse_span(span)
    from voiceflow.voice import Voice

    found = Voice.load(voice, device=device).log_likelihood(
        get(recording), text, asked, seed=seed, probes=probes, steps=steps,
        context_frames=context_frames,
    )  # fmt: skip
    error = found.standard_error
    if as_json:
        typer.echo(json.dumps({
            "bits_per_dimension": found.bits_per_dimension, "standard_error": error,
            "nats": found.nats, "dimensions": found.n_dimensions, "nfe": found.nfe,
            "seed": seed, "probes": probes,
        }))  # fmt: skip
    else:
        sure = "" if error is None else f" +- {error:.4f}"
        typer.echo(f"{found.bits_per_dimension:.4f}{sure} bits per dimension "
                   f"({found.n_dimensions} dimensions; less is likelier)")  # fmt: skip
