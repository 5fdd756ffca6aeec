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
from voiceflow.cli.prepare import AlignerName, make_aligner, read_utterances, require_voice

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
    aligner: Annotated[
        AlignerName, typer.Option(help="Whose borders: pocketsphinx's, or ctc's by --voice.")
    ] = AlignerName.pocketsphinx,
    voice: Annotated[
        str | None, typer.Option(help="For ctc: a voice or model folder that carries an aligner.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    out: ReportOption = None,
) -> None:
    """Compare an aligner's word and phone borders with TextGrids.

    [bold]Example:[/bold]

    voiceflow measure alignment --root LibriSpeech \\
        --alignments LibriSpeech-alignments
    """
    from voiceflow.measures.alignment import measure_alignment

    require_voice(aligner, voice)
    other = make_aligner(aligner, alignments, False, voice)
    measure_alignment(root, subset, alignments, other, limit=limit, workers=workers, out=out)


@app.command()
def infill(
    root: RootOption,
    subset: Annotated[str, typer.Option(help="The subset to fill gaps in.")] = "test-clean",
    data: Annotated[
        Path | None,
        typer.Option(help="The voice's prepared training data, for the rows of training means."),
    ] = None,
    per_speaker: Annotated[int, typer.Option(min=1, help="Gaps of each speaker.")] = 2,
    samples: Annotated[int, typer.Option(min=1, help="Samples drawn for each gap.")] = 8,
    limit: LimitOption = None,
    voice: VoiceOption = "mini",
    seed: SeedOption = 0,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    solver: SolverOption = None,
    out: ReportOption = None,
) -> None:
    """Fill gaps of real speech unheard and compare with what was there, beside simple ways.

    [bold]Example:[/bold]

    voiceflow measure infill --root LibriSpeech --data data/train
    """
    from voiceflow.data.shards import open_prepared
    from voiceflow.measures.infill import measure_infill
    from voiceflow.measures.spectral import TrainingMeans
    from voiceflow.voice import Voice

    loaded = Voice.load(voice)
    means = None
    if data is not None:
        prepared = open_prepared(data)
        loaded.features.require(prepared.features, voice, str(data))
        means = TrainingMeans.of(prepared)
    measure_infill(
        loaded,
        read_utterances(root, subset),
        means=means,
        per_speaker=per_speaker,
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
    count: Annotated[
        int, typer.Option(min=1, help="How many transcripts: one of each speaker first.")
    ] = 20,
    voice: VoiceOption = "mini",
    seed: SeedOption = 0,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    solver: SolverOption = None,
    out: ReportOption = None,
) -> None:
    """Speak transcripts and ask the aligner and a recogniser what they hear.

    [bold]Example:[/bold]

    voiceflow measure speech --root LibriSpeech --count 20
    """
    from voiceflow.measures.speech import measure_speech
    from voiceflow.voice import Voice

    measure_speech(
        Voice.load(voice),
        read_utterances(root, subset),
        count=count,
        seed=seed,
        steps=steps,
        guidance=guidance,
        solver=solver,
        out=out,
    )


@app.command()
def durations(
    data: Annotated[Path, typer.Option(help="Prepared speech whose durations are guessed.")],
    train: Annotated[
        Path, typer.Option(help="The prepared training data: what the simple ways know.")
    ],
    limit: LimitOption = None,
    voice: VoiceOption = "mini",
    seed: Annotated[int, typer.Option(help="The same seed gives the same spans and draws.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Solver steps of the flow.")] = 16,
    guidance: Annotated[
        float, typer.Option(min=0.0, help="How closely the flow follows phones and context.")
    ] = 0.0,
    solver: Annotated[
        str, typer.Option(help="The flow's: euler, midpoint, heun, rk4, dopri5, ...")
    ] = "midpoint",
    out: ReportOption = None,
) -> None:
    """Guess the durations of masked phones with a voice's networks, beside simple ways.

    [bold]Example:[/bold]

    voiceflow measure durations --voice runs/mini/model --data data/test \\
        --train data/train
    """
    from voiceflow.data.shards import open_prepared
    from voiceflow.measures.durations import measure_durations
    from voiceflow.model_folder import ModelFolder

    measure_durations(
        ModelFolder.open(voice),
        open_prepared(data),
        open_prepared(train),
        limit=limit,
        seed=seed,
        steps=steps,
        guidance=guidance,
        solver=solver,
        out=out,
    )


@app.command()
def vocoder(
    root: RootOption,
    subset: Annotated[str, typer.Option(help="The subset to vocode.")] = "test-clean",
    voice: VoiceOption = "mini",
    vocoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Vocoders, as `vocode --vocoder` takes them; the voice's own if none is named."
        ),
    ] = None,
    per_speaker: Annotated[int, typer.Option(min=1, help="Utterances of each speaker.")] = 2,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this: quality, distance, pitch, dnsmos or words; may be repeated."),
    ] = None,
    out: ReportOption = None,
) -> None:
    """Copy synthesis by Griffin-Lim and by trained vocoders, beside the originals.

    [bold]Example:[/bold]

    voiceflow measure vocoder --root LibriSpeech --voice mini
    """
    from voiceflow.measures.vocoders import KINDS, measure_vocoders
    from voiceflow.model_folder import ModelFolder
    from voiceflow.vocoders.choice import Vocodes, named_vocoder
    from voiceflow.vocoders.griffin_lim import GriffinLim

    folder = ModelFolder.open(voice)
    spec = folder.features
    found: dict[str, Vocodes] = {
        f"Griffin-Lim, {n} iterations": GriffinLim(spec, n_iterations=n) for n in (60, 32)
    }
    named = vocoder or ([voice] if folder.config.vocoder is not None else [])
    found |= {name: named_vocoder(name, spec) for name in named}
    measure_vocoders(spec, found, read_utterances(root, subset), per_speaker=per_speaker,
                     kinds=only or KINDS, out=out)  # fmt: skip
