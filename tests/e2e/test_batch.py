"""Many tasks from a file: what is asked, what is made, what fails, and going on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import librispeech
from voiceflow.audio.io import read
from voiceflow.batch import Work, read_tasks, run_batch
from voiceflow.config import UserError
from voiceflow.data.executors import Processes, Ray
from voiceflow.data.manifest import Utterance
from voiceflow.files import read_json


@pytest.fixture
def utterance(speech_dir: Path) -> Utterance:
    """A short recording of test-clean."""
    return next(iter(librispeech.read(speech_dir / "LibriSpeech", "test-clean")))


def lines(path: Path, *tasks: Any) -> Path:
    path.write_text("".join(t if isinstance(t, str) else json.dumps(t) + "\n" for t in tasks))
    return path


def some(utterance: Utterance) -> list[dict[str, Any]]:
    words = utterance.text.split()
    quick = {"steps": 1}
    return [
        {"id": "fill", "task": "infill", "input": utterance.audio, "text": utterance.text,
         "spans": ["1.0:1.3"], "seed": 3, **quick},
        {"id": "edit", "task": "edit", "input": utterance.audio, "from": utterance.text,
         "to": " ".join([*words[:1], "HELLO", *words[2:]]), **quick},
        {"id": "bad", "task": "infill", "input": "nowhere.wav", "text": "A", "spans": ["1:2"]},
        {"id": "far", "task": "infill", "input": utterance.audio, "text": utterance.text,
         "spans": ["100:200"], **quick},
        {"id": "go-on", "task": "continue", "input": utterance.audio, "text": utterance.text,
         "prefix": 1.5, **quick},
        {"id": "said", "task": "speak", "text": "hello there", **quick},
        {"id": "drawn", "task": "sample", "text": "hello there", "seed": 2, **quick},
    ]  # fmt: skip


def test_what_can_be_done_is_done_and_the_rest_is_told(
    tiny_voice: Path, utterance: Utterance, tmp_path: Path
) -> None:
    tasks = read_tasks(lines(tmp_path / "t.jsonl", *some(utterance)))
    work = Work(str(tiny_voice), None, tmp_path / "out")
    failed = run_batch(tasks, work)
    assert set(failed) == {"bad", "far"}
    assert "does not exist" in failed["bad"]
    assert "outside the audio" in failed["far"]
    told = [json.loads(x) for x in (tmp_path / "out" / "failed.jsonl").read_text().splitlines()]
    assert {t["id"]: t["reason"] for t in told} == failed
    sounds = {p.stem for p in (tmp_path / "out").glob("*.wav")}
    assert sounds == {"fill", "edit", "go-on", "said", "drawn"}
    assert read_json(tmp_path / "out" / "fill.json")["asked"]["seed"] == 3


def test_each_is_what_it_is_alone(tiny_voice: Path, utterance: Utterance, tmp_path: Path) -> None:
    from voiceflow.voice import Voice

    asked = some(utterance)
    tasks = read_tasks(lines(tmp_path / "t.jsonl", *asked))
    run_batch(tasks, Work(str(tiny_voice), None, tmp_path / "out"))
    voice = Voice.load(tiny_voice)
    alone = {
        "fill": voice.infill(utterance.audio, utterance.text, [(1.0, 1.3)], seed=3, steps=1),
        "edit": voice.edit(utterance.audio, utterance.text, asked[1]["to"], steps=1),
    }
    for id, made in alone.items():
        found = read(tmp_path / "out" / f"{id}.wav")
        assert found.samples.shape == made.recording.samples.shape
        apart = np.abs(found.samples.astype(int) - made.recording.samples.astype(int)).max()
        assert apart <= 0.01 * np.abs(found.samples.astype(int)).max()


def test_what_is_done_is_not_done_again(
    tiny_voice: Path, utterance: Utterance, tmp_path: Path
) -> None:
    asked = some(utterance)[5:]
    work = Work(str(tiny_voice), None, tmp_path / "out")
    run_batch(read_tasks(lines(tmp_path / "t.jsonl", *asked)), work)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.wav")}
    asked[1]["seed"] = 9
    run_batch(read_tasks(lines(tmp_path / "t.jsonl", *asked)), work)
    again = {p.stem for p, stamp in stamps.items() if p.stat().st_mtime_ns != stamp}
    assert again == {"drawn"}


@pytest.mark.long
def test_processes_make_the_same(tiny_voice: Path, utterance: Utterance, tmp_path: Path) -> None:
    tasks = read_tasks(lines(tmp_path / "t.jsonl", *some(utterance)))
    run_batch(tasks, Work(str(tiny_voice), None, tmp_path / "one"))
    failed = run_batch(tasks, Work(str(tiny_voice), None, tmp_path / "two"), Processes(2))
    assert set(failed) == {"bad", "far"}
    for path in (tmp_path / "one").glob("*.wav"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.long
def test_ranks_of_torchrun_share_the_tasks(
    tiny_voice: Path, utterance: Utterance, tmp_path: Path, repository: Path
) -> None:
    tasks = lines(tmp_path / "t.jsonl", *(t for t in some(utterance) if t["id"] != "bad"))
    run_batch(read_tasks(tasks), Work(str(tiny_voice), None, tmp_path / "one"))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         "-m", "voiceflow", "batch", str(tasks), "--voice", str(tiny_voice),
         "--out", str(tmp_path / "two")],
        cwd=repository, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0  # one of the tasks cannot be done
    far = [json.loads(line)["id"] for p in (tmp_path / "two").glob("failed-*.jsonl")
           for line in p.read_text().splitlines()]  # fmt: skip
    assert far == ["far"]
    for path in (tmp_path / "one").glob("*.wav"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.long
def test_a_cluster_makes_the_same(
    tiny_voice: Path, utterance: Utterance, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    tasks = read_tasks(lines(tmp_path / "t.jsonl", *some(utterance)))
    run_batch(tasks, Work(str(tiny_voice), None, tmp_path / "one"))
    failed = run_batch(tasks, Work(str(tiny_voice), None, tmp_path / "two"), Ray("local"))
    assert set(failed) == {"bad", "far"}
    for path in (tmp_path / "one").glob("*.wav"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 1: no JSON object"),
        ('["a"]', "line 1: no JSON object"),
        ('{"task": "speak", "text": "a"}', "id None is no file name"),
        ('{"id": "../a", "task": "speak", "text": "a"}', "id '../a' is no file name"),
        ('{"id": "a", "task": "sing", "text": "a"}', "task 'sing' is not one of infill, edit"),
        ('{"id": "a", "task": "edit", "input": "a.wav"}', "edit needs from, to"),
        ('{"id": "a", "task": "speak", "text": "a", "pitch": 2}', "speak knows no pitch"),
        ("", "holds no tasks"),
    ],
)
def test_wrong_lines(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_tasks(lines(tmp_path / "t.jsonl", line + "\n"))


def test_an_id_twice_and_a_missing_file(tmp_path: Path) -> None:
    task = {"id": "a", "task": "speak", "text": "a"}
    with pytest.raises(UserError, match="line 2: id 'a' stands there twice"):
        read_tasks(lines(tmp_path / "t.jsonl", task, task))
    with pytest.raises(UserError, match="cannot be read"):
        read_tasks(tmp_path / "none.jsonl")
