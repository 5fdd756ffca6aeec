"""How a task is asked for, and a task that is planned and not yet sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from voiceflow.audio.io import Recording
from voiceflow.config import SampleConfig, UserError, load_group
from voiceflow.flow.times import GRIDS
from voiceflow.generation.infill import Layout
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import Sampled, sample_many
from voiceflow.text.phones import PhoneTable

PRESETS = ("paper", "best", "fast")
_CONSTANT_OF = {"sway": "sway", "shifted": "shift"}  # grid -> field of SampleConfig


class SampleOptions(TypedDict, total=False):
    """How a task is done; the voice's own preset where a value is missing or None.

    preset: paper, best or fast. settings: all of a preset's values, in its place. steps, solver,
    guidance, context_guidance: of the sampler. grid: of its steps, by name, with its constant after
    a colon where it has one: uniform, cosine, sway:-0.5, shifted:3. dtype: what the network
    computes in: float32, bfloat16, or auto (bfloat16 where it is fast). candidates: so many
    samples, of which the one is taken whose words are heard best; its seed is told in the result.
    """

    seed: int
    preset: str | None
    settings: SampleConfig | None
    steps: int | None
    guidance: float | None
    context_guidance: float | None
    solver: str | None
    grid: str | None
    dtype: str | None
    candidates: int


Finish = Callable[[Tensor], Recording]
"""Un-normalised log-mel (T, M) of a plan to its sound."""


@dataclass(frozen=True)
class Job:
    """A task that is planned and not yet sampled.

    words: what the sound shall say; layout: the recording as it was found, if there was one.
    """

    plan: Plan
    finish: Finish
    words: tuple[str, ...]
    settings: SampleConfig
    seed: int
    candidates: int = 1
    layout: Layout | None = None


def settings_of(own: SampleConfig, asked: SampleOptions) -> SampleConfig:
    """A voice's own settings, or a preset's, with what is asked for instead.

    Raises UserError for an option, a preset or a grid that is not known; other values are checked
    by `sample`.
    """
    known = SampleOptions.__annotations__
    if unknown := sorted(set(asked) - set(known)):
        raise UserError(
            f"{', '.join(unknown)}: not known: beside its own arguments a task takes "
            f"{', '.join(known)}"
        )
    if (settings := asked.get("settings")) is None:
        settings = own
    elif asked.get("preset") is not None:
        raise UserError("preset and settings exclude each other: give one of them")
    if (preset := asked.get("preset")) is not None:
        if preset not in PRESETS:
            raise UserError(f"preset '{preset}' is not one of {', '.join(PRESETS)}")
        settings = load_group(SampleConfig, "sample", preset)
    changed: dict[str, Any] = {
        "steps": asked.get("steps"), "guidance": asked.get("guidance"),
        "context_guidance": asked.get("context_guidance"),
        "solver": asked.get("solver"), "precision": asked.get("dtype"),
        **_grid(asked.get("grid")),
        "path": own.path,  # what the network was trained on
    }  # fmt: skip
    return replace(settings, **{k: v for k, v in changed.items() if v is not None})


def _grid(text: str | None) -> Mapping[str, Any]:
    """`sway:-0.5` and the like as fields of SampleConfig."""
    if text is None:
        return {}
    name, _, constant = text.partition(":")
    try:
        number = float(constant) if constant else None
    except ValueError:
        number = float("nan")
    if name not in GRIDS or number != number or (number is not None and name not in _CONSTANT_OF):
        raise UserError(
            f"grid '{text}' is not known: choose one of {', '.join(GRIDS)}, of which sway and "
            "shifted may have a number after a colon (sway:-0.5)"
        )
    return {"grid": name} if number is None else {"grid": name, _CONSTANT_OF[name]: number}


def check_candidates(count: int) -> None:
    """UserError for fewer than one."""
    if count < 1:
        raise UserError(f"candidates must be at least 1, found {count}")


def job_of(
    own: SampleConfig,
    plan: Plan,
    finish: Finish,
    words: Sequence[str],
    asked: SampleOptions,
    layout: Layout | None = None,
) -> Job:
    """A plan as a job, done as is asked for, or else by a voice's own settings.

    Raises UserError as `settings_of` does, and for less than one candidate.
    """
    settings = settings_of(own, asked)
    count = asked.get("candidates", 1)
    check_candidates(count)
    return Job(plan, finish, tuple(words), settings, asked.get("seed", 0), count, layout)


def sample_jobs(
    velocity: nn.Module, phones: PhoneTable, jobs: Sequence[Job]
) -> list[list[Sampled]]:
    """Every candidate of each job; those of the same settings are sampled together."""
    drawn: list[list[Sampled]] = [[] for _ in jobs]
    by_settings: dict[str, list[int]] = {}
    for number, job in enumerate(jobs):
        by_settings.setdefault(repr(job.settings), []).append(number)
    for numbers in by_settings.values():
        each = [(n, k) for n in numbers for k in range(jobs[n].candidates)]
        found = sample_many(
            velocity, [jobs[n].plan for n, _ in each], phones, jobs[numbers[0]].settings,
            [jobs[n].seed + k for n, k in each],
        )  # fmt: skip
        for (number, _), one in zip(each, found, strict=True):
            drawn[number].append(one)
    return drawn


def device_of(name: str) -> torch.device:
    """A device by its name; UserError for one that is not known or not there."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"device '{name}' cannot be used here ({str(error).splitlines()[0]}): choose cpu, or "
            "cuda where PyTorch sees a GPU"
        ) from error
    return device
