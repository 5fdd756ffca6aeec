"""`voiceflow measure`: the figures of the README, printed."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.options import (
    GuidanceOption,
    SeedOption,
    SolverOption,
    StepsOption,
    VoiceOption,
)

app = typer.Typer(help="Measure the aligner and the voices on real speech.")

RootOption = Annotated[
    Path, typer.Option("--root", help="The LibriSpeech folder, which holds the subsets.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N utterances.")
]
ReportOption = Annotated[
    Path | None, typer.Option("--out", help="Also write the figures, as JSON.")
]


@app.command()
def alignment(
    root: RootOption,
    alignments: Annotated[Path, typer.Option(help="The folder of TextGrids to compare with.")],
    subset: Annotated[str, typer.Option(help="The subset to align.")] = "train-clean-100",
    limit: LimitOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    out: ReportOption = None,
) -> None:
    """Compare pocketsphinx's word and phone borders with TextGrids.

    [bold]Example:[/bold]

    voiceflow measure alignment --root LibriSpeech \\
        --alignments LibriSpeech-alignments
    """
    from voiceflow.measures.alignment import measure_alignment

    measure_alignment(root, subset, alignments, limit=limit, workers=workers, out=out)


@app.command()
def infill(
    root: RootOption,
    subset: Annotated[str, typer.Option(help="The subset to fill gaps in.")] = "test-clean",
    samples: Annotated[int, typer.Option(min=1, help="Samples drawn for each gap.")] = 8,
    limit: LimitOption = None,
    voice: VoiceOption = "mini",
    seed: SeedOption = 0,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    solver: SolverOption = None,
    out: ReportOption = None,
) -> None:
    """Fill gaps of known speech and compare with what was there, beside simple baselines.

    [bold]Example:[/bold]

    voiceflow measure infill --root LibriSpeech --subset test-clean
    """
    from voiceflow.measures.infill import measure_infill
    from voiceflow.voice import Voice

    measure_infill(
        Voice.load(voice),
        root,
        subset,
        samples=samples,
        limit=limit,
        seed=seed,
        steps=steps,
        guidance=guidance,
        solver=solver,
        out=out,
    )


@app.command()
def speech(
    root: RootOption,
    subset: Annotated[str, typer.Option(help="The subset whose transcripts are spoken.")] = (
        "test-clean"
    ),
    count: Annotated[int, typer.Option(min=2, help="How many transcripts.")] = 20,
    voice: VoiceOption = "mini",
    seed: SeedOption = 0,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    solver: SolverOption = None,
    out: ReportOption = None,
) -> None:
    """Speak transcripts and ask the aligner and the recogniser what they heard.

    [bold]Example:[/bold]

    voiceflow measure speech --root LibriSpeech --count 20
    """
    from voiceflow.measures.words import measure_speech
    from voiceflow.voice import Voice

    measure_speech(
        Voice.load(voice),
        root,
        subset,
        count=count,
        seed=seed,
        steps=steps,
        guidance=guidance,
        solver=solver,
        out=out,
    )
