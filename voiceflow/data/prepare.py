"""Corpus to prepared data: align, compute features, write shards.

A shard is the unit of work: written whole or not at all, so the same command given again goes on
where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from voiceflow import __version__
from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.types import SAMPLE_RATE, Aligner, AlignmentError
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance, write_manifest
from voiceflow.data.shards import PreparedUtterance, write_shard
from voiceflow.files import read_json, replacing, write_json
from voiceflow.text.normalise import words_of
from voiceflow.text.phones import PhoneTable

SHARD_UTTERANCES = 64

MakeAligner = Callable[[], Aligner]


@dataclass(frozen=True)
class ShardResult:
    """What one shard holds: utterances, failures, and sums for the set's statistics."""

    index: int
    n_utterances: int
    n_failed: int
    n_frames: int
    seconds: float
    mel_sum: float
    mel_squares: float


@dataclass(frozen=True)
class Summary:
    """What a preparation gave."""

    utterances: int
    failed: int
    hours: float
    frames: int

    def __str__(self) -> str:
        total = self.utterances + self.failed
        return (
            f"{self.utterances} of {total} utterances prepared "
            f"({100 * self.utterances / max(total, 1):.2f} %), {self.hours:.2f} hours, "
            f"{self.frames} frames; {self.failed} left out"
        )


class _Worker:
    """One process's aligner and front end, made once."""

    def __init__(
        self, make_aligner: MakeAligner, spec: FeatureSpec, phones: PhoneTable, folder: Path
    ) -> None:
        import torch

        torch.set_num_threads(1)
        self.aligner = make_aligner()
        self.spec = spec
        self.phones = phones
        self.log_mel = LogMel(spec)
        self.folder = folder

    def utterance(self, utterance: Utterance) -> PreparedUtterance:
        import torch

        from voiceflow.audio.io import load_mono, resample

        rate = self.spec.sample_rate
        wave = load_mono(utterance.audio, rate)
        listened = resample(wave, rate, SAMPLE_RATE)
        alignment = self.aligner.align(listened, words_of(utterance.text), utterance.id)
        mel = self.log_mel(torch.from_numpy(wave)).numpy()
        framed = to_frames(alignment, len(mel), self.spec.hop_seconds)
        self.phones.ids(framed.phones)  # raises here, where the utterance can still be left out
        seconds = len(wave) / rate
        return PreparedUtterance(
            utterance, seconds, mel.astype(np.float16), framed, alignment.score
        )

    def shard(self, index: int, utterances: Sequence[Utterance]) -> ShardResult:
        rows: list[PreparedUtterance] = []
        failed: list[dict[str, str]] = []
        for utterance in utterances:
            try:
                rows.append(self.utterance(utterance))
            except (AlignmentError, UserError, ValueError) as error:
                failed.append({"id": utterance.id, "audio": utterance.audio, "reason": str(error)})
        mels = [row.mel.astype(np.float64) for row in rows]
        result = ShardResult(
            index=index,
            n_utterances=len(rows),
            n_failed=len(failed),
            n_frames=sum(len(m) for m in mels),
            seconds=sum(row.seconds for row in rows),
            mel_sum=float(sum(m.sum() for m in mels)),
            mel_squares=float(sum(np.square(m).sum() for m in mels)),
        )
        name = self.folder / "shards" / f"{index:05d}"
        if rows:  # `datasets` cannot read a file without rows
            write_shard(name.with_suffix(".parquet"), rows)
        with replacing(name.with_suffix(".failed.jsonl")) as temporary:
            temporary.write_text("".join(json.dumps(f) + "\n" for f in failed), "utf-8")
        write_json(name.with_suffix(".json"), asdict(result))
        return result


_worker: _Worker | None = None


def _start(
    make_aligner: MakeAligner, spec: FeatureSpec, phones: PhoneTable, folder: Path
) -> None:
    global _worker
    _worker = _Worker(make_aligner, spec, phones, folder)


def _run(index: int, utterances: Sequence[Utterance]) -> ShardResult:
    assert _worker is not None
    return _worker.shard(index, utterances)


def prepare(
    utterances: Iterable[Utterance],
    make_aligner: MakeAligner,
    spec: FeatureSpec,
    out: Path,
    phones: PhoneTable,
    settings: dict[str, str],
    workers: int = 1,
    limit: int | None = None,
) -> Summary:
    """Align, compute and write everything; utterances that fail are listed, never lost silently.

    make_aligner is called once in each of the `workers` processes; `settings` name what was
    asked for and are part of the fingerprint. Raises UserError when `out` holds data of other
    settings or when nothing could be prepared.
    """
    from rich.progress import track

    items = list(islice(utterances, limit))
    if not items:
        raise UserError("the corpus holds no utterances: check the folder and the subset")
    request = {**settings, "features": spec.fingerprint(), "version": __version__}
    request["manifest"] = _fingerprint([json.dumps(asdict(item)) for item in items])
    _claim(out, request)
    write_manifest(out / "manifest.jsonl", items)
    shards = {
        index: items[start : start + SHARD_UTTERANCES]
        for index, start in enumerate(range(0, len(items), SHARD_UTTERANCES))
    }
    done = {i: out / "shards" / f"{i:05d}.json" for i in shards}
    results = [ShardResult(**read_json(path)) for path in done.values() if path.exists()]
    waiting = [i for i, path in done.items() if not path.exists()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (make_aligner, spec, phones, out)) as pool:
        futures = [pool.submit(_run, i, shards[i]) for i in waiting]
        for future in track(futures, description="shards"):
            results.append(future.result())
    return _finish(out, spec, phones, request, results)


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
) -> Summary:
    frames = sum(r.n_frames for r in results)
    with replacing(out / "failed.jsonl") as temporary:
        parts = sorted((out / "shards").glob("*.failed.jsonl"))
        temporary.write_text("".join(p.read_text("utf-8") for p in parts), "utf-8")
    if frames == 0:
        raise UserError(f"nothing could be prepared: {out / 'failed.jsonl'} has the reasons")
    values = frames * spec.n_mels
    ordered = sorted(results, key=lambda r: r.index)
    mean = sum(r.mel_sum for r in ordered) / values
    std = (sum(r.mel_squares for r in ordered) / values - mean**2) ** 0.5
    summary = Summary(
        utterances=sum(r.n_utterances for r in results),
        failed=sum(r.n_failed for r in results),
        hours=sum(r.seconds for r in ordered) / 3600,
        frames=frames,
    )
    finished = spec.with_statistics(mean, std)
    with replacing(out / "features.json") as temporary:
        finished.save(temporary)
    phones.save(out / "phones.json")
    fingerprint = _fingerprint([json.dumps(request, sort_keys=True), finished.fingerprint()])
    write_json(out / "info.json", {**request, **asdict(summary), "fingerprint": fingerprint})
    return summary


def _fingerprint(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
