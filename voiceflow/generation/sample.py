"""From a plan to a mel spectrogram: the one sampler of all tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from voiceflow.config import SampleConfig, UserError
from voiceflow.data.masking import generator_for
from voiceflow.flow.guidance import Guided, constant
from voiceflow.flow.path import Field, Path
from voiceflow.flow.paths import PATHS, make_path
from voiceflow.flow.solvers import SOLVERS, Context, solve
from voiceflow.flow.times import GRIDS, make_grid
from voiceflow.generation.plan import Plan
from voiceflow.models.velocity import Prepared, VelocityNetwork
from voiceflow.nn.transformer import Places
from voiceflow.text.phones import PhoneTable

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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


class Conditioned:
    """The network as solver and guidance call it: prepared once, in the precision asked for.

    For items of one window. What is no `VelocityNetwork` is called with context and phones each
    time.
    """

    def __init__(self, network: nn.Module, settings: SampleConfig) -> None:
        self._network = network
        self._dtype = PRECISIONS[settings.precision]
        self._compiled = settings.compiled
        self._places: Places | None = None

    def prepare(self, context: Tensor, phones: Tensor) -> tuple[Prepared] | tuple[Tensor, Tensor]:
        """What is given in the place of context (B, T, M) and phones (B, T)."""
        if not isinstance(self._network, VelocityNetwork):
            return context, phones
        with self._autocast(context):
            prepared = self._network.prepare(
                context, phones, _whole(context), compiled=self._compiled, places=self._places
            )
        self._places = prepared.places
        return (prepared,)

    def __call__(self, t: Tensor, x: Tensor, *given: Any) -> Tensor:
        """The velocity (B, T, M) in float32 at x (B, T, M) and t (B,); given: by `prepare`."""
        with self._autocast(x):
            if isinstance(self._network, VelocityNetwork):
                return self._network.velocity(x, t, *given)
            velocity: Tensor = self._network(x, *given, t, _whole(x))
            return velocity

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, self._dtype, enabled=self._dtype != torch.float32)


def _whole(x: Tensor) -> Tensor:
    """Lengths (B,) of items that are not padded."""
    return torch.full((len(x),), x.shape[1])


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
    batch; state, time and guidance are float32 in any precision of the network. However long the
    recording, the network sees each gap with `settings.context_frames` on either side. Raises
    UserError for settings that cannot be, such as an unknown solver or no steps.
    """
    check_settings(settings)
    path = make_path(settings.path)
    grid = _grid(settings, path, near)
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
            frame_phones[window], settings, path, grid, near and Near(near.mel[window], near.t),
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
    path: Path,
    grid: Tensor,
    near: Near | None,
) -> Sampled:
    """One stretch: noise (K, T, M), context (T, M), mask and phones (T,)."""
    count = len(noise)
    context, mask, phones = (x.expand(count, *x.shape) for x in (context, mask, phones))
    noise = torch.where(mask.unsqueeze(-1), settings.temperature * noise, noise)
    conditioned = Conditioned(network, settings)
    velocity: Field
    if settings.guidance != 0:
        nothing = (torch.zeros_like(context), torch.zeros_like(phones))
        low, high = settings.guidance_interval
        velocity = Guided(
            conditioned, [(context, phones), nothing], constant(settings.guidance), (low, high),
            conditioned.prepare,
        )  # fmt: skip
    else:
        given = conditioned.prepare(context, phones)

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            return conditioned(t.expand(count), x, *given)

    start: Tensor = noise
    if near is not None:
        start = path.sample(noise, near.mel.expand_as(noise), torch.tensor(near.t))
    # Around all evaluations, so that weights are cast once: autocast forgets when the last ends.
    with torch.autocast(noise.device.type, enabled=False):
        solution = solve(
            velocity, start, grid, settings.solver, path=path,
            context=Context(noise, context, mask, path),
        )  # fmt: skip
    return Sampled(solution.x, solution.nfe, solution.passes)


def check_settings(settings: SampleConfig) -> None:
    """UserError for values that no sample can be drawn by."""
    choices = {"solver": SOLVERS, "path": PATHS, "grid": GRIDS, "precision": PRECISIONS}
    for key, known in choices.items():
        value = getattr(settings, key)
        if value not in known:
            raise UserError(f"{key} '{value}' is not one of {', '.join(known)}")
    if settings.steps < 1:
        raise UserError(f"steps must be at least 1, found {settings.steps}")
    if settings.context_frames < 1:
        raise UserError(f"context_frames must be at least 1, found {settings.context_frames}")
    if not settings.temperature >= 0:
        raise UserError(f"temperature must be 0 or more, found {settings.temperature}")
    interval = settings.guidance_interval
    if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise UserError(
            "guidance_interval must be two times, 0 <= first <= last <= 1, found "
            f"{', '.join(f'{end:g}' for end in interval) or 'none'}"
        )


def _grid(settings: SampleConfig, path: Path, near: Near | None) -> Tensor:
    """The times (steps + 1,) to walk along; UserError where they cannot be."""
    if near is not None and not 0 < near.t < 1:
        raise UserError(f"the time to begin at must lie between 0 and 1, found {near.t}")
    first, last = path.times
    try:
        return make_grid(
            settings.steps, settings.grid, sway=settings.sway, shift=settings.shift,
            within=(first if near is None else near.t, last),
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"grid: {error}") from error
