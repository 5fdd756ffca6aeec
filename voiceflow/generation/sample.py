"""From a plan to a mel spectrogram: the one sampler of all tasks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voiceflow.config import SampleConfig, UserError
from voiceflow.data.masking import generator_for
from voiceflow.flow.guidance import Guided, constant
from voiceflow.flow.path import Field
from voiceflow.flow.paths import PATHS, make_path
from voiceflow.flow.solvers import SOLVERS, Context, solve
from voiceflow.generation.plan import Plan
from voiceflow.text.phones import PhoneTable


@dataclass(frozen=True)
class Near:
    """A sound to begin at instead of noise: `mel` (T, M) normalised log-mel, as it is on the path
    at time t in (0, 1). What is drawn keeps more of it the later t is (Meng et al. 2022)."""

    mel: Tensor
    t: float


@dataclass(frozen=True)
class Sampled:
    """mel: (K, T, M) normalised log-mel, context frames as given; and what it cost."""

    mel: Tensor
    nfe: int
    network_passes: int


def windows(mask: Tensor, context_frames: int) -> list[slice]:
    """Stretches of frames that can be generated apart: the gaps with their context.

    mask: (T,). Gaps whose stretches overlap or touch share one, so that each sees the other.
    """
    edges = torch.diff(mask.int(), prepend=torch.zeros(1), append=torch.zeros(1))
    firsts, lasts = torch.nonzero(edges > 0).flatten(), torch.nonzero(edges < 0).flatten()
    found: list[slice] = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        start, stop = max(first - context_frames, 0), min(last + context_frames, len(mask))
        if found and start <= found[-1].stop:
            start = found.pop().start
        found.append(slice(start, stop))
    return found


@torch.no_grad()
def sample(
    network: nn.Module,
    plan: Plan,
    phones: PhoneTable,
    settings: SampleConfig,
    seed: int,
    count: int = 1,
    near: Near | None = None,
) -> Sampled:
    """Draw `count` samples of the plan's gaps, as seeds seed, seed + 1, ... would one by one.

    Context is clamped to its known path at every evaluation; guidance runs both branches in one
    batch; the state is float32. However long the recording, the network sees each gap with
    `settings.context_frames` on either side. Raises UserError for an unknown solver or path, no
    steps, no context or a negative temperature.
    """
    if settings.solver not in SOLVERS:
        raise UserError(f"solver '{settings.solver}' is not one of {', '.join(SOLVERS)}")
    if settings.path not in PATHS:
        raise UserError(f"path '{settings.path}' is not one of {', '.join(PATHS)}")
    if settings.steps < 1:
        raise UserError(f"steps must be at least 1, found {settings.steps}")
    if settings.context_frames < 1:
        raise UserError(f"context_frames must be at least 1, found {settings.context_frames}")
    if not settings.temperature >= 0:
        raise UserError(f"temperature must be 0 or more, found {settings.temperature}")
    if near is not None and not 0 < near.t < 1:
        raise UserError(f"the time to begin at must lie between 0 and 1, found {near.t}")
    n_frames, n_mels = plan.context.shape
    durations = torch.tensor(plan.durations)
    frame_phones = torch.tensor(phones.ids(plan.phones)).repeat_interleave(durations)
    generators = [generator_for("sample", seed + k) for k in range(count)]
    noise = torch.stack([torch.randn(n_frames, n_mels, generator=g) for g in generators])
    mel = plan.context.repeat(count, 1, 1)
    nfe = passes = 0
    for window in windows(plan.mask, settings.context_frames):
        drawn = _sample_window(
            network, noise[:, window], plan.context[window], plan.mask[window],
            frame_phones[window], settings, near and Near(near.mel[window], near.t),
        )  # fmt: skip
        mel[:, window] = drawn.mel
        nfe, passes = nfe + drawn.nfe, passes + drawn.network_passes
    return Sampled(mel, nfe, passes)


def _sample_window(
    network: nn.Module,
    noise: Tensor,
    context: Tensor,
    mask: Tensor,
    phones: Tensor,
    settings: SampleConfig,
    near: Near | None,
) -> Sampled:
    """One stretch: noise (K, T, M), context (T, M), mask and phones (T,)."""
    count, n_frames, _ = noise.shape
    path = make_path(settings.path)
    context, mask, phones = (x.expand(count, *x.shape) for x in (context, mask, phones))
    noise = torch.where(mask.unsqueeze(-1), settings.temperature * noise, noise)

    def conditioned(t: Tensor, x: Tensor, context: Tensor, phones: Tensor) -> Tensor:
        return network(x, context, phones, t, torch.full((len(x),), n_frames))

    def conditional(t: Tensor, x: Tensor) -> Tensor:
        return conditioned(t.expand(count), x, context, phones)

    velocity: Field = conditional
    if settings.guidance != 0:
        nothing = (torch.zeros_like(context), torch.zeros_like(phones))
        velocity = Guided(conditioned, [(context, phones), nothing], constant(settings.guidance))
    start: Tensor = noise
    steps: int | Tensor = settings.steps
    if near is not None:
        start = path.sample(noise, near.mel.expand_as(noise), torch.tensor(near.t))
        steps = torch.linspace(near.t, 1, settings.steps + 1)
    solution = solve(
        velocity, start, steps, settings.solver, path=path,
        context=Context(noise, context, mask, path),
    )  # fmt: skip
    return Sampled(solution.x, solution.nfe, solution.passes)
