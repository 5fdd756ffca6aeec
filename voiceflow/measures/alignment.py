"""How far the borders of two alignments of the same speech lie apart."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from voiceflow.alignment.mfa import MfaAligner
from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.types import Aligner, Alignment, AlignmentError, Word
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.files import write_json
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import without_stress

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class BorderDifferences:
    """Seconds by which the other alignment's borders come after the reference's.

    words: starts and ends of all words. phones: borders between the phones of a word, where both
    alignments say the word with the same phones (stress aside).
    """

    words: tuple[float, ...]
    phones: tuple[float, ...]


@dataclass(frozen=True)
class BorderSummary:
    """Of signed differences: their number and median; of their sizes, the rest."""

    borders: int
    offset_seconds: float
    median_seconds: float
    percentile95_seconds: float
    within_20_ms: float
    within_50_ms: float

    def __str__(self) -> str:
        return (
            f"{self.borders} borders: "
            f"median {1000 * self.median_seconds:.0f} ms, "
            f"95th percentile {1000 * self.percentile95_seconds:.0f} ms, "
            f"within 20 ms {100 * self.within_20_ms:.1f} %, "
            f"within 50 ms {100 * self.within_50_ms:.1f} % "
            f"(offset {1000 * self.offset_seconds:+.1f} ms)"
        )


def compare(reference: Alignment, other: Alignment) -> BorderDifferences:
    """The border differences of two alignments of one utterance.

    Raises ValueError where they hold different words.
    """
    pairs = list(zip(reference.spoken(), other.spoken(), strict=False))
    if [w.text for w in reference.spoken()] != [w.text for w in other.spoken()]:
        raise ValueError("expected two alignments of the same words")
    words = [d for a, b in pairs for d in (b.start - a.start, b.end - a.end)]
    phones = [
        q.start - p.start
        for a, b in pairs
        if _symbols(a) == _symbols(b)
        for p, q in zip(a.phones[1:], b.phones[1:], strict=True)
    ]
    return BorderDifferences(tuple(words), tuple(phones))


def summarise(differences: Sequence[float]) -> BorderSummary:
    """Median, 95th percentile and shares of the sizes of signed differences in seconds.

    Raises ValueError where there are none.
    """
    if not differences:
        raise ValueError("expected at least one border")
    signed = np.asarray(differences)
    sizes = np.abs(signed)
    # Half a millisecond of slack: both aligners stand on a grid of 10 ms.
    return BorderSummary(
        borders=len(signed),
        offset_seconds=float(np.median(signed)),
        median_seconds=float(np.median(sizes)),
        percentile95_seconds=float(np.percentile(sizes, 95)),
        within_20_ms=float((sizes <= 0.0205).mean()),
        within_50_ms=float((sizes <= 0.0505).mean()),
    )


@dataclass(frozen=True)
class Agreement:
    """What two aligners give on a set of utterances; `left_out` holds reasons."""

    utterances: int
    words: BorderSummary
    phones: BorderSummary
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.utterances} utterances compared, {len(self.left_out)} left out\n"
            f"word borders   {self.words}\nphone borders  {self.phones}"
        )


def measure_alignment(
    root: Path,
    subset: str,
    alignments: Path,
    aligner: Aligner | None = None,
    *,
    limit: int | None = None,
    workers: int = 1,
    out: Path | None = None,
) -> Agreement:
    """Print how far an aligner's borders in a LibriSpeech subset lie from its TextGrids'.

    aligner: pocketsphinx if not given. Utterances without a TextGrid are passed over. out: where to
    write the figures as JSON. Raises UserError where no utterance has both, or a folder is missing.
    """
    from data_prep import librispeech

    reference = MfaAligner(alignments)
    items = librispeech.read(root, subset)
    aligned = (u for u in items if isinstance(u, Utterance) and u.id in reference)
    utterances = list(islice(aligned, limit))
    work = partial(_differences, reference, aligner or PocketsphinxAligner())
    if workers > 1:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(work, [utterances[i::workers] for i in range(workers)]))
    else:
        parts = [work(utterances)]
    found = [differences for part, _ in parts for differences in part]
    left_out = [reason for _, reasons in parts for reason in reasons]
    if not found:
        raise UserError(
            f"{root}: no utterance of {subset} could be compared with {alignments} "
            f"({left_out[0] if left_out else 'none has a TextGrid there'})"
        )
    agreement = Agreement(
        utterances=len(found),
        words=summarise([d for differences in found for d in differences.words]),
        phones=summarise([d for differences in found for d in differences.phones]),
        left_out=tuple(left_out),
    )
    print(agreement, *left_out, sep="\n")
    if out is not None:
        write_json(out, asdict(agreement))
    return agreement


def _differences(
    reference: Aligner, other: Aligner, utterances: Iterable[Utterance]
) -> tuple[list[BorderDifferences], list[str]]:
    """The differences of each utterance, and the reasons where one could not be aligned."""
    found: list[BorderDifferences] = []
    reasons: list[str] = []
    for utterance in utterances:
        wave, words = load_mono(utterance.audio, SAMPLE_RATE), words_of(utterance.text)
        try:
            expected = reference.align(wave, words, utterance.id)
            found.append(compare(expected, other.align(wave, words, utterance.id)))
        except AlignmentError as error:
            reasons.append(str(error))
    return found, reasons


def _symbols(word: Word) -> list[str]:
    return [without_stress(phone.symbol) for phone in word.phones]
