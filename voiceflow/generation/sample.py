"""From a plan to a mel spectrogram: the one sampler of all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from voiceflow.config import SampleConfig, UserError
from voiceflow.data.masking import generator_for
from voiceflow.flow.guidance import Guided, against
from voiceflow.flow.path import Field, Path
from voiceflow.flow.paths import PATHS, make_path
from voiceflow.flow.solvers import SOLVERS, Context, solve
from voiceflow.flow.times import GRIDS, make_grid
from voiceflow.generation.plan import Plan
from voiceflow.models.velocity import Prepared, VelocityNetwork
from voiceflow.nn.transformer import Places
from voiceflow.text.phones import PhoneTable

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": None}


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """auto: bfloat16 but on a CPU that has no arithmetic for it, where it is far slower."""
    if (dtype := PRECISIONS[name]) is not None:
        return dtype
    fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


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

    For items of `lengths` (B,) frames, once or, with guidance, once for each branch. What is no
    `VelocityNetwork` is called with context and phones each time.
    """

    def __init__(self, network: nn.Module, settings: SampleConfig, lengths: Tensor) -> None:
        self._network = network
        self._lengths = lengths
        device = next(network.parameters(), lengths).device
        self._dtype = precision_of(settings.precision, device)
        self._compiled = settings.compiled
        self._places: Places | None = None

    def prepare(self, context: Tensor, phones: Tensor) -> tuple[Prepared] | tuple[Tensor, Tensor]:
        """What is given in the place of context (B, T, M) and phones (B, T)."""
        if not isinstance(self._network, VelocityNetwork):
            return context, phones
        with self._autocast(context):
            prepared = self._network.prepare(
                context, phones, self._of(context), compiled=self._compiled, places=self._places
            )
        if bool((self._lengths == context.shape[1]).all()):  # without padding they are all alike
            self._places = prepared.places
        return (prepared,)

    def __call__(self, t: Tensor, x: Tensor, *given: Any) -> Tensor:
        """The velocity (B, T, M) in float32 at x (B, T, M) and t (B,); given: by `prepare`."""
        with self._autocast(x):
            if isinstance(self._network, VelocityNetwork):
                return self._network.velocity(x, t, *given)
            velocity: Tensor = self._network(x, *given, t, self._of(x))
            return velocity

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, self._dtype, enabled=self._dtype != torch.float32)

    def _of(self, x: Tensor) -> Tensor:
        """Lengths of the items x (B, ...) or, with all branches, (branches * B, ...)."""
        return self._lengths.repeat(len(x) // len(self._lengths))


@dataclass(frozen=True)
class Stretch:
    """A window of a plan with its noise, to be sampled: noise, context (T, M); mask, phones (T,).

    start: (T, M) where it begins on the path, None for its noise.
    """

    noise: Tensor
    context: Tensor
    mask: Tensor
    phones: Tensor
    start: Tensor | None = None

    @property
    def one_sided(self) -> bool:
        """Whether there is context, but only on one side of a gap, as after a prompt."""
        return bool(self.context.any()) and bool(self.mask[0] | self.mask[-1])


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
    mel = plan.context.repeat(count, 1, 1)
    nfe = passes = 0
    each = [_stretches(plan, phones, settings, path, seed + k, near) for k in range(count)]
    for window, *of_seeds in zip(windows(plan.mask, settings.context_frames), *each, strict=True):
        drawn = _sample_stretches(network, of_seeds, settings, path, grid)
        mel[:, window] = drawn.mel
        nfe, passes = nfe + drawn.nfe, passes + drawn.network_passes
    return Sampled(mel, nfe, passes)


@torch.no_grad()
def sample_many(
    network: nn.Module,
    plans: Sequence[Plan],
    phones: PhoneTable,
    settings: SampleConfig,
    seeds: Sequence[int],
    batch_frames: int = 8000,
) -> list[Sampled]:
    """One sample of each plan, as `sample` would draw it alone with its seed.

    Stretches of like lengths are sampled together, at most `batch_frames` frames with padding (or
    one stretch). nfe and network_passes are an item's own. Raises as `sample` does.
    """
    check_settings(settings)
    path = make_path(settings.path)
    grid = _grid(settings, path, None)
    mels = [plan.context.clone() for plan in plans]
    nfe, passes = [0] * len(plans), [0] * len(plans)
    waiting = [
        (number, window, stretch)
        for number, (plan, seed) in enumerate(zip(plans, seeds, strict=True))
        for window, stretch in zip(
            windows(plan.mask, settings.context_frames),
            _stretches(plan, phones, settings, path, seed, None), strict=True,
        )
    ]  # fmt: skip
    # Apart, since context guidance is of the one-sided alone.
    waiting.sort(key=lambda item: (item[2].one_sided, len(item[2].mask)))
    while waiting:
        count, one_sided = 1, waiting[0][2].one_sided
        for *_, next_ in waiting[1:]:
            if next_.one_sided != one_sided or (count + 1) * len(next_.mask) > batch_frames:
                break
            count += 1
        batch, waiting = waiting[:count], waiting[count:]
        drawn = _sample_stretches(network, [s for *_, s in batch], settings, path, grid)
        for (number, window, stretch), mel in zip(batch, drawn.mel, strict=True):
            mels[number][window] = mel[: len(stretch.mask)]
            nfe[number] += drawn.nfe
            passes[number] += drawn.network_passes
    return [Sampled(m[None], n, p) for m, n, p in zip(mels, nfe, passes, strict=True)]


def _stretches(
    plan: Plan, phones: PhoneTable, settings: SampleConfig, path: Path, seed: int,
    near: Near | None,
) -> list[Stretch]:  # fmt: skip
    """The windows of a plan, each with its part of the seed's noise."""
    durations = torch.tensor(plan.durations)
    frame_phones = torch.tensor(phones.ids(plan.phones)).repeat_interleave(durations)
    noise = torch.randn(plan.context.shape, generator=generator_for("sample", seed))

    def stretch(w: slice) -> Stretch:
        mask = plan.mask[w]
        cooled = torch.where(mask.unsqueeze(-1), settings.temperature * noise[w], noise[w])
        start = None if near is None else path.sample(cooled, near.mel[w], torch.tensor(near.t))
        return Stretch(cooled, plan.context[w], mask, frame_phones[w], start)

    return [stretch(w) for w in windows(plan.mask, settings.context_frames)]


def _sample_stretches(
    network: nn.Module, stretches: Sequence[Stretch], settings: SampleConfig, path: Path,
    grid: Tensor,
) -> Sampled:  # fmt: skip
    """Samples (B, T, M) of stretches, padded to the longest."""
    device = next(network.parameters(), stretches[0].noise).device

    def together(parts: Sequence[Tensor]) -> Tensor:
        return pad_sequence(list(parts), batch_first=True).to(device)

    lengths = torch.tensor([len(s.mask) for s in stretches], device=device)
    noise = together([s.noise for s in stretches])
    context = together([s.context for s in stretches])
    mask, phones = together([s.mask for s in stretches]), together([s.phones for s in stretches])
    start = together([s.noise if s.start is None else s.start for s in stretches])
    conditioned = Conditioned(network, settings, lengths)
    velocity: Field
    one_sided = stretches[0].one_sided  # as are all of a batch
    if branches := _branches(context, phones, settings, one_sided):
        others, strengths = zip(*branches, strict=True)
        low, high = settings.guidance_interval
        velocity = Guided(
            conditioned, [(context, phones), *others], against(*strengths), (low, high),
            conditioned.prepare,
        )  # fmt: skip
    else:
        given = conditioned.prepare(context, phones)

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            return conditioned(t.expand(len(x)), x, *given)

    # Around all evaluations, so that weights are cast once: autocast forgets when the last ends.
    with torch.autocast(noise.device.type, enabled=False):
        solution = solve(
            velocity, start, grid.to(device), settings.solver, path=path,
            context=Context(noise, context, mask, path),
        )  # fmt: skip
    return Sampled(solution.x.cpu(), solution.nfe, solution.passes)


def _branches(
    context: Tensor, phones: Tensor, settings: SampleConfig, one_sided: bool
) -> list[tuple[tuple[Tensor, Tensor], float]]:
    """What guidance leads away from, with its strength: no conditions; phones without context.

    The second where context is on one side alone: between two sides it gains no likeness and costs
    a little of the words (docs/benchmark_mini.md), and without context it is the full branch.
    """
    unheard = torch.zeros_like(context)
    branches = [((unheard, torch.zeros_like(phones)), settings.guidance)]
    if one_sided:
        branches.append(((unheard, phones), settings.context_guidance))
    return [(conditions, strength) for conditions, strength in branches if strength != 0]


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
