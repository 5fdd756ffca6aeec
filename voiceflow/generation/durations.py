"""Durations of masked phones from a network: by regression, or as a sample of the flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from voiceflow.config import UserError
from voiceflow.flow.guidance import Guided, constant
from voiceflow.flow.path import Field
from voiceflow.flow.paths import OptimalTransport
from voiceflow.flow.solvers import SOLVERS, Context, solve
from voiceflow.models.duration import DurationFlowNetwork, frames_of, normalised_logs


@torch.no_grad()
def regressed_durations(
    network: nn.Module,
    phones: Tensor,
    durations: Tensor,
    mask: Tensor,
    lengths: Tensor | None = None,
    *,
    rounded: bool = True,
) -> Tensor:
    """Frames (B, N) float32: the network's on masked phones, the given ones elsewhere.

    network: a DurationNetwork; phones: (B, N); durations: (B, N) frames, read where mask (B, N) is
    False; lengths: (B,) phones of each item, or None where nothing is padded. Whole frames, at
    least 0 (Le et al. 2023, appendix A.3); with `rounded` false, real ones.
    """
    lengths = _lengths(phones, lengths)
    predicted = torch.expm1(network(phones, durations, mask, lengths))
    return _finished(predicted, durations, mask, rounded)


@torch.no_grad()
def sampled_durations(
    network: DurationFlowNetwork,
    phones: Tensor,
    durations: Tensor,
    mask: Tensor,
    lengths: Tensor | None = None,
    *,
    generators: Sequence[torch.Generator],
    steps: int = 16,
    solver: str = "midpoint",
    guidance: float = 0.0,
    rounded: bool = True,
) -> Tensor:
    """Frames (B, N) float32: a sample of the flow on masked phones, the given ones elsewhere.

    As `regressed_durations`, with a generator for each item, from which it draws as many numbers
    as the item has phones: an item's durations do not depend on its batch. Context is clamped to
    its known path at every evaluation; guidance (0: none) drops phones and context together (Le et
    al. 2023, sections 3.3 to 3.5). Rounding undoes the dequantisation. Raises UserError for an
    unknown solver or no steps, ValueError unless there is a generator for each item.
    """
    if solver not in SOLVERS:
        raise UserError(f"solver '{solver}' is not one of {', '.join(SOLVERS)}")
    if steps < 1:
        raise UserError(f"steps must be at least 1, found {steps}")
    if len(generators) != len(phones):
        raise ValueError(f"{len(phones)} items need as many generators, found {len(generators)}")
    lengths = _lengths(phones, lengths)
    drawn = [
        torch.randn(n, generator=g) for n, g in zip(lengths.tolist(), generators, strict=True)
    ]
    noise = pad_sequence(drawn, batch_first=True).to(phones.device)
    noise = nn.functional.pad(noise, (0, phones.shape[1] - noise.shape[1]))

    def conditioned(t: Tensor, x: Tensor, *conditions: Tensor) -> Tensor:
        told, known, hidden, n_phones = conditions
        velocity: Tensor = network(x, told, known, hidden, t, n_phones)
        return velocity

    def conditional(t: Tensor, x: Tensor) -> Tensor:
        return conditioned(t.expand(len(x)), x, phones, durations, mask, lengths)

    velocity: Field = conditional
    if guidance != 0:
        nothing = (torch.zeros_like(phones), durations, torch.ones_like(mask), lengths)
        branches = [(phones, durations, mask, lengths), nothing]
        velocity = Guided(conditioned, branches, constant(guidance))
    path = OptimalTransport()
    known = normalised_logs(durations.masked_fill(mask, 0), network.config)
    solution = solve(
        velocity, noise, steps, solver, path=path, context=Context(noise, known, mask, path)
    )
    return _finished(frames_of(solution.x, network.config), durations, mask, rounded)


def _lengths(phones: Tensor, lengths: Tensor | None) -> Tensor:
    if lengths is not None:
        return lengths
    return torch.full((len(phones),), phones.shape[1], device=phones.device)


def _finished(frames: Tensor, durations: Tensor, mask: Tensor, rounded: bool) -> Tensor:
    frames = (frames.round() if rounded else frames).clamp(min=0.0)
    return torch.where(mask, frames, durations.float())
