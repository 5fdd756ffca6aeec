"""Corpus to prepared data, in stages that can each be looked at and taken up again.

    manifest.jsonl               every utterance that the corpus tells of, checked
    alignments/00000.jsonl ...   words and phones in seconds, or the reason why there are none
    shards/00000.parquet ...     features with their phones in frames
    index.parquet, info.json     every row in short; statistics, both written at the end
    rejected.jsonl, split.json   what was left out and why; who is trained on

A shard of utterances is the unit of work: each of its files is written whole or not at all, so the
same command given again goes on where it was stopped, and gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np

from voiceflow import __version__
from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.types import SAMPLE_RATE, Aligner, Alignment, AlignmentError
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import UserError
from voiceflow.data.executors import Executor, Processes
from voiceflow.data.manifest import Rejected, Utterance, stream_manifest
from voiceflow.data.recordings import MOST_SECONDS, load_recording
from voiceflow.data.shards import PreparedUtterance, write_index, write_shard
from voiceflow.data.splits import speaker_split
from voiceflow.files import read_json, replacing, write_json
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import PhoneTable

SHARD_UTTERANCES = 64
STAGES = ("manifest", "align", "shards")

MakeAligner = Callable[[], Aligner]
SplitWords = Callable[[str], list[str]]
_REFUSALS = (AlignmentError, UserError, ValueError)  # an utterance's own fault, never ours


@dataclass(frozen=True)
class ShardResult:
    """What one shard holds: utterances, rejections, and sums for the set's statistics."""

    index: int
    n_utterances: int
    n_rejected: int
    n_frames: int
    seconds: float
    mel_sum: float
    mel_squares: float


@dataclass(frozen=True)
class Summary:
    """What a preparation gave."""

    utterances: int
    rejected: int
    hours: float
    frames: int

    def __str__(self) -> str:
        total = self.utterances + self.rejected
        return (
            f"{self.utterances} of {total} utterances prepared "
            f"({100 * self.utterances / max(total, 1):.2f} %), {self.hours:.2f} hours, "
            f"{self.frames} frames; {self.rejected} rejected"
        )


@dataclass(frozen=True)
class Request:
    """How each utterance is treated; goes to every worker."""

    make_aligner: MakeAligner
    spec: FeatureSpec
    phones: PhoneTable
    folder: Path
    min_score: float | None = None
    most_seconds: float = MOST_SECONDS
    until: str = "shards"
    words: SplitWords = words_of


class Worker:
    """Called with a shard's number and utterances, in any process; makes its tools once in each."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._aligner: Aligner | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"request": self.request, "_aligner": None}

    def __call__(self, task: tuple[int, Sequence[Utterance]]) -> ShardResult | None:
        """Do what is missing of a shard; None when the work ends with its alignments."""
        import torch

        torch.set_num_threads(1)
        worker = _here(self)
        index, utterances = task
        aligned = worker.align(index, utterances)
        return None if self.request.until == "align" else worker.shard(index, utterances, aligned)

    def align(self, index: int, utterances: Sequence[Utterance]) -> dict[str, Alignment | Rejected]:
        """The shard's alignments by id, read where they are there already."""
        path = self.request.folder / "alignments" / f"{index:05d}.jsonl"
        if not path.exists():
            if self._aligner is None:
                self._aligner = self.request.make_aligner()
            found = {u.id: self._align_one(self._aligner, u) for u in utterances}
            lines = [json.dumps({"id": id, **_as_values(result)}) for id, result in found.items()]
            with replacing(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in lines), "utf-8")
        values = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return {v["id"]: _from_values(v) for v in values}

    def _align_one(self, aligner: Aligner, utterance: Utterance) -> Alignment | Rejected:
        from voiceflow.audio.io import resample

        spec = self.request.spec
        try:
            wave = load_recording(utterance, spec, self.request.most_seconds)
            listened = resample(wave, spec.sample_rate, SAMPLE_RATE)
            return aligner.align(listened, self.request.words(utterance.text), utterance.id)
        except _REFUSALS as error:
            return Rejected(utterance.id, utterance.audio, str(error))

    def shard(
        self,
        index: int,
        utterances: Sequence[Utterance],
        aligned: dict[str, Alignment | Rejected],
    ) -> ShardResult:
        """Features and frames of what was aligned, as one Parquet file."""
        log_mel = LogMel(self.request.spec)
        rows: list[PreparedUtterance] = []
        rejected: list[Rejected] = []
        mel_sum = mel_squares = 0.0
        for utterance in utterances:
            try:
                rows.append(self._prepare_one(log_mel, utterance, aligned[utterance.id]))
            except _REFUSALS as error:
                rejected.append(Rejected(utterance.id, utterance.audio, str(error)))
                continue
            mel = rows[-1].mel.astype(np.float64)
            mel_sum += float(mel.sum())
            mel_squares += float(np.square(mel).sum())
        result = ShardResult(
            index=index,
            n_utterances=len(rows),
            n_rejected=len(rejected),
            n_frames=sum(len(row.mel) for row in rows),
            seconds=sum(row.seconds for row in rows),
            mel_sum=mel_sum,
            mel_squares=mel_squares,
        )
        name = self.request.folder / "shards" / f"{index:05d}"
        if rows:  # `datasets` cannot read a file without rows
            write_shard(name.with_suffix(".parquet"), rows)
        with replacing(name.with_suffix(".rejected.jsonl")) as temporary:
            temporary.write_text("".join(r.to_json() + "\n" for r in rejected), "utf-8")
        write_json(name.with_suffix(".json"), asdict(result))
        return result

    def _prepare_one(
        self, log_mel: LogMel, utterance: Utterance, alignment: Alignment | Rejected
    ) -> PreparedUtterance:
        import torch

        if isinstance(alignment, Rejected):
            raise UserError(alignment.reason)
        least, score = self.request.min_score, alignment.score
        if least is not None and score is not None and score < least:
            raise UserError(
                f"{utterance.id}: the alignment's score {score:.2f} is under {least:g} "
                "(--min-score): the transcript is probably not what is said"
            )
        spec = self.request.spec
        wave = load_recording(utterance, spec, self.request.most_seconds)
        mel = log_mel(torch.from_numpy(wave)).numpy()
        framed = to_frames(alignment, len(mel), spec.hop_seconds)
        self.request.phones.ids(framed.phones)  # raises here, where it can still be left out
        seconds = len(wave) / spec.sample_rate
        return PreparedUtterance(utterance, seconds, mel.astype(np.float16), framed, score)


_workers: dict[Path, Worker] = {}


def _here(worker: Worker) -> Worker:
    """This process's own worker for a folder: its aligner lives on from shard to shard."""
    return _workers.setdefault(worker.request.folder, worker)


def prepare(
    items: Iterable[Utterance | Rejected],
    make_aligner: MakeAligner,
    spec: FeatureSpec,
    out: Path,
    phones: PhoneTable,
    settings: dict[str, str],
    *,
    executor: Executor | None = None,
    limit: int | None = None,
    min_score: float | None = None,
    most_seconds: float = MOST_SECONDS,
    until: str = "shards",
    shard_utterances: int = SHARD_UTTERANCES,
    words: SplitWords = words_of,
) -> Summary | None:
    """Align, compute and write everything; what is rejected is listed, never lost silently.

    make_aligner is called once in each worker; `settings` name what was asked for and are part of
    the fingerprint. words: a text as upper-case words, English where none is given. until: the last
    stage to run; None is returned before the last. No more than shard_utterances a worker are held
    at once; of the whole corpus the ids alone. Raises UserError when `out` holds data of other
    settings or when nothing could be prepared.
    """
    from rich.progress import track

    if shard_utterances < 1:
        raise UserError(f"shard_utterances must be at least 1, found {shard_utterances}")
    if until not in STAGES:
        raise UserError(f"stage '{until}' is not one of {', '.join(STAGES)}")
    request = {
        **settings,
        "features": spec.fingerprint(),
        "version": __version__,
        "min_score": str(min_score),
        "most_seconds": str(most_seconds),
        "limit": str(limit),
        "shard_utterances": str(shard_utterances),
    }
    speakers = _manifest(items, out, request, limit)
    if until == "manifest":
        return None
    work = Worker(Request(make_aligner, spec, phones, out, min_score, most_seconds, until, words))
    n_shards = -(-sum(speakers.values()) // shard_utterances)
    done = {int(p.stem) for p in (out / "shards").glob("[0-9]*.json") if p.stem.isdigit()}
    results = [
        ShardResult(**read_json(out / "shards" / f"{index:05d}.json"))
        for index in range(n_shards) if index in done
    ]  # fmt: skip
    waiting = _tasks(out / "manifest.jsonl", shard_utterances, done)
    executor = executor or Processes()
    for result in track(executor.run(work, waiting), "shards", n_shards - len(results)):
        if result is not None:
            results.append(result)
    if until == "align":
        return None
    return _finish(out, spec, phones, request, results, speakers)


def _tasks(
    manifest: Path, size: int, done: Collection[int]
) -> Iterator[tuple[int, Sequence[Utterance]]]:
    """The shards that are not done, each with its utterances, read as they are asked for."""
    utterances = stream_manifest(manifest)
    for index in count():
        shard = list(islice(utterances, size))
        if not shard:
            return
        if index not in done:
            yield index, shard


def _manifest(
    items: Iterable[Utterance | Rejected], out: Path, request: dict[str, str], limit: int | None
) -> Counter[str]:
    """Write manifest.jsonl and what the corpus itself rejects; claims `out` for the request.

    Returns the number of each speaker's utterances.
    """
    seen: set[str] = set()
    digest = hashlib.sha256()
    rejected: list[Rejected] = []
    speakers: Counter[str] = Counter()

    told = _read(items)
    first = next(told, None)
    if first is None:
        raise UserError("the corpus holds no utterances: check the folder and the subset")

    def checked() -> Iterator[Utterance]:
        for item in chain([first], told):
            kept = _check(item, seen)
            digest.update(kept.to_json().encode())
            if isinstance(kept, Rejected):
                rejected.append(kept)
            else:
                seen.add(kept.id)
                speakers[kept.speaker] += 1
                yield kept

    with replacing(out / "manifest.jsonl") as temporary:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(item.to_json() + "\n" for item in islice(checked(), limit))
        request["manifest"] = digest.hexdigest()[:16]
        _claim(out, request)
    for left in out.rglob(".*.tmp"):  # of a run that was killed
        left.unlink(missing_ok=True)
    with replacing(out / "rejected.manifest.jsonl") as temporary:
        temporary.write_text("".join(r.to_json() + "\n" for r in rejected), "utf-8")
    return speakers


def _read(items: Iterable[Utterance | Rejected]) -> Iterator[Utterance | Rejected]:
    """The items; UserError where the corpus's own files cannot be read."""
    try:
        yield from items
    except OSError as error:
        raise UserError(f"the corpus cannot be read ({error})") from error


def _check(item: Utterance | Rejected, seen: set[str]) -> Utterance | Rejected:
    """What the corpus gives, or why it cannot be taken as it is."""
    if isinstance(item, Rejected):
        return item
    if item.id in seen:
        return Rejected(item.id, item.audio, f"{item.id}: the id comes a second time")
    if not item.id or ".." in item.id or any(c in item.id for c in "/\\\n\0"):
        return Rejected(item.id, item.audio, f"{item.id!r}: not an id that files can be named by")
    if not item.text.strip():
        return Rejected(item.id, item.audio, f"{item.id}: the transcript is empty")
    return item


def _as_values(result: Alignment | Rejected) -> dict[str, Any]:
    return asdict(result) if isinstance(result, Rejected) else result.to_dict()


def _from_values(values: dict[str, Any]) -> Alignment | Rejected:
    return Rejected(**values) if "reason" in values else Alignment.from_dict(values)


def _claim(out: Path, request: dict[str, str]) -> None:
    """Take `out` for this request, or refuse when it holds another's data."""
    path = out / "request.json"
    if not path.exists():
        write_json(path, request)
        return
    before = read_json(path)
    differing = sorted(k for k in {*before, *request} if before.get(k) != request.get(k))
    if differing:
        raise UserError(
            f"{out} holds data prepared with other settings ({', '.join(differing)}): "
            "choose another --out or remove it"
        )


def _finish(
    out: Path,
    spec: FeatureSpec,
    phones: PhoneTable,
    request: dict[str, str],
    results: Sequence[ShardResult],
    speakers: Counter[str],
) -> Summary:
    frames = sum(r.n_frames for r in results)
    parts = [out / "rejected.manifest.jsonl", *sorted((out / "shards").glob("*.rejected.jsonl"))]
    with replacing(out / "rejected.jsonl") as temporary:
        temporary.write_text("".join(p.read_text("utf-8") for p in parts), "utf-8")
    if frames == 0:
        raise UserError(f"nothing could be prepared: {out / 'rejected.jsonl'} has the reasons")
    values = frames * spec.n_mels
    ordered = sorted(results, key=lambda r: r.index)
    mean = sum(r.mel_sum for r in ordered) / values
    std = (sum(r.mel_squares for r in ordered) / values - mean**2) ** 0.5
    summary = Summary(
        utterances=sum(r.n_utterances for r in results),
        rejected=len((out / "rejected.jsonl").read_text("utf-8").splitlines()),
        hours=sum(r.seconds for r in ordered) / 3600,
        frames=frames,
    )
    finished = spec.with_statistics(mean, std)
    with replacing(out / "features.json") as temporary:
        finished.save(temporary)
    phones.save(out / "phones.json")
    write_json(out / "split.json", speaker_split(speakers))
    write_index(out)
    lines = [json.dumps(request, sort_keys=True), finished.fingerprint()]
    fingerprint = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    write_json(out / "info.json", {**request, **asdict(summary), "fingerprint": fingerprint})
    return summary
