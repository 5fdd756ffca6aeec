"""Protocols: the list of trials of a benchmark, written down before anything is generated.

A list depends on the corpus, the seed and the protocol alone: not on the voice, the machine, the
order of files or the number of processes. It names utterances, never paths.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from voiceflow.config import BenchmarkConfig, UserError
from voiceflow.data.manifest import Utterance
from voiceflow.data.masking import generator_for
from voiceflow.files import replacing
from voiceflow.measures.infill import Gap
from voiceflow.measures.subject import spread_over_speakers

CROSS, CONTINUATION, LISTED = "cross-sentence", "continuation", "listed"
INFILL, DURATIONS, SPEED = "infill", "durations", "speed"
TASKS = (CROSS, CONTINUATION, LISTED, INFILL, DURATIONS, SPEED)
LIST_COLUMNS = ("ref_utt", "ref_dur", "ref_txt", "gen_utt", "gen_dur", "gen_txt")
_STEP_SECONDS = 0.01  # a prompt begins at a multiple of it


@dataclass(frozen=True)
class Trial:
    """One thing to generate.

    id: a file name; utterance: whose text is said, and which is the original; text: all that is to
    be heard. prompt: the utterance that a prompt is cut out of, "" for none, from prompt_start to
    prompt_end (seconds); prompt_text: what the whole of it says. For a continuation the prompt is
    the utterance itself, to be cut at a phone edge before prompt_end. span_start, span_end, words:
    of an infill.
    """

    id: str
    task: str
    utterance: str
    speaker: str
    seconds: float
    text: str
    prompt: str = ""
    prompt_start: float = 0.0
    prompt_end: float = 0.0
    prompt_text: str = ""
    span_start: float = 0.0
    span_end: float = 0.0
    words: str = ""


FindGap = Callable[[Utterance], Gap | None]
"""The words of an utterance that are to be taken out; None where it has none."""


def make_trials(
    protocol: BenchmarkConfig,
    utterances: Iterable[Utterance],
    *,
    seed: int = 0,
    limit: int | None = None,
    listed: Path | None = None,
    find_gap: FindGap | None = None,
) -> list[Trial]:
    """The trials of a protocol, task by task, a speaker after the other.

    utterances: of the whole subset, with their seconds; limit: utterances of each task, one of
    each speaker first; listed: the file of the task `listed`; find_gap: for `infill`. Raises
    UserError for no trials at all, a list that cannot be read or names what is not there, and a
    prompt that no utterance is long enough for.
    """
    if unknown := [task for task in protocol.tasks if task not in TASKS]:
        known = ", ".join(TASKS)
        raise UserError(f"{protocol.name}: no task {', '.join(unknown)}: there are {known}")
    every = sorted(utterances, key=lambda u: u.id)
    fitting = [u for u in every if protocol.min_seconds <= _seconds(u) <= protocol.max_seconds]
    chosen = spread_over_speakers(fitting)[:limit]
    trials: list[Trial] = []
    for task in protocol.tasks:
        if task == LISTED:
            trials += _listed(listed, every, limit)
        elif task == CROSS:
            pool = _by_speaker(every, protocol.prompt_seconds)
            trials += [_cross(u, pool, protocol.prompt_seconds, seed) for u in chosen]
        elif task == CONTINUATION:
            trials += [
                _trial(task, u, prompt=u.id, prompt_end=protocol.prompt_seconds, prompt_text=u.text)
                for u in chosen
                if _seconds(u) > protocol.prompt_seconds
            ]
        elif task == INFILL:
            assert find_gap is not None
            gaps = [(u, find_gap(u)) for u in chosen]
            trials += [
                _trial(task, u, span_start=round(g.start, 4), span_end=round(g.end, 4),
                       words=" ".join(g.words))
                for u, g in gaps if g is not None
            ]  # fmt: skip
        else:
            trials += [_trial(task, u) for u in chosen]
    if not trials:
        raise UserError(
            f"protocol {protocol.name}: none of {len(every)} utterances lasts "
            f"{protocol.min_seconds:g} to {protocol.max_seconds:g} s: name another subset"
        )
    return trials


def _seconds(utterance: Utterance) -> float:
    if utterance.seconds is None:
        raise UserError(f"{utterance.id}: its length is not known: read the corpus with its sound")
    return utterance.seconds


def _trial(task: str, utterance: Utterance, **more: Any) -> Trial:
    return Trial(f"{task}-{utterance.id}", task, utterance.id, utterance.speaker,
                 round(_seconds(utterance), 4), utterance.text, **more)  # fmt: skip


def _by_speaker(utterances: Sequence[Utterance], seconds: float) -> dict[str, list[Utterance]]:
    pool: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        if _seconds(utterance) >= seconds:
            pool.setdefault(utterance.speaker, []).append(utterance)
    return pool


def _cross(
    utterance: Utterance, pool: dict[str, list[Utterance]], seconds: float, seed: int
) -> Trial:
    """The prompt is a clip of another utterance of the speaker, both drawn by seed and id."""
    others = [u for u in pool.get(utterance.speaker, []) if u.id != utterance.id]
    if not others:
        raise UserError(
            f"{utterance.id}: speaker {utterance.speaker} has no other utterance of {seconds:g} s "
            "to take a prompt from: use a whole subset"
        )
    generator = generator_for("prompt", seed, utterance.id)
    prompt = others[int(torch.randint(len(others), (), generator=generator))]
    places = math.floor((_seconds(prompt) - seconds) / _STEP_SECONDS + 1e-6) + 1
    start = round(_STEP_SECONDS * int(torch.randint(places, (), generator=generator)), 2)
    return _trial(CROSS, utterance, prompt=prompt.id, prompt_start=start,
                  prompt_end=round(start + seconds, 4), prompt_text=prompt.text)  # fmt: skip


def _listed(path: Path | None, utterances: Sequence[Utterance], limit: int | None) -> list[Trial]:
    if path is None:
        raise UserError(
            "this protocol needs --list: a file of six tab-separated columns, "
            + " ".join(LIST_COLUMNS)
        )
    known = {u.id: u for u in utterances}
    rows = read_list(path)
    ids = [row[column] for row in rows for column in ("ref_utt", "gen_utt")]
    if missing := sorted({i for i in ids if i not in known}):
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        shown = ", ".join(missing[:5]) + more
        raise UserError(f"{path} names utterances that are not in the subset: {shown}")
    return [
        Trial(
            f"{LISTED}-{number:05d}-{row['gen_utt']}", LISTED, row["gen_utt"],
            known[row["gen_utt"]].speaker, float(row["gen_dur"]), row["gen_txt"],
            prompt=row["ref_utt"], prompt_end=float(row["ref_dur"]), prompt_text=row["ref_txt"],
        )
        for number, row in enumerate(rows)
    ][:limit]  # fmt: skip


def read_list(path: Path) -> list[dict[str, str]]:
    """The rows of a LibriSpeech-PC list (as F5-TTS evaluates by): six columns by name.

    Raises UserError that names every line which is not such a row (the first ten of them).
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    rows, wrong = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != len(LIST_COLUMNS):
            wrong.append(f"line {number} has {len(parts)} columns")
            continue
        row = dict(zip(LIST_COLUMNS, parts, strict=True))
        if empty := [name for name, value in row.items() if not value]:
            wrong.append(f"line {number} has no {', '.join(empty)}")
        elif bad := [n for n in ("ref_dur", "gen_dur") if not _is_length(row[n])]:
            wrong.append(f"line {number}: {bad[0]} is not seconds but {row[bad[0]]!r}")
        else:
            rows.append(row)
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise UserError(
            f"{path}: expected six tab-separated columns ({' '.join(LIST_COLUMNS)}): "
            + "; ".join(wrong[:10]) + more
        )  # fmt: skip
    if not rows:
        raise UserError(f"{path} holds no trials")
    return rows


def _is_length(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def written(trials: Sequence[Trial]) -> str:
    """The list as it stands in its file: JSON, one trial a line."""
    return "".join(
        json.dumps(asdict(trial), ensure_ascii=False, sort_keys=True) + "\n" for trial in trials
    )


def sha256_of(trials: Sequence[Trial]) -> str:
    """Of the list's file, in hexadecimal digits."""
    return hashlib.sha256(written(trials).encode()).hexdigest()


def write_trials(path: Path, trials: Sequence[Trial]) -> str:
    """Write the list and, beside it, its SHA-256, which is returned."""
    digest = sha256_of(trials)
    with replacing(path) as temporary:
        temporary.write_bytes(written(trials).encode())
    with replacing(path.with_suffix(".sha256")) as temporary:
        temporary.write_text(f"{digest}  {path.name}\n", "utf-8")
    return digest


def read_trials(path: Path) -> list[Trial]:
    """A list that was written; UserError where it is damaged."""
    names = {f.name for f in fields(Trial)}
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        if any(set(row) != names for row in rows):
            raise ValueError("its fields are others")
        return [Trial(**row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a list of trials ({error})") from error
