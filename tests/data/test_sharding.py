"""Shards: whatever is there already, each utterance is in one, in the manifest's order."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow.alignment.types import Alignment, AlignmentError, Phone, Word
from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance, read_manifest
from voiceflow.data.prepare import prepare
from voiceflow.text.phones import PhoneTable

SPEC = FeatureSpec(n_mels=8)
SIZE = 3


class EvenAligner:
    """Each recording is one word of one phone; ids that end in `x` cannot be aligned."""

    name = "even"
    asked: list[str] = []  # noqa: RUF012, what all of them were asked for

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        self.asked.append(id)
        if id.endswith("x"):
            raise AlignmentError(f"{id}: too hard")
        seconds = len(wave) / SPEC.sample_rate
        return Alignment((Word("A", 0.0, seconds, (Phone("AH", 0.0, seconds),)),), seconds)


class Here:
    """Does the tasks in this process, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def run(self, work: Any, tasks: Any) -> Iterator[Any]:
        for task in tasks:
            self.count += 1
            yield work(task)


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sharding") / "short.wav"
    wave = np.random.default_rng(0).normal(0, 0.1, 2000)
    soundfile.write(path, wave, SPEC.sample_rate, "PCM_16")
    return path


def run(utterances: list[Utterance], out: Path) -> int:
    """Prepare; returns the number of tasks that there were."""
    executor = Here()
    prepare(
        utterances, EvenAligner, SPEC, out, PhoneTable.english(), {}, executor=executor,
        shard_utterances=SIZE,
    )  # fmt: skip
    return executor.count


def content(out: Path) -> dict[str, bytes]:
    found = [p for p in out.rglob("*") if p.is_file()]
    return {str(p.relative_to(out)): p.read_bytes() for p in found}


def ids_of(out: Path, index: int) -> tuple[list[str], list[str]]:
    """The ids that a shard holds, and those that it rejected."""
    parquet = out / "shards" / f"{index:05d}.parquet"
    kept = pq.read_table(parquet)["id"].to_pylist() if parquet.exists() else []
    lines = parquet.with_suffix(".rejected.jsonl").read_text().splitlines()
    return kept, [json.loads(line)["id"] for line in lines]


@settings(max_examples=25)
@given(
    hard=st.lists(st.booleans(), max_size=11),
    finished=st.sets(st.integers(0, 3)),
    aligned=st.sets(st.integers(0, 3)),
)
def test_any_number_of_utterances_with_any_shards_finished(
    wav: Path, hard: list[bool], finished: set[int], aligned: set[int]
) -> None:
    """`hard` says who cannot be aligned; a first, who can, is put before them."""
    names = [f"u{number:02d}{'x' * odd}" for number, odd in enumerate([False, *hard])]
    names.reverse()  # the manifest's order is not that of the names
    utterances = [Utterance(name, str(wav), "a", "s") for name in names]
    pieces = [names[start : start + SIZE] for start in range(0, len(names), SIZE)]
    with tempfile.TemporaryDirectory() as folder:
        whole, broken = Path(folder) / "whole", Path(folder) / "broken"
        EvenAligner.asked.clear()
        assert run(utterances, whole) == len(pieces)
        assert EvenAligner.asked == names
        assert [one.id for one in read_manifest(whole / "manifest.jsonl")] == names
        for index, piece in enumerate(pieces):
            kept, rejected = ids_of(whole, index)
            assert kept == [name for name in piece if not name.endswith("x")]
            assert rejected == [name for name in piece if name.endswith("x")]
        assert len(list((whole / "shards").glob("?????.json"))) == len(pieces)

        shutil.copytree(whole, broken)
        for path in broken.iterdir():  # what is written at the end, or anew
            if path.is_file() and path.name != "request.json":
                path.unlink()
        missing = set(range(len(pieces))) - finished
        for index in missing:
            for path in (broken / "shards").glob(f"{index:05d}.*"):
                path.unlink()
            if index not in aligned:
                (broken / "alignments" / f"{index:05d}.jsonl").unlink()
        left = {p: p.stat().st_mtime_ns for p in (broken / "shards").iterdir()}
        EvenAligner.asked.clear()
        assert run(utterances, broken) == len(missing)
        again = sorted(missing - aligned)
        assert EvenAligner.asked == [name for index in again for name in pieces[index]]
        assert {p: p.stat().st_mtime_ns for p in left} == left
        assert content(broken) == content(whole)


def test_another_order_is_another_corpus(wav: Path, tmp_path: Path) -> None:
    """Shards are cut by the order: those of one do not serve the other."""
    utterances = [Utterance(name, str(wav), "a", "s") for name in "abcd"]
    run(utterances, tmp_path)
    with pytest.raises(UserError, match=r"other settings \(manifest\)"):
        run(utterances[::-1], tmp_path)
    with pytest.raises(UserError, match=r"other settings \(manifest\)"):
        run([replace(utterances[0], speaker="t"), *utterances[1:]], tmp_path)
