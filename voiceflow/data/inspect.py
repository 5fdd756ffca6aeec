"""What prepared data holds: one utterance, or the figures of all of it, read shard by shard."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voiceflow.alignment.frames import FramedAlignment, FramedWord
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance, read_manifest
from voiceflow.data.shards import PreparedUtterance, open_prepared, schema
from voiceflow.text.phones import SILENCE, base_of

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_A_TIME = 64
_COUNTED = ["speaker", "language", "seconds", "score", "n_frames", "words", "phones", "durations"]
_KINDS_SHOWN = 12


@dataclass(frozen=True)
class Spread:
    """How values are spread: the ends, the middle, and what 5 % lie under and over."""

    smallest: float
    percentile5: float
    median: float
    percentile95: float
    largest: float

    @staticmethod
    def of(values: np.ndarray, counts: np.ndarray | None = None) -> Spread:
        """Of (N,) values, each there `counts` times; NaN where there are none."""
        if counts is None:
            counts = np.ones(len(values), np.int64)
        values, counts = values[counts > 0], counts[counts > 0]
        if len(values) == 0:
            return Spread(*[float("nan")] * 5)
        order = np.argsort(values, kind="stable")
        below = np.cumsum(counts[order])
        # The smallest value that has at least this share of all at or under it.
        places = [np.searchsorted(below, share * below[-1]) for share in (0, 0.05, 0.5, 0.95, 1)]
        return Spread(*(float(values[order[place]]) for place in places))

    def __format__(self, spec: str) -> str:
        names = ("", "5 % ", "median ", "95 % ", "")
        values = (self.smallest, self.percentile5, self.median, self.percentile95, self.largest)
        return ", ".join(f"{n}{v:{spec}}" for n, v in zip(names, values, strict=True))


@dataclass(frozen=True)
class PhoneUse:
    """How often a phone was said, its place in the word aside, and for how long in all."""

    count: int
    seconds: float

    @property
    def mean_seconds(self) -> float:
        """The mean duration."""
        return self.seconds / self.count


@dataclass(frozen=True, eq=False)
class Statistics:
    """The figures of a prepared folder.

    seconds, phone_rates, word_rates, scores: one value an utterance: its length, phones a second
    of speech (silence aside), words a minute (silence and all), the aligner's score where it has
    one. edges: seconds of silence before each first and after each last word. speakers, languages:
    seconds of each. phones: use of each. pauses: (L,) how many silences between words last 0, 1,
    ... frames. silent_seconds: of all silences. rejected: utterances left out, by kind of reason.
    """

    folder: str
    hop_seconds: float
    n_frames: int
    n_words: int
    seconds: np.ndarray
    phone_rates: np.ndarray
    word_rates: np.ndarray
    scores: np.ndarray
    edges: np.ndarray
    speakers: Mapping[str, float]
    languages: Mapping[str, float]
    phones: Mapping[str, PhoneUse]
    pauses: np.ndarray
    silent_seconds: float
    rejected: Mapping[str, int]

    @property
    def hours(self) -> float:
        """Hours of sound."""
        return float(self.seconds.sum()) / 3600

    @property
    def silent_share(self) -> float:
        """The share of the frames that is silence."""
        return self.silent_seconds / (self.n_frames * self.hop_seconds)

    @property
    def pause_spread(self) -> Spread:
        """Seconds of the silences between words that last at least a frame."""
        frames = np.arange(1, len(self.pauses))
        return Spread.of(frames * self.hop_seconds, self.pauses[1:])

    def __str__(self) -> str:
        return "\n".join(f"{name:<12}{value}".rstrip() for name, value in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        hours = Spread.of(np.array(list(self.speakers.values())) / 3600)
        n_pauses, n_borders = int(self.pauses[1:].sum()), int(self.pauses.sum())
        share = 100 * n_pauses / max(n_borders, 1)
        languages = [f"{name} {seconds / 3600:.2f} h" for name, seconds in _largest(self.languages)]
        of_each = f"{hours.smallest:.3f}, median {hours.median:.3f}, {hours.largest:.3f} hours"
        yield self.folder, ""
        yield "amount", f"{self.hours:.2f} hours, {len(self.seconds)} utterances"
        yield "", f"{self.n_words} words, {self.n_frames} frames"
        yield "speakers", f"{len(self.speakers)}: {of_each}"
        yield "languages", ", ".join(languages)
        yield "length", f"{Spread.of(self.seconds):.2f} s"
        yield "pace", f"{Spread.of(self.phone_rates):.1f} phones a second of speech"
        yield "", f"{Spread.of(self.word_rates):.0f} words a minute"
        yield "silence", f"{100 * self.silent_share:.1f} % of the frames"
        yield "", f"{Spread.of(self.edges):.2f} s at either end"
        yield "pauses", f"at {n_pauses} of {n_borders} borders between words ({share:.1f} %)"
        if n_pauses:
            yield "", f"{self.pause_spread:.2f} s"
        without = len(self.seconds) - len(self.scores)
        yield "scores", f"{Spread.of(self.scores):.2f}" if len(self.scores) else "none"
        if without and len(self.scores):
            yield "", f"{without} utterances have none"
        yield "rejected", str(sum(self.rejected.values()))
        for kind, count in _largest(self.rejected)[:_KINDS_SHOWN]:
            yield "", f"{count:>6}  {kind}"
        uses = sorted(self.phones.items(), key=lambda item: -item[1].count)
        cells = [f"{s:<4}{u.count:>8}{1000 * u.mean_seconds:>6.0f} ms" for s, u in uses]
        yield "phones", f"{len(uses)}: how often, mean duration"
        height = -(-len(cells) // 3)
        for line in range(height):
            yield "", "    ".join(cells[line::height])


def shard_files(folder: Path) -> list[Path]:
    """The shards of a prepared folder, in order."""
    return sorted((folder / "shards").glob("[0-9]*.parquet"))


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Within it, what Arrow has against a file is a UserError of one line."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as Parquet ({reason})") from error


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of a shard, a few rows at a time. Raises UserError when it cannot be read."""
    import pyarrow.parquet as pq

    with reading_parquet(path), pq.ParquetFile(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise UserError(f"{path}: no column {missing[0]!r}: not a shard of prepared data")
        yield from file.iter_batches(ROWS_AT_A_TIME, columns=list(columns))


def rejected_file(folder: Path) -> Path:
    """Where the utterances left out are listed: failed.jsonl in data of version 0.1."""
    older = folder / "failed.jsonl"
    named = folder / "rejected.jsonl"
    return older if older.is_file() and not named.is_file() else named


def read_rejected(path: Path) -> list[Rejected]:
    """Read rejected.jsonl. Raises UserError, with the line, where it is missing or another file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            found.append(Rejected(*(str(values[key]) for key in ("id", "audio", "reason"))))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number}: expected an object with id, audio and reason, found "
                f"{line[:60]!r}"
            ) from error
    return found


def kind_of(rejected: Rejected) -> str:
    """The reason without what is this utterance's own: names, numbers, quoted and spoken words."""
    text = rejected.reason
    for own in filter(None, (rejected.audio, rejected.id)):
        text = text.replace(own, "…")
    text = re.sub(r"'[^']*'(?!\w)|\"[^\"]*\"|\S*/\S*", "…", text)
    text = re.sub(r"\b[A-Z][A-Z']*(?: [A-Z][A-Z']*)+\b|\b[A-Z']{3,}\b", "…", text)
    text = re.sub(r"-?\b\d+(?:\.\d+)?\b", "N", text)
    text = re.sub(r"^[…\s]+:?\s*", "", text)
    return text.split(": ")[0].strip() or rejected.reason


def find_utterance(folder: Path, id: str) -> PreparedUtterance:
    """One row of a prepared folder; its audio is the manifest's, empty where there is none.

    Raises UserError where there is no such utterance, and says so if it was rejected.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    n_mels = open_prepared(folder).features.n_mels
    for path in shard_files(folder):
        if any(pc.index(batch["id"], id).as_py() >= 0 for batch in read_batches(path, ["id"])):
            with reading_parquet(path):
                table = pq.read_table(path, filters=[("id", "==", id)])
            found = _row(table.to_batches()[0].slice(0, 1), folder, n_mels)
            manifest = folder / "manifest.jsonl"
            told = {u.id: u for u in read_manifest(manifest)} if manifest.is_file() else {}
            return replace(found, utterance=told.get(id, found.utterance))
    if rejected_file(folder).is_file():
        for rejected in read_rejected(rejected_file(folder)):
            if rejected.id == id:
                raise UserError(f"{folder}: {id} was rejected: {rejected.reason}")
    raise UserError(f"{folder}: no utterance {id!r}: {folder / 'manifest.jsonl'} names those there")


def read_rows(path: Path, n_mels: int) -> Iterator[PreparedUtterance]:
    """The utterances of a shard, without their audio; UserError where it or one is damaged."""
    for batch in read_batches(path, schema().names):
        for number in range(len(batch)):
            yield _row(batch.slice(number, 1), path, n_mels)


def _row(batch: pa.RecordBatch, place: Path, n_mels: int) -> PreparedUtterance:
    """A batch of one row; place: what an error names."""
    [row] = batch.drop_columns(["mel"]).to_pylist()
    utterance = Utterance(row["id"], "", row["text"], row["speaker"], row["language"])
    try:
        mel = batch["mel"].flatten().to_numpy()
        framed = FramedAlignment(
            tuple(row["phones"]),
            tuple(row["durations"]),
            tuple(FramedWord(**word) for word in row["words"]),
        )
        return PreparedUtterance(
            utterance, row["seconds"], mel.reshape(-1, n_mels), framed, row["score"]
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{place}: {row['id']} is damaged ({error}): see `voiceflow data validate`"
        ) from error


def word_table(row: PreparedUtterance, hop_seconds: float) -> str:
    """Who says what, then a line for each word and silence: start, end, phones with their ms."""
    framed, utterance = row.alignment, row.utterance
    borders = np.cumsum([0, *framed.durations]) * hop_seconds
    score = "no score" if row.score is None else f"score {row.score:.2f}"
    lines = [
        f"{utterance.id}: speaker {utterance.speaker}, {utterance.language}, {row.seconds:.2f} s, "
        f"{len(row.mel)} frames, {len(framed.words)} words, {score}",
        utterance.text,
        f"{'start':>7} {'end':>7}  {'word':<16} phones (ms)",
    ]
    starts = {word.first_phone: word for word in framed.words}
    place = 0
    while place < len(framed.phones):
        word = starts.get(place, FramedWord("", place, 1))
        after = place + max(word.n_phones, 1)
        said = [
            f"{base_of(phone)} {1000 * hop_seconds * duration:.0f}"
            for phone, duration in zip(
                framed.phones[place:after], framed.durations[place:after], strict=True
            )
        ]
        if word.text or framed.durations[place]:
            start, end = borders[place], borders[min(after, len(borders) - 1)]
            lines.append(f"{start:7.2f} {end:7.2f}  {word.text or '-':<16} {', '.join(said)}")
        place = after
    return "\n".join(lines)


class _Counts:
    """What is summed up while the shards go by."""

    def __init__(self) -> None:
        self.columns: dict[str, list[np.ndarray]] = defaultdict(list)
        self.speakers: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.phones: Counter[str] = Counter()
        self.phone_frames: Counter[str] = Counter()
        self.pauses = np.zeros(1, np.int64)
        self.n_frames = self.n_words = self.silent_frames = 0

    def add(self, batch: pa.RecordBatch, hop_seconds: float) -> None:
        """Count some rows. Raises ValueError where their columns do not fit together."""
        seconds = batch["seconds"].to_numpy()
        frames = batch["n_frames"].to_numpy()
        for names, sums in ((batch["speaker"], self.speakers), (batch["language"], self.languages)):
            for name, length in zip(names.to_pylist(), seconds, strict=True):
                sums[name] += length
        lengths = np.diff(batch["phones"].offsets.to_numpy())
        durations = batch["durations"].flatten().to_numpy()
        encoded = batch["phones"].flatten().dictionary_encode()
        symbols, kinds = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
        if len(durations) != len(kinds) or not lengths.all():
            raise ValueError("phones without durations")
        counts = np.bincount(kinds, minlength=len(symbols))
        of_each = np.bincount(kinds, durations, minlength=len(symbols)).astype(np.int64)
        for symbol, count, total in zip(symbols, counts, of_each, strict=True):
            self.phones[base_of(symbol)] += int(count)
            self.phone_frames[base_of(symbol)] += int(total)

        rows = np.repeat(np.arange(len(seconds)), lengths)
        silent = np.array([s == SILENCE for s in symbols])[kinds]
        silence = np.bincount(rows[silent], durations[silent], minlength=len(seconds))
        last = np.cumsum(lengths) - 1
        first = last - lengths + 1
        between = silent.copy()
        between[first] = between[last] = False
        pauses = np.bincount(durations[between], minlength=len(self.pauses))
        pauses[: len(self.pauses)] += self.pauses
        self.pauses = pauses
        self.n_frames += int(frames.sum())
        self.silent_frames += int(silence.sum())
        words = np.diff(batch["words"].offsets.to_numpy())
        self.n_words += int(words.sum())
        spoken = np.maximum(frames - silence, 1) * hop_seconds
        said = np.bincount(rows[~silent], minlength=len(seconds))
        ends = np.concatenate([durations[first], durations[last]]) * hop_seconds
        for column, values in {
            "seconds": seconds,
            "phone_rates": said / spoken,
            "word_rates": 60 * words / np.maximum(seconds, hop_seconds),
            "scores": batch["score"].drop_null().to_numpy(),
            "edges": ends,
        }.items():
            self.columns[column].append(np.array(values, np.float64))


def statistics(folder: Path) -> Statistics:
    """The figures of a prepared folder; no spectrogram is read.

    Raises UserError where the folder is unfinished or a shard cannot be read.
    """
    prepared = open_prepared(folder)
    hop_seconds = prepared.features.hop_seconds
    counts = _Counts()
    for path in shard_files(folder):
        for batch in read_batches(path, _COUNTED):
            try:
                counts.add(batch, hop_seconds)
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"{path} is damaged ({error}): see `voiceflow data validate {folder}`"
                ) from error
    if not counts.n_frames:
        raise UserError(f"{folder}: the shards hold no utterance")
    path = rejected_file(folder)
    rejected = Counter(map(kind_of, read_rejected(path))) if path.is_file() else Counter()
    columns: dict[str, Any] = {k: np.concatenate(v) for k, v in counts.columns.items()}
    return Statistics(
        folder=str(folder),
        hop_seconds=hop_seconds,
        n_frames=counts.n_frames,
        n_words=counts.n_words,
        speakers=dict(counts.speakers),
        languages=dict(counts.languages),
        phones={
            symbol: PhoneUse(count, counts.phone_frames[symbol] * hop_seconds)
            for symbol, count in counts.phones.items()
            if symbol != SILENCE
        },
        pauses=counts.pauses,
        silent_seconds=counts.silent_frames * hop_seconds,
        rejected=rejected,
        **columns,
    )


def _largest(sums: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(sums.items(), key=lambda item: (-item[1], item[0]))
