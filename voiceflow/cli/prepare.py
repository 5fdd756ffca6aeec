"""`voiceflow prepare`: a corpus folder to prepared data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voiceflow.config import UserError
from voiceflow.data.manifest import SPEEDS

if TYPE_CHECKING:
    from voiceflow.alignment.types import Aligner
    from voiceflow.data.executors import Executor
    from voiceflow.data.manifest import Rejected, Utterance
    from voiceflow.text.lexicon import ClosedLexicon, Lexicon
    from voiceflow.text.phones import PhoneTable


class AlignerName(StrEnum):
    """Who says which phone stands where."""

    pocketsphinx = "pocketsphinx"
    mfa = "mfa"
    ctc = "ctc"
    even = "even"
    unaligned = "unaligned"


class PhoneSetName(StrEnum):
    """Whose phones and words."""

    english = "english"
    lexicon = "lexicon"


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
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="For hub with --download: which column is the audio, text, speaker, language or "
            "id, as text=transcription; may be given several times."
        ),
    ] = None,
    aligner: Annotated[
        AlignerName,
        typer.Option(
            help="pocketsphinx and ctc make alignments, ctc by --voice; mfa reads the Montreal "
            "aligner's; even makes none: it is what a first ctc aligner is trained from; unaligned "
            "puts a symbol on each frame from the first on, as F5-TTS does, for comparison."
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
    phone_set: Annotated[
        PhoneSetName,
        typer.Option(help="english, or the phones and words of --lexicon alone: any language."),
    ] = PhoneSetName.english,
    speed: Annotated[
        list[float] | None,
        typer.Option(
            min=SPEEDS[0], max=SPEEDS[1],
            help="Every utterance once more, so many times as fast, with pitch and all, as 0.9: "
            "more voices from few speakers; may be given several times.",
        ),
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
    shard_utterances: Annotated[
        int,
        typer.Option(min=1, help="Utterances of a shard: the unit of work, and of a file."),
    ] = 64,
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
    from voiceflow.text.normalise import plain_words_of, words_of

    if aligner is AlignerName.mfa and alignments is None:
        raise UserError("--aligner mfa reads TextGrids: name their folder with --alignments")
    require_voice(aligner, voice)
    closed = phone_set is PhoneSetName.lexicon
    require_lexicon(closed, lexicon, aligner, stress)
    columns = named_columns(corpus, column or [], download)
    settings = {
        "corpus": corpus, "aligner": aligner.value, "stress": str(stress),
        "phone_set": phone_set.value,
    }  # fmt: skip
    if voice is not None:
        settings["voice"] = digest_of_aligner(voice)
    if lexicon is not None:
        settings["lexicon"] = digest_of(lexicon, closed)
    if speed:
        if aligner is AlignerName.mfa:
            raise UserError("--speed makes recordings of which there are no TextGrids: choose an "
                            "aligner that listens, as --aligner ctc --voice mini")  # fmt: skip
        settings["speeds"] = ", ".join(f"{s:g}" for s in speed)
    spec = FeatureSpec.named(features)
    summary = run(
        at_speeds(read_corpus(corpus, root, subset or [""], download, columns), speed or ()),
        partial(
            make_aligner, aligner, alignments, stress, voice, lexicon, closed, spec.hop_seconds
        ),
        spec,
        out,
        phone_table(lexicon if closed else None, stress),
        settings,
        executor=make_executor(executor, workers, address),
        limit=limit,
        min_score=min_score,
        most_seconds=max_seconds,
        until=until.value,
        shard_utterances=shard_utterances,
        words=plain_words_of if closed else words_of,
    )
    if summary is None:
        print(f"{until.value}: done; look at it in {out}, and go on with the same command")
        return
    print(summary)
    if summary.rejected:
        print(f"reasons: {out / 'rejected.jsonl'}")


def read_corpus(
    corpus: str,
    root: Path,
    subsets: list[str],
    download: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Utterance | Rejected]:
    """What a corpus's subsets hold; UserError for a corpus that is not known."""
    from importlib import import_module

    from data_prep import CORPORA

    if corpus not in CORPORA:
        raise UserError(f"corpus '{corpus}' is not known: choose one of {', '.join(CORPORA)}")
    module = import_module(CORPORA[corpus])
    for subset in subsets:
        if download:
            module.download(root, subset, **(columns or {}))
        yield from module.read(root, subset)


def at_speeds(
    items: Iterable[Utterance | Rejected], speeds: Sequence[float]
) -> Iterator[Utterance | Rejected]:
    """Each utterance, and after it the same at each of the speeds but 1, which it has."""
    from voiceflow.data.manifest import Utterance

    for item in items:
        yield item
        if isinstance(item, Utterance):
            yield from (item.faster(speed) for speed in dict.fromkeys(speeds) if speed != 1)


def named_columns(corpus: str, given: list[str], download: bool) -> dict[str, str]:
    """What `--column` says, {"text": "transcription"}; UserError where it cannot be followed."""
    from data_prep.hub import USUAL

    if given and corpus != "hub":
        raise UserError(f"--column is for hub alone, found it with {corpus}: leave it out")
    if given and not download:
        raise UserError("--column says what a download takes: give --download too")
    columns: dict[str, str] = {}
    for one in given:
        what, _, name = one.partition("=")
        if what not in USUAL or not name or what in columns:
            raise UserError(
                f"expected --column WHAT=NAME, each of {', '.join(USUAL)} once at the most, found "
                f"{' '.join(given)}: mend {one!r}"
            )
        columns[what] = name
    return columns


def read_utterances(root: Path, subset: str) -> list[Utterance]:
    """The utterances of a LibriSpeech subset that can be used, for measuring."""
    from voiceflow.data.manifest import Utterance

    items = read_corpus("librispeech", root, [subset])
    return [item for item in items if isinstance(item, Utterance)]


def require_lexicon(
    closed: bool, lexicon: Path | None, aligner: AlignerName, stress: bool
) -> None:
    """UserError where a phone set of one's own is asked for with what goes with English alone."""
    if not closed:
        return
    if lexicon is None:
        raise UserError("--phone-set lexicon takes phones and words of a file: name it, --lexicon")
    if aligner is AlignerName.pocketsphinx:
        raise UserError(
            "pocketsphinx knows English alone: with --phone-set lexicon choose --aligner mfa, ctc "
            "or, to train a first ctc aligner, even"
        )
    if stress:
        raise UserError("--stress is for English: with --phone-set lexicon phones stay as they are")


def phone_table(closed_lexicon: Path | None, stress: bool) -> PhoneTable:
    """English phones, or those of a lexicon."""
    from voiceflow.text.lexicon import ClosedLexicon
    from voiceflow.text.phones import PhoneTable

    if closed_lexicon is None:
        return PhoneTable.english(stress)
    return PhoneTable.of(ClosedLexicon(closed_lexicon).phones())


def make_lexicon(lexicon: Path | None, closed: bool) -> Lexicon | ClosedLexicon:
    """English with the words of a file first, or the file's words alone."""
    from voiceflow.alignment.pronunciation import english_lexicon
    from voiceflow.text.lexicon import ClosedLexicon

    if closed:
        assert lexicon is not None
        return ClosedLexicon(lexicon)
    return english_lexicon(lexicon)


def digest_of(lexicon: Path, closed: bool = False) -> str:
    """What a lexicon's file holds, in short; UserError where it cannot be read or used."""
    from hashlib import sha256

    make_lexicon(lexicon, closed)
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
        raise UserError(
            "--aligner ctc is a trained one: name the voice that carries it, as --voice mini for "
            "English"
        )


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
    closed: bool = False,
    hop_seconds: float = 0.01,
) -> Aligner:
    """The aligner asked for; called in each worker. hop_seconds: of the features."""
    if name is AlignerName.even:
        from voiceflow.alignment.even import EvenAligner

        return EvenAligner(make_lexicon(lexicon, closed))
    if name is AlignerName.unaligned:
        from voiceflow.alignment.unaligned import UnalignedAligner

        return UnalignedAligner(make_lexicon(lexicon, closed), hop_seconds)
    if name is AlignerName.ctc:
        from voiceflow.alignment.ctc import CtcAligner

        assert voice is not None
        own = None if lexicon is None else make_lexicon(lexicon, closed)
        return CtcAligner.of_voice(voice, own)
    if name is AlignerName.mfa:
        from voiceflow.alignment.mfa import MfaAligner

        assert alignments is not None
        return MfaAligner(alignments, stress)
    from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
    from voiceflow.alignment.pronunciation import english_lexicon

    return PocketsphinxAligner(None if lexicon is None else english_lexicon(lexicon))
