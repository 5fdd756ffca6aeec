"""Protocols: the list of trials of a benchmark, written down before anything is generated.

A list depends on the corpus, the seed and the protocol alone: not on the voice, the machine, the
order of files or the number of processes. It names utterances, never paths.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from voiceflow.config import BenchmarkConfig, UserError
from voiceflow.data.manifest import Utterance
from voiceflow.data.masking import generator_for
from voiceflow.files import replacing
from voiceflow.measures.infill import Gap
from voiceflow.measures.subject import spread_over_speakers
from voiceflow.text.lexicon import english_dictionary_path, read_dictionary
from voiceflow.text.normalise import words_of

CROSS, CONTINUATION, LISTED = "cross-sentence", "continuation", "listed"
INFILL, DURATIONS, SPEED = "infill", "durations", "speed"
EDIT, STYLE, DIVERSE, LIKELIHOOD = "edit", "style", "diverse", "likelihood"
NOISE_SHARES = {"denoise-30": 0.3, "denoise-50": 0.5, "denoise-70": 0.7}
"""task -> share of the recording that noise covers"""
TASKS = (CROSS, CONTINUATION, LISTED, INFILL, EDIT, STYLE, *NOISE_SHARES, DIVERSE, DURATIONS,
         LIKELIHOOD, SPEED)  # fmt: skip
SILENT = (DURATIONS, LIKELIHOOD)  # nothing is generated
KEPT_AROUND = (INFILL, EDIT, *NOISE_SHARES)  # a span is made anew, the rest stays the recording's
LIST_COLUMNS = ("ref_utt", "ref_dur", "ref_txt", "gen_utt", "gen_dur", "gen_txt")
STEP_SECONDS = 0.01  # a prompt, and noise, begin at a multiple of it
_LEAST_LETTERS = 3  # of a word that an edit takes out or puts in

T = TypeVar("T")


@dataclass(frozen=True)
class Trial:
    """One thing to generate.

    id: a file name; utterance: whose text is said, and which is the original; text: all that is to
    be heard. prompt: the utterance that a prompt is cut out of, "" for none, from prompt_start to
    prompt_end (seconds); prompt_text: what the whole of it says. For a continuation the prompt is
    the utterance itself, to be cut at a phone edge before prompt_end; for an edit and for noise it
    is what of the utterance lies outside the span. span_start, span_end: of an infill, of noise,
    and of the word that an edit takes out; words: what is to be heard there, of an infill and of an
    edit, whose text is the new one (the utterance's own is what is said). Of a likelihood text and
    words are the wrong ones of its span, and the prompt is what another speaker's sound in the span
    is cut out of, exactly prompt_start to prompt_end, where prompt_text is said.
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
FindWord = Callable[[Utterance, int], tuple[float, float] | None]
"""Where word number n of an utterance's text is said, in seconds; None where it is not found."""
FindPairs = Callable[[Utterance, Sequence[Utterance], Sequence[Utterance]], Trial | None]
"""(utterance, all of the protocol whatever its limit, the whole subset) -> its likelihood trial."""


def make_trials(
    protocol: BenchmarkConfig,
    utterances: Iterable[Utterance],
    *,
    seed: int = 0,
    limit: int | None = None,
    listed: Path | None = None,
    find_gap: FindGap | None = None,
    find_word: FindWord | None = None,
    find_pairs: FindPairs | None = None,
) -> list[Trial]:
    """The trials of a protocol, task by task, a speaker after the other.

    utterances: of the whole subset, with their seconds; limit: utterances of each task, one of
    each speaker first; listed: the file of the task `listed`; find_gap, find_word,
    find_pairs: for `infill`, `edit` and `likelihood`. Raises UserError for no trials at all, a list
    that cannot be read or names what is not there, a prompt that no utterance is long enough for,
    and another speaker's where there is none.
    """
    if unknown := [task for task in protocol.tasks if task not in TASKS]:
        known = ", ".join(TASKS)
        raise UserError(f"{protocol.name}: no task {', '.join(unknown)}: there are {known}")
    every = sorted(utterances, key=lambda u: u.id)
    fitting = [u for u in every if protocol.min_seconds <= _seconds(u) <= protocol.max_seconds]
    whole = spread_over_speakers(fitting, protocol.per_speaker)
    chosen = whole[:limit]
    pool = _by_speaker(every, protocol.prompt_seconds) if CROSS in protocol.tasks else {}

    def trial_of(task: str, u: Utterance) -> Trial | None:
        if task == CROSS:
            return _cross(u, pool, protocol.prompt_seconds, seed)
        if task == CONTINUATION:
            return _continuation(u, protocol.prompt_seconds)
        if task == INFILL:
            assert find_gap is not None
            return _infill(u, find_gap(u))
        if task == EDIT:
            assert find_word is not None
            return _edit(u, every, seed, find_word)
        if task == STYLE:
            return _style(u, fitting, seed)
        if task == LIKELIHOOD:
            assert find_pairs is not None
            return find_pairs(u, whole, every)
        return _noisy(task, u, seed) if task in NOISE_SHARES else trial_for(task, u)

    trials: list[Trial] = []
    for task in protocol.tasks:
        if task == LISTED:
            trials += _listed(listed, every, limit)
        else:
            trials += [trial for u in chosen if (trial := trial_of(task, u)) is not None]
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


def trial_for(task: str, utterance: Utterance, **more: Any) -> Trial:
    """A trial of an utterance, which says its text unless it is told otherwise."""
    told = {"text": utterance.text, **more}
    return Trial(f"{task}-{utterance.id}", task, utterance.id, utterance.speaker,
                 round(_seconds(utterance), 4), **told)  # fmt: skip


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
    prompt = drawn(others, generator)
    start = _start(_seconds(prompt) - seconds, generator)
    return trial_for(CROSS, utterance, prompt=prompt.id, prompt_start=start,
                     prompt_end=round(start + seconds, 4), prompt_text=prompt.text)  # fmt: skip


def _continuation(utterance: Utterance, seconds: float) -> Trial | None:
    if _seconds(utterance) <= seconds:
        return None
    return trial_for(CONTINUATION, utterance, prompt=utterance.id, prompt_end=seconds,
                      prompt_text=utterance.text)  # fmt: skip


def _infill(utterance: Utterance, gap: Gap | None) -> Trial | None:
    if gap is None:
        return None
    return trial_for(INFILL, utterance, span_start=round(gap.start, 4), span_end=round(gap.end, 4),
                      words=" ".join(gap.words))  # fmt: skip


def _edit(
    utterance: Utterance, every: Sequence[Utterance], seed: int, find_word: FindWord
) -> Trial | None:
    """One word gives way to one of another utterance, both drawn by seed and id.

    None where there is no such word, or it is not found in the sound.
    """
    words = words_of(utterance.text)
    places = [i for i, word in enumerate(words) if _is_word(word)]
    if len(words) < 2 or not places:
        return None
    generator = generator_for(EDIT, seed, utterance.id)
    place = drawn(places, generator)
    new = _other_word(words, [u for u in every if u.id != utterance.id], generator)
    span = None if new is None else find_word(utterance, place)
    if new is None or span is None:
        return None
    trial = trial_for(EDIT, utterance, **_itself(utterance, *span), words=new)
    return replace(trial, text=" ".join([*words[:place], new, *words[place + 1 :]]))


def _is_word(word: str) -> bool:
    return len(word.replace("'", "")) >= _LEAST_LETTERS


def _other_word(
    words: Sequence[str], others: Sequence[Utterance], generator: torch.Generator
) -> str | None:
    """A word of the dictionary that is none of `words`, of the first utterance that has one."""
    for number in torch.randperm(len(others), generator=generator).tolist():
        said = sorted({*words_of(others[number].text)} - {*words})
        if known := [word for word in said if _is_word(word) and word in dictionary()]:
            return drawn(known, generator)
    return None


@cache
def dictionary() -> frozenset[str]:
    """The words whose pronunciation is looked up."""
    return frozenset(read_dictionary(english_dictionary_path()))


def _style(utterance: Utterance, pool: Sequence[Utterance], seed: int) -> Trial:
    """The prompt is a whole utterance of another speaker, drawn by seed and id."""
    others = [u for u in pool if u.speaker != utterance.speaker]
    if not others:
        raise UserError(
            f"{utterance.id}: style needs a prompt of another speaker than {utterance.speaker}, "
            "and there is none: use a whole subset"
        )
    prompt = drawn(others, generator_for(STYLE, seed, utterance.id))
    return trial_for(STYLE, utterance, prompt=prompt.id, prompt_end=round(_seconds(prompt), 4),
                      prompt_text=prompt.text)  # fmt: skip


def _noisy(task: str, utterance: Utterance, seed: int) -> Trial:
    """One stretch of the utterance, drawn by seed and id, that noise covers."""
    length = round(NOISE_SHARES[task] * _seconds(utterance), 2)
    start = _start(_seconds(utterance) - length, generator_for(task, seed, utterance.id))
    return trial_for(task, utterance, **_itself(utterance, start, start + length))


def _itself(utterance: Utterance, start: float, end: float) -> dict[str, Any]:
    """A span of an utterance, whose rest is the prompt."""
    return {
        "prompt": utterance.id, "prompt_end": round(_seconds(utterance), 4),
        "prompt_text": utterance.text, "span_start": round(start, 4), "span_end": round(end, 4),
    }  # fmt: skip


def _start(room: float, generator: torch.Generator) -> float:
    """A multiple of 10 ms in 0..room seconds."""
    places = math.floor(room / STEP_SECONDS + 1e-6) + 1
    return round(STEP_SECONDS * int(torch.randint(places, (), generator=generator)), 2)


def drawn(things: Sequence[T], generator: torch.Generator) -> T:
    """One of them."""
    return things[int(torch.randint(len(things), (), generator=generator))]


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
