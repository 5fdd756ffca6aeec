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
from voiceflow.batch import COMMON, TASKS, TYPES, Work, read_tasks, run_batch
from voiceflow.cli.batch import batch
from voiceflow.config import UserError
from voiceflow.data.executors import Processes, Ray
from voiceflow.data.manifest import Utterance
from voiceflow.files import read_json
from voiceflow.jobs import SampleOptions


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
        ('{"task": "speak", "text": "a"}', "line 1: id is missing"),
        ('{"id": null, "task": "speak", "text": "a"}', "line 1: id is missing"),
        ('{"id": 7, "task": "speak", "text": "a"}', "line 1: id 7 is no file name"),
        ('{"id": "a", "text": "a"}', "line 1: task is missing: one of infill, edit"),
        ('{"id": "a", "task": ["edit"]}', r"task \['edit'\] is not one of infill, edit"),
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


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"spans": "1.6:2.8"}, 'spans must be a list .* found "1.6:2.8"'),
        ({"spans": [1.6, 2.8]}, r"spans must be a list .* found \[1.6, 2.8\]"),
        ({"spans": [["a", 2.8]]}, r'spans must be a list .* found \[\["a", 2.8\]\]'),
        ({"spans": [[1.6, 2.8, 3]]}, "spans must be a list"),
        ({"spans": [[1.6, 2.8, "A", "B"]]}, "spans must be a list"),
        ({"spans": [[True, 2.8]]}, "spans must be a list"),
        ({"spans": ["1:2", "2.8"]}, "spans must be a list"),
        ({"spans": [{"start": 1}]}, "spans must be a list"),
        ({"spans": []}, "spans must be a list"),
        ({"steps": "4"}, 'steps must be a whole number, found "4"'),
        ({"steps": 4.0}, "steps must be a whole number, found 4.0"),
        ({"seed": True}, "seed must be a whole number, found true"),
        ({"candidates": [2]}, r"candidates must be a whole number, found \[2\]"),
        ({"guidance": "0.7"}, 'guidance must be a number, found "0.7"'),
        ({"keep_length": "no"}, 'keep_length must be true or false, found "no"'),
        ({"keep_length": 0}, "keep_length must be true or false, found 0"),
        ({"text": 5}, "text must be a string, found 5"),
        ({"input": ["a.wav"]}, r'input must be a string, found \["a.wav"\]'),
        ({"solver": 2}, "solver must be a string, found 2"),
    ],
)
def test_values_of_the_wrong_type(tmp_path: Path, told: dict[str, Any], reason: str) -> None:
    task = {"id": "a", "task": "infill", "input": "a.wav", "text": "A", "spans": ["1:2"], **told}
    with pytest.raises(UserError, match=f"line 1: {reason}"):
        read_tasks(lines(tmp_path / "t.jsonl", task))


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([[1.6, 2.8]], [(1.6, 2.8)]),
        ([[1, 2, "NEW WORDS"], "3:4", "4:5=MORE"], [(1, 2, "NEW WORDS"), "3:4", "4:5=MORE"]),
        (["1.20:1.85"], ["1.20:1.85"]),
    ],
)
def test_spans_are_what_python_takes(
    tmp_path: Path, spans: list[Any], expected: list[Any]
) -> None:
    task = {"id": "a", "task": "infill", "input": "a.wav", "text": "A", "spans": spans}
    [line] = read_tasks(lines(tmp_path / "t.jsonl", task))
    assert line.arguments()["spans"] == expected
    assert line.arguments()["audio"] == tmp_path / "a.wav"


def test_values_that_are_null_are_left_out(tmp_path: Path) -> None:
    task = {"id": "a", "task": "speak", "text": "A", "speed": 1, "prompt": None, "steps": None}
    [line] = read_tasks(lines(tmp_path / "t.jsonl", task))
    assert line.arguments() == {"text": "A", "speed": 1}
    assert line.line == task


def test_every_key_has_a_type_and_every_option_of_a_task_is_one() -> None:
    assert set(TYPES) == {*COMMON, *(k for keys in TASKS.values() for k in (*keys[0], *keys[1]))}
    assert set(COMMON) == set(SampleOptions.__annotations__) - {"settings"}


def test_the_help_lists_the_keys_of_each_task() -> None:
    told = " ".join((batch.__doc__ or "").split())
    for task, (needed, allowed) in TASKS.items():
        keys = ", ".join(needed) + (f"; {', '.join(allowed)}" if allowed else "")
        assert f"{task}: {keys}." in told
    assert f"All: {', '.join(COMMON)}." in told


def test_an_id_twice_and_a_missing_file(tmp_path: Path) -> None:
    task = {"id": "a", "task": "speak", "text": "a"}
    with pytest.raises(UserError, match="line 2: id 'a' stands there twice"):
        read_tasks(lines(tmp_path / "t.jsonl", task, task))
    with pytest.raises(UserError, match="cannot be read"):
        read_tasks(tmp_path / "none.jsonl")
