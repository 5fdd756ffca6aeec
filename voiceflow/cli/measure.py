"""`voiceflow measure`: the figures of the README, printed."""

from pathlib import Path
from typing import Annotated

import typer

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
