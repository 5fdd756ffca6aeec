"""From a plan to a mel spectrogram: the one sampler of all tasks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voiceflow.config import SampleConfig, UserError
from voiceflow.data.masking import generator_for
from voiceflow.flow.guidance import guide
from voiceflow.flow.paths import OptimalTransport
from voiceflow.flow.solvers import SOLVERS, solve_clamped
from voiceflow.generation.plan import Plan
from voiceflow.text.phones import PhoneTable


@dataclass(frozen=True)
class Sampled:
    """mel: (K, T, M) normalised log-mel, context frames as given; and what it cost."""

    mel: Tensor
    nfe: int
    network_passes: int


@torch.no_grad()
def sample(
    network: nn.Module,
    plan: Plan,
    phones: PhoneTable,
    settings: SampleConfig,
    seed: int,
    count: int = 1,
) -> Sampled:
    """Draw `count` samples of the plan's gaps, as seeds seed, seed + 1, ... would one by one.

    Context is clamped to its known path at every evaluation; guidance runs both branches in one
    batch; the state is float32. Raises UserError for an unknown solver or no steps.
    """
    if settings.solver not in SOLVERS:
        raise UserError(f"solver '{settings.solver}' is not one of {', '.join(SOLVERS)}")
    if settings.steps < 1:
        raise UserError(f"steps must be at least 1, found {settings.steps}")
    path = OptimalTransport()
    n_frames, n_mels = plan.context.shape
    durations = torch.tensor(plan.durations)
    frame_phones = torch.tensor(phones.ids(plan.phones)).repeat_interleave(durations)
    generators = [generator_for("sample", seed + k) for k in range(count)]
    noise = torch.stack([torch.randn(n_frames, n_mels, generator=g) for g in generators])
    context = plan.context.expand(count, -1, -1)
    mask = plan.mask.expand(count, -1)
    if not bool(plan.mask.any()):
        return Sampled(context.clone(), 0, 0)
    frame_phones = frame_phones.expand(count, -1)
    guided = settings.guidance != 0
    branches = 2 if guided else 1
    all_context = torch.cat([context, torch.zeros_like(context)]) if guided else context
    all_phones = torch.cat([frame_phones, torch.zeros_like(frame_phones)])[: branches * count]
    lengths = torch.full((branches * count,), n_frames)
    passes = 0

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        nonlocal passes
        passes += branches
        times = t.expand(branches * count)
        v = network(x.repeat(branches, 1, 1), all_context, all_phones, times, lengths)
        return guide(v[:count], v[count:], settings.guidance) if guided else v

    solution = solve_clamped(
        velocity, noise, context, mask, path.sample, settings.steps, settings.solver
    )
    return Sampled(solution.x, solution.nfe, passes)
