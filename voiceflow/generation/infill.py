"""The plan of an infill: which words are heard where, and what is to be generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from voiceflow.alignment.frames import FramedAlignment, to_frames
from voiceflow.alignment.types import SAMPLE_RATE, Aligner, Alignment, AlignmentError, Word
from voiceflow.audio.features import LogMel
from voiceflow.audio.io import resample
from voiceflow.config import UserError
from voiceflow.generation.plan import Gap, Slot, cut_gap, known_slots, widen
from voiceflow.generation.spans import Span
from voiceflow.text.lexicon import Lexicon
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import SILENCE, with_ghost_silences

# Below this score (nats per frame) a transcript is not what is said: of the 2015 right transcripts
# of the training sets the lowest has -2.6, of 60 wrong ones the highest had -4.3.
LEAST_SCORE = -3.7


@dataclass(frozen=True)
class Part:
    """Recorded sound between unheard spans, with its own words: samples start:end."""

    start: int
    end: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Slots of the whole, with gaps; mel: (T, M) un-normalised log-mel of the recording.

    cuts: each gap's start and end in samples of the wave, where the new sound is put in.
    """

    slots: list[Slot]
    gaps: list[Gap]
    mel: Tensor
    cuts: list[tuple[int, int]]


def lay_out_infill(
    wave: np.ndarray,
    words: Sequence[str],
    spans: Sequence[Span],
    aligner: Aligner,
    lexicon: Lexicon,
    log_mel: LogMel,
    name: str,
    keep_length: bool = True,
) -> Layout:
    """Align what is heard and place the gaps.

    wave: (n,) mono at the features' rate; words: the transcript as it shall be; spans: in order,
    without overlap. Of an unheard span nothing is listened to: the parts before and after it are
    aligned apart, and their spectrograms computed apart. Raises UserError when the words do not
    fit the sound.
    """
    spec = log_mel.spec
    unheard = [s for s in spans if s.words is not None]
    rate, hop = spec.sample_rate, spec.hop
    shortest = spec.n_fft // 2 + 1
    holes = [(round(s.start * rate), min(round(s.end * rate), len(wave))) for s in unheard]
    borders = [(end, start) for (_, end), (start, _) in pairwise([(0, 0), *holes, (len(wave), 0)])]
    said = [tuple(words_of(s.words or "")) for s in unheard]
    # A part may lose what is left of its first frame, and must still fill a window.
    aligned = _align_parts(wave, words, said, borders, aligner, name, shortest + hop, rate)

    n_frames = spec.n_frames(len(wave))
    mel = torch.full((n_frames, spec.n_mels), float(np.log(spec.floor)))
    slots: list[Slot] = []
    gaps: list[Gap] = []
    cuts: list[tuple[int, int]] = []
    position = 0
    for number, ((start, end), alignment) in enumerate(zip(borders, aligned, strict=True)):
        first = -(-start // hop)
        last = n_frames if number == len(borders) - 1 else -(-end // hop)
        if end - first * hop < shortest or last <= first:
            first = last = n_frames if number == len(borders) - 1 else first
            part_slots = [Slot(SILENCE, 0)]
        else:
            mel[first:last] = log_mel(torch.from_numpy(wave[first * hop : end]))[: last - first]
            framed = to_frames(_shifted(alignment, start, first * hop, end, rate),
                               last - first, spec.hop_seconds)
            part_slots = known_slots(framed)
        heard = [s for s in spans if s.words is None and start <= _middle(s) * rate < end]
        if heard and last <= first:
            raise UserError(
                f"{name}: the span {heard[0].start:g}:{heard[0].end:g} stands in {end - start} "
                "samples of sound between other spans, too few to be listened to: join it to its "
                "neighbour, or say its words (START:END=WORDS)"
            )
        if number > 0:
            gap_words = [lexicon.pronunciations(w)[0] for w in said[number - 1]]
            inner = with_ghost_silences(gap_words)[1:-1]
            _open_silence(slots, -1, len(gaps))
            _open_silence(part_slots, 0, len(gaps))
            slots += [Slot(p, 0, len(gaps)) for p in inner]
            gaps.append(Gap(position, first, first - position if keep_length else None))
            cuts.append(holes[number - 1])
        if last > first:
            part_slots, found = _cut_heard(part_slots, framed, heard, first, len(gaps), rate, hop)
            for a, b in found:
                gaps.append(Gap(a, b, b - a if keep_length else None))
                cuts.append((max(border_sample(a, n_frames, hop, len(wave)), start),
                             min(border_sample(b, n_frames, hop, len(wave)), end)))
        slots += part_slots
        position = last
    return Layout(slots, gaps, mel, cuts)


def _middle(span: Span) -> float:
    """In seconds: where spans touch, rounding may move an edge into the other, never a middle."""
    return (span.start + span.end) / 2


def border_sample(frame: int, n_frames: int, hop: int, n_samples: int) -> int:
    """The sample at the border before a frame: half a hop before its centre."""
    if frame <= 0:
        return 0
    return n_samples if frame >= n_frames else frame * hop - hop // 2


def _open_silence(slots: list[Slot], index: int, gap: int) -> None:
    """A silence of no frames beside a gap is the gap's: nothing of it was heard."""
    if slots and slots[index].frames == 0 and slots[index].gap is None:
        slots[index] = Slot(slots[index].phone, 0, gap)


def _cut_heard(
    slots: list[Slot],
    framed: FramedAlignment,
    spans: Sequence[Span],
    offset: int,
    first_gap: int,
    rate: int,
    hop: int,
) -> tuple[list[Slot], list[tuple[int, int]]]:
    """Make the phones under heard spans gaps; returns the frames of each, in the recording."""
    ranges: list[tuple[int, int]] = []
    for span in spans:
        a = int(span.start * rate / hop + 0.5) - offset
        b = max(int(span.end * rate / hop + 0.5) - offset, a + 1)
        a, b = widen(framed.durations, a, b)
        if ranges and a < ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(b, ranges[-1][1]))
        else:
            ranges.append((a, b))
    for number, (a, b) in reversed(list(enumerate(ranges))):
        slots = cut_gap(slots, a, b, first_gap + number)
    return slots, [(a + offset, b + offset) for a, b in ranges]


def _shifted(alignment: Alignment, start: int, first: int, end: int, rate: int) -> Alignment:
    """An alignment of samples start:end, told from sample `first` on (less than a hop later)."""
    by = (first - start) / rate
    seconds = (end - first) / rate

    def moved(time: float) -> float:
        return min(max(time - by, 0.0), seconds)

    words = tuple(
        replace(
            word,
            start=moved(word.start),
            end=moved(word.end),
            phones=tuple(
                replace(p, start=moved(p.start), end=moved(p.end)) for p in word.phones
            ),
        )
        for word in alignment.words
    )
    return Alignment(words, seconds, alignment.score)


def _align_parts(
    wave: np.ndarray,
    words: Sequence[str],
    said: Sequence[tuple[str, ...]],
    borders: Sequence[tuple[int, int]],
    aligner: Aligner,
    name: str,
    shortest: int,
    rate: int,
) -> list[Alignment]:
    """The best way to divide the transcript over the parts, and its alignments.

    The words of a span may stand in the transcript more than once: every place is tried.
    """
    divisions = list(_divisions(tuple(words), said))
    if not divisions:
        shown = "; ".join(" ".join(s) for s in said)
        raise UserError(
            f"{name}: the words of the span ({shown}) do not stand in the transcript "
            f"'{' '.join(words)}': --text is the whole text as it shall be, with the span's words"
        )
    best: list[Alignment] | None = None
    best_score = -float("inf")
    reason = ""
    for division in divisions:
        try:
            aligned = [
                _align_part(wave[start:end], rate, part, aligner, name, shortest)
                for (start, end), part in zip(borders, division, strict=True)
            ]
        except AlignmentError as error:
            reason = str(error)
            continue
        scored = [(a.score, a.seconds) for a in aligned if a.score is not None]
        score = sum(s * t for s, t in scored) / max(sum(t for _, t in scored), 1e-9)
        if best is None or score > best_score:
            best, best_score = aligned, score
    if best is None:
        raise UserError(f"{name}: the sound and the transcript do not fit together ({reason})")
    if scored:
        check_score(best_score, name)
    return best


def check_score(score: float | None, name: str) -> None:
    """UserError when an alignment's score says that the words are not what is said."""
    if score is not None and score < LEAST_SCORE:
        raise UserError(
            f"{name}: the transcript does not seem to be what is said (alignment score "
            f"{score:.2f}, expected {LEAST_SCORE:g} or more): check the text"
        )


def _align_part(
    wave: np.ndarray, rate: int, words: Sequence[str], aligner: Aligner, name: str, shortest: int
) -> Alignment:
    seconds = len(wave) / rate
    if not words:
        silence = (Word.silence(0.0, seconds),) if seconds > 0 else ()
        return Alignment(silence, seconds, None)
    if len(wave) < shortest:
        raise AlignmentError(f"{seconds:.3f} s of sound cannot hold '{' '.join(words)}'")
    return aligner.align(resample(wave, rate, SAMPLE_RATE), list(words), name)


def _divisions(
    words: tuple[str, ...], said: Sequence[tuple[str, ...]]
) -> Iterator[list[tuple[str, ...]]]:
    """All ways to read `words` as part, said[0], part, said[1], ..., part."""
    if not said:
        yield [words]
        return
    n = len(said[0])
    for i in range(len(words) - n + 1):
        if words[i : i + n] == said[0]:
            for rest in _divisions(words[i + n :], said[1:]):
                yield [words[:i], *rest]
