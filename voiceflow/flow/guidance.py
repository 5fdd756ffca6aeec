"""Classifier-free guidance of a velocity field (Ho and Salimans 2022; Le et al. 2023, eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from voiceflow.flow.path import check_pair, expand_right

Conditions = tuple[Tensor, ...]
"""What a network is told beside t and x: tensors (B, ...) each"""

Conditioned = Callable[..., Tensor]
"""(t (B,), x (B, ...), *conditions) -> v (B, ...)"""

Combine = Callable[[Sequence[Tensor]], Tensor]
"""The velocities of the branches, the fully conditional first -> the guided velocity"""


def guide(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """(1 + a) v(cond) - a v(uncond) with a = `guidance` (Le et al. 2023, eq. 6).

    0 is the conditional, -1 the unconditional model. The other common form, `guide_by_scale`, has
    w = 1 + a.
    """
    return (1 + guidance) * conditional - guidance * unconditional


def guide_by_scale(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """(1 - w) v(uncond) + w v(cond) with w = `scale`, as the tutorials and image models have it.

    1 is the conditional, 0 the unconditional model. The other common form, `guide`, has a = w - 1.
    """
    return (1 - scale) * unconditional + scale * conditional


def guide_apart(
    full: Tensor, audio_only: Tensor, unconditional: Tensor, audio: float, text: float
) -> Tensor:
    """v(audio, text) + a_text (v(audio, text) - v(audio)) + a_audio (v(audio) - v(nothing)).

    Separate strengths for the text given the audio context, and for the audio context (Brooks et
    al. 2023, eq. 3, has scales of 1 + these). With a_text = a_audio = a it is `guide`'s form with
    that a.
    """
    return full + text * (full - audio_only) + audio * (audio_only - unconditional)


def rescale(
    guided: Tensor, conditional: Tensor, amount: float, mask: Tensor | None = None
) -> Tensor:
    """Bring the guided velocity's deviation back to the conditional's (Lin et al. 2024, eq. 15-16).

    amount 0 leaves `guided` (B, ...), 1 gives it the deviation of `conditional` (B, ...), taken for
    each item over all its elements, or those that `mask` (any first axes) has.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"the amount of rescaling must lie in [0, 1], found {amount}")
    check_pair(guided, conditional)
    wanted, found = _deviation(conditional, mask), _deviation(guided, mask)
    # What rounding leaves of a constant field is no deviation.
    rounding = 8 * torch.finfo(guided.dtype).eps * guided.detach().flatten(1).abs().amax(1)
    varies = found > rounding
    factor = torch.where(varies, wanted / torch.where(varies, found, 1.0), 1.0)
    return expand_right(1 + amount * (factor - 1), guided) * guided


def _deviation(x: Tensor, mask: Tensor | None) -> Tensor:
    """Standard deviation (B,) over an item's elements."""
    weight = torch.ones_like(x) if mask is None else expand_right(mask, x).expand_as(x).to(x.dtype)
    x, weight = x.flatten(1), weight.flatten(1)
    count = weight.sum(1, keepdim=True).clamp_min(1)
    mean = (weight * x).sum(1, keepdim=True) / count
    return ((weight * (x - mean).square()).sum(1) / count.squeeze(1)).sqrt()


def constant(strength: float) -> Combine:
    """`guide` with one strength, for two branches: conditional, unconditional."""
    return lambda v: guide(v[0], v[1], strength)


def against(*strengths: float) -> Combine:
    """v0 + a_1 (v0 - v_1) + a_2 (v0 - v_2) + ..., away from every other branch by its strength.

    With one strength it is `constant`. Of the unconditional branch and one that has the text but no
    audio, the second strength is the audio's own, given the text: what this speaker sounds like
    (after Jiang et al. 2025, who guide text and speaker apart).
    """
    return lambda v: v[0] + sum(
        a * (v[0] - other) for a, other in zip(strengths, v[1:], strict=True)
    )


def apart(audio: float, text: float) -> Combine:
    """`guide_apart`, for three branches: full, audio only, unconditional."""
    return lambda v: guide_apart(v[0], v[1], v[2], audio, text)


def rescaled(combine: Combine, amount: float, mask: Tensor | None = None) -> Combine:
    """Another way of combining, with its deviation brought back by `rescale`."""
    return lambda v: rescale(combine(v), v[0], amount, mask)


class Guided:
    """A guided velocity (t (), x (B, ...)) -> (B, ...): all branches in one batched pass.

    branches: the conditions of each branch, the fully conditional first. Outside `interval` of t
    the first branch runs alone, without guidance (Kynkäänniemi et al. 2024); where items have times
    of their own, each goes by its own. `passes` counts the branches that were run. prepare: makes
    of conditions (B, ...), once, what the network is given in their place. Raises ValueError when
    the branches' conditions do not fit.
    """

    def __init__(
        self,
        network: Conditioned,
        branches: Sequence[Conditions],
        combine: Combine,
        interval: tuple[float, float] = (0.0, 1.0),
        prepare: Callable[..., tuple[Any, ...]] | None = None,
    ) -> None:
        if len(branches) < 2:
            raise ValueError(f"guidance needs two branches or more, found {len(branches)}")
        shapes = [[tuple(c.shape) for c in branch] for branch in branches]
        if any(found != shapes[0] for found in shapes):
            raise ValueError(f"the branches' conditions must have the same shapes, found {shapes}")
        if not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"the interval must lie in [0, 1] and not fall, found {interval}")
        self.network = network
        self.alone: tuple[Any, ...] = branches[0]
        self.together: tuple[Any, ...] = tuple(map(torch.cat, zip(*branches, strict=True)))
        if prepare is not None:
            self.together = prepare(*self.together)
            if interval != (0, 1):  # else the first branch never runs alone
                self.alone = prepare(*self.alone)
        self.count = len(branches)
        self.combine = combine
        self.interval = interval
        self.passes = 0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The guided velocity at x (B, ...), t () or (B,)."""
        times = t.expand(len(x))
        inside = None if self.interval == (0, 1) else self._inside(times)
        if inside is not None and not bool(inside.any()):
            self.passes += 1
            return self.network(times, x, *self.alone)
        self.passes += self.count
        copies = x.repeat(self.count, *(1 for _ in x.shape[1:]))
        said = self.network(times.repeat(self.count), copies, *self.together).chunk(self.count)
        guided = self.combine(said)
        return guided if inside is None else torch.where(expand_right(inside, x), guided, said[0])

    def _inside(self, times: Tensor) -> Tensor:
        first, last = (times.new_tensor(end) for end in self.interval)  # in the times' precision
        return (first <= times) & (times <= last)
