"""Many tasks from a file, planned and sampled together, each failing for itself alone.

    OUT/ID.wav    the sound of a task          OUT/ID.json    what was done, and what was asked
    OUT/failed.jsonl    id and reason of each task that could not be done

A task is a line of JSON: `{"id": "a", "task": "infill", "input": "a.flac", "text": "...",
"spans": ["1.2:1.85"], "seed": 1}`; its paths are relative to the file. What is done already, asked
in the same words, stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from voiceflow.config import UserError
from voiceflow.data.executors import Executor, rank_and_world, wait_for_all_ranks
from voiceflow.files import read_json, replacing, write_json
from voiceflow.generated import Generated
from voiceflow.generation.spans import parse_span
from voiceflow.jobs import Job
from voiceflow.voice import Voice

PART = 16  # tasks that a worker plans and samples together
COMMON = (
    "seed", "preset", "steps", "guidance", "context_guidance", "solver", "grid", "dtype",
    "candidates",
)  # fmt: skip
# What a task must be told, and what it may be.
TASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "infill": (("input", "text", "spans"), ("keep_length",)),
    "edit": (("input", "from", "to"), ("keep_length",)),
    "speak": (("text",), ("prompt", "prompt_text", "speed", "durations")),
    "continue": (("input", "text"), ("prefix",)),
    "denoise": (("input", "text"), ("spans",)),
    "style": (("input", "text", "prompt", "prompt_text"), ()),
    "sample": (("text",), ()),
}


class Type(NamedTuple):
    """What a value may be, in words, and whether one is."""

    name: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_span(value: Any) -> bool:
    if isinstance(value, list):
        return (
            len(value) in (2, 3)
            and all(_is_number(edge) for edge in value[:2])
            and all(isinstance(words, str | None) for words in value[2:])
        )
    try:
        return isinstance(value, str) and bool(parse_span(value))
    except UserError:
        return False


_TEXT = Type("a string", lambda value: isinstance(value, str))
_WHOLE = Type("a whole number", lambda value: type(value) is int)
_NUMBER = Type("a number", _is_number)
_SPANS = Type(
    "a list of spans in seconds, each 'START:END', 'START:END=WORDS', [start, end] or "
    "[start, end, words]",
    lambda value: isinstance(value, list) and bool(value) and all(map(_is_span, value)),
)
TYPES = {
    "input": _TEXT, "text": _TEXT, "spans": _SPANS, "from": _TEXT, "to": _TEXT,
    "keep_length": Type("true or false", lambda value: isinstance(value, bool)),
    "prompt": _TEXT, "prompt_text": _TEXT, "speed": _NUMBER, "durations": _TEXT,
    "prefix": _NUMBER, "seed": _WHOLE, "preset": _TEXT, "steps": _WHOLE, "guidance": _NUMBER,
    "context_guidance": _NUMBER,
    "solver": _TEXT, "grid": _TEXT, "dtype": _TEXT, "candidates": _WHOLE,
}  # fmt: skip
_METHODS = {"continue": "continue_", "style": "style_transfer"}
_ARGUMENTS = {"input": "audio", "from": "old", "to": "new"}
_PATHS = ("input", "prompt", "durations")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class TaskLine:
    """A task. line: as it stands in the file; folder: what its paths are relative to."""

    id: str
    line: Mapping[str, Any]
    folder: Path

    @property
    def task(self) -> str:
        """One of TASKS."""
        return str(self.line["task"])

    def arguments(self) -> dict[str, Any]:
        """What the method of `Voice` is called with."""
        told = {}
        for key, value in self.line.items():
            if key in ("id", "task") or value is None:
                continue
            if key in _PATHS:
                value = self.folder / value
            elif key == "spans":
                value = [span if isinstance(span, str) else tuple(span) for span in value]
            told[_ARGUMENTS.get(key, key)] = value
        return told


def read_tasks(path: Path) -> list[TaskLine]:
    """The tasks of a file. UserError names every line that is none (the first ten of them)."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    tasks: list[TaskLine] = []
    wrong: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if reason := _why_not(told, seen):
            wrong.append(f"line {number}: {reason}")
            continue
        seen.add(told["id"])
        tasks.append(TaskLine(told["id"], told, path.absolute().parent))
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(f"{path}: " + "; ".join(wrong[:10]) + more)
    if not tasks:
        raise UserError(f"{path} holds no tasks: expected a line of JSON each")
    return tasks


def _why_not(told: Any, seen: set[str]) -> str | None:
    """What is wrong with a line, if anything."""
    if not isinstance(told, dict):
        return "no JSON object"
    task, id = told.get("task"), told.get("id")
    if id is None:
        return "id is missing: the name of the task's files"
    if not isinstance(id, str) or not _ID.fullmatch(id):
        return f"id {id!r} is no file name of letters, digits, '.', '_' and '-'"
    if id in seen:
        return f"id {id!r} stands there twice"
    if task is None:
        return f"task is missing: one of {', '.join(TASKS)}"
    if not isinstance(task, str) or task not in TASKS:
        return f"task {task!r} is not one of {', '.join(TASKS)}"
    needed, allowed = TASKS[task]
    if missing := [key for key in needed if told.get(key) is None]:
        return f"{task} needs {', '.join(missing)}"
    known = {"id", "task", *needed, *allowed, *COMMON}
    if unknown := sorted(set(told) - known):
        return f"{task} knows no {', '.join(unknown)} (it knows {', '.join(sorted(known))})"
    for key, value in told.items():
        if value is not None and key in TYPES and not TYPES[key].holds(value):
            shown = json.dumps(value, ensure_ascii=False)
            return f"{key} must be {TYPES[key].name}, found {shown}"
    return None


@dataclass(frozen=True)
class Work:
    """What a worker does with a part of the tasks."""

    voice: str
    vocoder: str | None
    out: Path
    device: str = "cpu"

    def done(self, task: TaskLine) -> bool:
        """Whether it was done, asked in the same words."""
        report = self.out / f"{task.id}.json"
        return (
            report.is_file()
            and (self.out / f"{task.id}.wav").is_file()
            and read_json(report).get("asked") == dict(task.line)
        )

    def __call__(self, part: Sequence[TaskLine]) -> list[tuple[str, str | None]]:
        """Do all; (id, reason) of each, the reason None where it is done."""
        voice = _loaded(self.voice, self.vocoder, self.device)
        results: dict[str, str | None] = {}
        jobs: list[tuple[TaskLine, Job]] = []
        for task in part:
            try:
                if task.task in ("speak", "sample"):  # may take several plans, one after another
                    self._keep(task, _spoken(voice, task))
                    results[task.id] = None
                else:
                    method = _METHODS.get(task.task, task.task)
                    jobs.append((task, voice.planned(method, **task.arguments())))
            except Exception as error:  # one failure never stops the rest
                results[task.id] = _reason(error)
        for task, made in zip([t for t, _ in jobs], self._run(voice, jobs), strict=True):
            if isinstance(made, Generated):
                try:
                    self._keep(task, made)
                    results[task.id] = None
                except Exception as error:
                    results[task.id] = _reason(error)
            else:
                results[task.id] = _reason(made)
        return [(task.id, results[task.id]) for task in part]

    def _run(
        self, voice: Voice, jobs: Sequence[tuple[TaskLine, Job]]
    ) -> list[Generated | Exception]:
        """All together; where that fails, each alone, so that only what is wrong fails."""
        try:
            return list(voice.run([job for _, job in jobs]))
        except Exception:
            found: list[Generated | Exception] = []
            for _, job in jobs:
                try:
                    found += voice.run([job])
                except Exception as error:
                    found.append(error)
            return found

    def _keep(self, task: TaskLine, made: Generated) -> None:
        made.save(self.out / f"{task.id}.wav")
        write_json(self.out / f"{task.id}.json", {"asked": dict(task.line), **made.report()})


def _spoken(voice: Voice, task: TaskLine) -> Generated:
    if task.task == "sample":
        return voice.sample(count=1, **task.arguments())[0]
    return voice.speak(**task.arguments())


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


@cache
def _loaded(voice: str, vocoder: str | None, device: str) -> Voice:
    return Voice.load(voice, vocoder, device)


def run_batch(
    tasks: Sequence[TaskLine], work: Work, executor: Executor | None = None
) -> dict[str, str]:
    """Do what is not done yet; returns id and reason of each that failed.

    By an executor, or here; as one of several ranks of torchrun or accelerate only that rank's
    share, and then it waits for the others, since torchrun ends all once one has failed. Shows
    progress, and writes OUT/failed.jsonl (of rank R: failed-R.jsonl).
    """
    from rich.progress import track

    rank, world = rank_and_world()
    work.out.mkdir(parents=True, exist_ok=True)
    mine = [task for task in list(tasks)[rank::world] if not work.done(task)]
    parts = [mine[i : i + PART] for i in range(0, len(mine), PART)]
    results: Iterator[list[tuple[str, str | None]]] = (
        executor.run(work, parts) if executor and parts else map(work, parts)
    )
    failed: dict[str, str] = {}
    name = "failed.jsonl" if world == 1 else f"failed-{rank}.jsonl"
    for part in track(results, "tasks", total=len(parts), disable=rank > 0):
        failed |= {id: reason for id, reason in part if reason is not None}
    with replacing(work.out / name) as temporary:
        temporary.write_text(
            "".join(json.dumps({"id": i, "reason": r}) + "\n" for i, r in failed.items()), "utf-8"
        )
    wait_for_all_ranks()
    return failed
