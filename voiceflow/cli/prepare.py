"""`voiceflow prepare`: a corpus folder to prepared data."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voiceflow.config import UserError

if TYPE_CHECKING:
    from voiceflow.alignment.types import Aligner

app = typer.Typer(help="Turn a corpus into prepared data: features, phones, durations.")


class AlignerName(StrEnum):
    """Who says which phone stands where."""

    pocketsphinx = "pocketsphinx"
    mfa = "mfa"
    ctc = "ctc"


@app.callback()
def _prepare() -> None:
    pass


@app.command()
def librispeech(
    root: Annotated[Path, typer.Option(help="The LibriSpeech folder, which holds the subsets.")],
    subset: Annotated[
        list[str], typer.Option(help="The subset, as train-clean-5; may be given several times.")
    ],
    out: Annotated[Path, typer.Option(help="Where the prepared data goes.")],
    aligner: Annotated[
        AlignerName,
        typer.Option(
            help="pocketsphinx and ctc make alignments, ctc by --voice; mfa reads the Montreal "
            "aligner's."
        ),
    ] = AlignerName.pocketsphinx,
    alignments: Annotated[
        Path | None, typer.Option(help="For mfa: the folder of TextGrids.")
    ] = None,
    voice: Annotated[
        str | None, typer.Option(help="For ctc: a voice or model folder that carries an aligner.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N utterances.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    features: Annotated[
        str, typer.Option(help="The front end: a name in conf/features.")
    ] = "voicebox16k",
    stress: Annotated[bool, typer.Option(help="Keep the vowels' stress marks (mfa only).")] = False,
) -> None:
    """Prepare a subset of LibriSpeech, in the corpus's own layout.

    [bold]Example:[/bold]

    voiceflow prepare librispeech --root LibriSpeech --subset train-clean-5 \\
        --aligner pocketsphinx --out data/train
    """
    from data_prep import librispeech as corpus
    from voiceflow.audio.features import FeatureSpec
    from voiceflow.data.prepare import prepare
    from voiceflow.text.phones import PhoneTable

    if aligner is AlignerName.mfa and alignments is None:
        raise UserError("--aligner mfa reads TextGrids: name their folder with --alignments")
    if aligner is AlignerName.ctc and voice is None:
        raise UserError("--aligner ctc is a trained one: name the voice that carries it by --voice")
    utterances = [u for name in subset for u in corpus.read(root, name)]
    settings = {"corpus": "librispeech", "aligner": aligner.value, "stress": str(stress)}
    summary = prepare(
        utterances,
        partial(make_aligner, aligner, alignments, stress, voice),
        FeatureSpec.named(features),
        out,
        PhoneTable.english(stress),
        settings,
        workers,
        limit,
    )
    print(summary)
    if summary.failed:
        print(f"reasons: {out / 'failed.jsonl'}")


def make_aligner(
    name: AlignerName, alignments: Path | None, stress: bool, voice: str | None = None
) -> Aligner:
    """The aligner asked for; called in each worker process."""
    if name is AlignerName.ctc:
        from voiceflow.alignment.ctc import CtcAligner

        assert voice is not None
        return CtcAligner.of_voice(voice)
    if name is AlignerName.mfa:
        from voiceflow.alignment.mfa import MfaAligner

        assert alignments is not None
        return MfaAligner(alignments, stress)
    from voiceflow.alignment.pocketsphinx import PocketsphinxAligner

    return PocketsphinxAligner()
