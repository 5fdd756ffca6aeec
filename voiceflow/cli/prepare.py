"""`voiceflow prepare`: a corpus folder to prepared data."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voiceflow.config import UserError

if TYPE_CHECKING:
    from voiceflow.alignment.types import Aligner
    from voiceflow.data.executors import Executor
    from voiceflow.data.manifest import Rejected, Utterance


class AlignerName(StrEnum):
    """Who says which phone stands where."""

    pocketsphinx = "pocketsphinx"
    mfa = "mfa"
    ctc = "ctc"


class ExecutorName(StrEnum):
    """Who does the work."""

    processes = "processes"
    ray = "ray"


class StageName(StrEnum):
    """How far to go."""

    manifest = "manifest"
    align = "align"
    shards = "shards"


def prepare(
    corpus: Annotated[
        str,
        typer.Argument(
            help="librispeech, libritts, ljspeech, vctk, common_voice, hub or table (a CSV, TSV, "
            "JSON lines or Kaldi folder of your own)."
        ),
    ],
    root: Annotated[Path, typer.Option(help="The corpus's folder, or the table.")],
    out: Annotated[Path, typer.Option(help="Where the prepared data goes.")],
    subset: Annotated[
        list[str] | None,
        typer.Option(help="The subset, as train-clean-5; may be given several times."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch what is not there first.")
    ] = False,
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
    lexicon: Annotated[
        Path | None,
        typer.Option(help="Pronunciations of your own, a line each: WORD AH B; used first."),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(help="Reject alignments that score less (nats a frame, 0 is the best)."),
    ] = None,
    max_seconds: Annotated[float, typer.Option(help="Reject longer recordings.")] = 60.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N utterances.")] = None,
    until: Annotated[
        StageName, typer.Option(help="The last stage to run; the rest can follow later.")
    ] = StageName.shards,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work side by side.")] = 1,
    executor: Annotated[
        ExecutorName, typer.Option(help="Processes of this machine, or a Ray cluster.")
    ] = ExecutorName.processes,
    address: Annotated[str, typer.Option(help="For ray: the cluster's address.")] = "auto",
    features: Annotated[
        str, typer.Option(help="The front end: a name in conf/features.")
    ] = "voicebox16k",
    stress: Annotated[bool, typer.Option(help="Keep the vowels' stress marks (mfa only).")] = False,
) -> None:
    """Align a corpus and turn it into prepared data: features, phones, durations.

    The same command given again goes on where it was stopped.

    [bold]Example:[/bold]

    voiceflow prepare librispeech --root LibriSpeech --subset train-clean-5 \\
        --out data/train --workers 2

    voiceflow prepare table --root my/metadata.csv --out data/mine
    """
    from voiceflow.audio.features import FeatureSpec
    from voiceflow.data.prepare import prepare as run
    from voiceflow.text.phones import PhoneTable

    if aligner is AlignerName.mfa and alignments is None:
        raise UserError("--aligner mfa reads TextGrids: name their folder with --alignments")
    require_voice(aligner, voice)
    settings = {"corpus": corpus, "aligner": aligner.value, "stress": str(stress)}
    if voice is not None:
        settings["voice"] = digest_of_aligner(voice)
    if lexicon is not None:
        settings["lexicon"] = digest_of(lexicon)
    summary = run(
        read_corpus(corpus, root, subset or [""], download),
        partial(make_aligner, aligner, alignments, stress, voice, lexicon),
        FeatureSpec.named(features),
        out,
        PhoneTable.english(stress),
        settings,
        executor=make_executor(executor, workers, address),
        limit=limit,
        min_score=min_score,
        most_seconds=max_seconds,
        until=until.value,
    )
    if summary is None:
        print(f"{until.value}: done; look at it in {out}, and go on with the same command")
        return
    print(summary)
    if summary.rejected:
        print(f"reasons: {out / 'rejected.jsonl'}")


def read_corpus(
    corpus: str, root: Path, subsets: list[str], download: bool = False
) -> Iterator[Utterance | Rejected]:
    """What a corpus's subsets hold; UserError for a corpus that is not known."""
    from importlib import import_module

    from data_prep import CORPORA

    if corpus not in CORPORA:
        raise UserError(f"corpus '{corpus}' is not known: choose one of {', '.join(CORPORA)}")
    module = import_module(CORPORA[corpus])
    for subset in subsets:
        if download:
            module.download(root, subset)
        yield from module.read(root, subset)


def read_utterances(root: Path, subset: str) -> list[Utterance]:
    """The utterances of a LibriSpeech subset that can be used, for measuring."""
    from voiceflow.data.manifest import Utterance

    items = read_corpus("librispeech", root, [subset])
    return [item for item in items if isinstance(item, Utterance)]


def digest_of(lexicon: Path) -> str:
    """What a lexicon's file holds, in short; UserError where it cannot be read or used."""
    from hashlib import sha256

    from voiceflow.alignment.pronunciation import english_lexicon

    english_lexicon(lexicon)
    return sha256(lexicon.read_bytes()).hexdigest()[:16]


def digest_of_aligner(voice: str) -> str:
    """Which aligner a voice carries, in short: two aligners' borders are not to be mixed."""
    from hashlib import sha256

    from voiceflow.model_folder import find_voice

    weights = find_voice(voice) / "aligner.safetensors"
    if not weights.is_file():
        raise UserError(f"{voice} carries no aligner: `voiceflow pack --aligner` gives it one")
    return sha256(weights.read_bytes()).hexdigest()[:16]


def require_voice(aligner: AlignerName, voice: str | None) -> None:
    """UserError where ctc is asked for without the voice that carries it."""
    if aligner is AlignerName.ctc and voice is None:
        raise UserError("--aligner ctc is a trained one: name the voice that carries it by --voice")


def make_executor(name: ExecutorName, workers: int, address: str) -> Executor:
    """The executor asked for."""
    from voiceflow.data.executors import Processes, Ray

    return Ray(address) if name is ExecutorName.ray else Processes(workers)


def make_aligner(
    name: AlignerName,
    alignments: Path | None,
    stress: bool,
    voice: str | None = None,
    lexicon: Path | None = None,
) -> Aligner:
    """The aligner asked for; called in each worker."""
    from voiceflow.alignment.pronunciation import english_lexicon

    own = None if lexicon is None else english_lexicon(lexicon)
    if name is AlignerName.ctc:
        from voiceflow.alignment.ctc import CtcAligner

        assert voice is not None
        return CtcAligner.of_voice(voice, own)
    if name is AlignerName.mfa:
        from voiceflow.alignment.mfa import MfaAligner

        assert alignments is not None
        return MfaAligner(alignments, stress)
    from voiceflow.alignment.pocketsphinx import PocketsphinxAligner

    return PocketsphinxAligner(own)
