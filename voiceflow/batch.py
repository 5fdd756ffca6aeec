"""Many tasks from a file, planned and sampled together, each failing for itself alone.

    OUT/ID.wav    the sound of a task          OUT/ID.json    what was done, and what was asked
    OUT/failed.jsonl    id and reason of each task that could not be done

A task is a line of JSON: `{"id": "a", "task": "infill", "input": "a.flac", "text": "...",
"spans": ["1.2:1.85"], "seed": 1}`. What is done already, asked in the same words, stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from voiceflow.config import UserError
from voiceflow.data.executors import Executor, rank_and_world, wait_for_all_ranks
from voiceflow.files import read_json, replacing, write_json
from voiceflow.generated import Generated
from voiceflow.jobs import Job
from voiceflow.voice import Voice

PART = 16  # tasks that a worker plans and samples together
COMMON = ("seed", "preset", "steps", "guidance", "solver", "grid", "dtype", "candidates")
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
_METHODS = {"continue": "continue_", "style": "style_transfer"}
_ARGUMENTS = {"input": "audio", "from": "old", "to": "new"}
_PATHS = ("input", "prompt", "durations")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Asked:
    """A task. asked: the line as it stands; folder: what its paths are relative to."""

    id: str
    asked: Mapping[str, Any]
    folder: Path

    @property
    def task(self) -> str:
        """One of TASKS."""
        return str(self.asked["task"])

    def arguments(self) -> dict[str, Any]:
        """What the method of `Voice` is called with."""
        told = {}
        for key, value in self.asked.items():
            if key in ("id", "task") or value is None:
                continue
            if key in _PATHS:
                value = self.folder / str(value)
            elif key == "spans":
                value = [str(span) for span in value]
            told[_ARGUMENTS.get(key, key)] = value
        return told


def read_tasks(path: Path) -> list[Asked]:
    """The tasks of a file. UserError names every line that is none (the first ten of them)."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    tasks: list[Asked] = []
    wrong: list[str] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            asked = json.loads(line)
        except ValueError:
            asked = None
        if reason := _why_not(asked, seen):
            wrong.append(f"line {number}: {reason}")
            continue
        seen.add(asked["id"])
        tasks.append(Asked(asked["id"], asked, path.absolute().parent))
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(f"{path}: " + "; ".join(wrong[:10]) + more)
    if not tasks:
        raise UserError(f"{path} holds no tasks: expected a line of JSON each")
    return tasks


def _why_not(asked: Any, seen: set[str]) -> str | None:
    """What is wrong with a line, if anything."""
    if not isinstance(asked, dict):
        return "no JSON object"
    task, id = asked.get("task"), asked.get("id")
    if not isinstance(id, str) or not _ID.fullmatch(id):
        return f"id {id!r} is no file name of letters, digits, '.', '_' and '-'"
    if id in seen:
        return f"id {id!r} stands there twice"
    if task not in TASKS:
        return f"task {task!r} is not one of {', '.join(TASKS)}"
    needed, allowed = TASKS[task]
    if missing := [key for key in needed if asked.get(key) is None]:
        return f"{task} needs {', '.join(missing)}"
    known = {"id", "task", *needed, *allowed, *COMMON}
    if unknown := sorted(set(asked) - known):
        return f"{task} knows no {', '.join(unknown)} (it knows {', '.join(sorted(known))})"
    return None


@dataclass(frozen=True)
class Work:
    """What a worker does with a part of the tasks."""

    voice: str
    vocoder: str | None
    out: Path
    device: str = "cpu"

    def done(self, asked: Asked) -> bool:
        """Whether it was done, asked in the same words."""
        report = self.out / f"{asked.id}.json"
        return (
            report.is_file()
            and (self.out / f"{asked.id}.wav").is_file()
            and read_json(report).get("asked") == dict(asked.asked)
        )

    def __call__(self, part: Sequence[Asked]) -> list[tuple[str, str | None]]:
        """Do all; (id, reason) of each, the reason None where it is done."""
        voice = _loaded(self.voice, self.vocoder, self.device)
        results: dict[str, str | None] = {}
        jobs: list[tuple[Asked, Job]] = []
        for asked in part:
            try:
                if asked.task in ("speak", "sample"):  # may take several plans, one after another
                    self._keep(asked, _spoken(voice, asked))
                    results[asked.id] = None
                else:
                    method = _METHODS.get(asked.task, asked.task)
                    jobs.append((asked, voice.planned(method, **asked.arguments())))
            except Exception as error:  # one failure never stops the rest
                results[asked.id] = _reason(error)
        for asked, made in zip([a for a, _ in jobs], self._run(voice, jobs), strict=True):
            if isinstance(made, Generated):
                try:
                    self._keep(asked, made)
                    results[asked.id] = None
                except Exception as error:
                    results[asked.id] = _reason(error)
            else:
                results[asked.id] = _reason(made)
        return [(asked.id, results[asked.id]) for asked in part]

    def _run(
        self, voice: Voice, jobs: Sequence[tuple[Asked, Job]]
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

    def _keep(self, asked: Asked, made: Generated) -> None:
        made.save(self.out / f"{asked.id}.wav")
        write_json(self.out / f"{asked.id}.json", {"asked": dict(asked.asked), **made.report()})


def _spoken(voice: Voice, asked: Asked) -> Generated:
    if asked.task == "sample":
        return voice.sample(count=1, **asked.arguments())[0]
    return voice.speak(**asked.arguments())


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


@cache
def _loaded(voice: str, vocoder: str | None, device: str) -> Voice:
    return Voice.load(voice, vocoder, device)


def run_batch(
    tasks: Sequence[Asked], work: Work, executor: Executor | None = None
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
