"""`voiceflow data`: look at what `voiceflow prepare` made, and check it."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.options import DeviceOption, VoiceOption
from voiceflow.config import UserError

app = typer.Typer(help="Look at prepared data: an utterance, figures of all, a check of all.")

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder that `voiceflow prepare` wrote.")
]
PictureOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.png", help="Also draw it.")
]


def _check_picture(out: Path | None) -> None:
    from voiceflow.audio.io import check_output

    if out is not None:
        check_output(out, (".png",))


@app.command()
def show(
    folder: FolderArgument,
    utterance: Annotated[str, typer.Argument(metavar="UTT", help="The utterance's id.")],
    out: PictureOption = None,
) -> None:
    """Print an utterance's words with their times and phones; draw its sound and spectrogram.

    [bold]Example:[/bold]

    voiceflow data show data/train 1088-134315-0000 --out utterance.png
    """
    from voiceflow.audio.features import FeatureSpec
    from voiceflow.data.inspect import find_utterance, word_table

    _check_picture(out)
    row = find_utterance(folder, utterance)
    spec = FeatureSpec.load(folder / "features.json")
    typer.echo(word_table(row, spec.hop_seconds))
    if out is not None:
        from voiceflow.pictures.prepared import utterance_picture

        utterance_picture(out, row, spec)
        typer.echo(f"written: {out}")


@app.command()
def stats(folder: FolderArgument, out: PictureOption = None) -> None:
    """Print what there is: hours, speakers, lengths, pace, phones, silence, scores, rejections.

    [bold]Example:[/bold]

    voiceflow data stats data/train --out stats.png
    """
    from voiceflow.data.inspect import statistics

    _check_picture(out)
    found = statistics(folder)
    typer.echo(str(found))
    if out is not None:
        from voiceflow.pictures.prepared import statistics_picture

        statistics_picture(out, found)
        typer.echo(f"written: {out}")


@app.command()
def regenerate(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option(help="The new folder of prepared data.")],
    voice: VoiceOption = "mini",
    begin: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.99, help="Time on the path, from noise (0) to the recording (1), at "
            "which the voice takes over: later keeps more of the recording.",
        ),
    ] = 0.5,
    steps: Annotated[int, typer.Option(min=1, help="Solver steps from there on.")] = 4,
    every: Annotated[
        int, typer.Option(min=1, help="2: only every second utterance of a shard, and so on.")
    ] = 1,
    device: DeviceOption = "cpu",
) -> None:
    """Copy prepared data with half of its frames made anew by a voice: for training its vocoder.

    Every other second or so is filled with the recording's own phones, durations and context, and
    keeps its pitch and timing, so that the features still go with the recordings. A run that was
    stopped goes on.

    [bold]Example:[/bold]

    voiceflow data regenerate data/train --voice mini --out data/regenerated
    """
    from voiceflow.generation.regenerate import regenerate as make_anew
    from voiceflow.jobs import device_of
    from voiceflow.model_folder import ModelFolder

    model = ModelFolder.open(voice)
    count = make_anew(
        folder, model, out, t=begin, steps=steps, every=every, device=device_of(device)
    )
    typer.echo(f"{count} utterances with features of '{voice}': {out}")


@app.command()
def validate(folder: FolderArgument) -> None:
    """Check everything that training relies on; print what is wrong, and end with 2 if anything is.

    [bold]Example:[/bold]

    voiceflow data validate data/train
    """
    from voiceflow.data.inspect import shard_files
    from voiceflow.data.validate import validate as breaches

    count = 0
    for breach in breaches(folder):
        typer.echo(str(breach))
        count += 1
    if count:
        raise UserError(f"{folder} is not sound: {count} {'breach' if count == 1 else 'breaches'}")
    typer.echo(f"{folder} is sound: {len(shard_files(folder))} shards")
