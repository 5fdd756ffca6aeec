"""Derivatives of a velocity by its place: Jacobian, divergence, and the divergence's estimate.

For any shape (B, ...), under the one condition that each item's velocity depends on that item
alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from voiceflow.flow.path import expand_right

Probe = Literal["rademacher", "gaussian"]
PROBES: tuple[Probe, ...] = ("rademacher", "gaussian")

_AT_ONCE = 64  # rows of the Jacobian in one batched backward pass


def value_and_rows(
    field: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """v (B, ...) at x (B, ...), and each direction times the Jacobian: (P, B, ...).

    directions: (P, B, ...) or (P, 1, ...). With `create_graph` both can be differentiated.
    """
    with torch.enable_grad():
        if not (create_graph and x.requires_grad):
            x = x.detach().requires_grad_()
        v = field(x)
        found = x.new_zeros(len(directions), *x.shape)
        if v.requires_grad and len(directions):  # else it does not depend on x, or none is asked
            parts = directions.expand_as(found).split(_AT_ONCE)
            found = torch.cat([_rows(v, x, part, create_graph) for part in parts])
    return (v, found) if create_graph else (v.detach(), found.detach())


def _rows(v: Tensor, x: Tensor, directions: Tensor, create_graph: bool) -> Tensor:
    # The graph is kept for the next part; it goes when v does.
    found = torch.autograd.grad(
        v, x, directions, retain_graph=True, create_graph=create_graph, is_grads_batched=True,
        allow_unused=True,
    )[0]  # fmt: skip
    return torch.zeros_like(directions) if found is None else found


def basis(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Unit vectors (P, 1, ...) of an item of x (B, ...), of elements that any item's mask has."""
    size = x[0].numel()
    chosen = torch.arange(size, device=x.device)
    if mask is not None:
        chosen = chosen[expand_right(mask, x).expand_as(x).flatten(1).any(0)]
    unit = torch.zeros(len(chosen), size, dtype=x.dtype, device=x.device)
    unit[torch.arange(len(chosen), device=x.device), chosen] = 1
    return unit.reshape(-1, 1, *x.shape[1:])


def draw_probes(
    x: Tensor, count: int, kind: Probe = "rademacher", generator: torch.Generator | None = None
) -> Tensor:
    """Probes (P, B, ...) of zero mean and unit covariance for Hutchinson's estimator at x (B, ...).

    Raises ValueError for no probes or an unknown kind.
    """
    if count < 1:
        raise ValueError(f"probes must be at least 1, found {count}")
    device = x.device if generator is None else generator.device
    shape = (count, *x.shape)
    if kind == "rademacher":
        coins = torch.randint(0, 2, shape, generator=generator, device=device)
        return (2 * coins - 1).to(x)
    if kind == "gaussian":
        return torch.randn(shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
    raise ValueError(f"probe '{kind}' is not known: choose one of {', '.join(PROBES)}")


def divergence(
    field: Callable[[Tensor], Tensor],
    x: Tensor,
    directions: Tensor,
    mask: Tensor | None = None,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """v (B, ...), and e^T J e for each direction e: (P, B).

    Over `basis` their sum is the divergence, by as many vector-Jacobian products; over
    `draw_probes` each is an estimate without bias (Hutchinson 1990; Grathwohl et al. 2019). With
    `mask` it is the divergence of the masked elements alone, the others held.
    """
    directions = directions.expand(len(directions), *x.shape)
    if mask is not None:
        directions = directions * expand_right(mask, x)
    v, rows = value_and_rows(field, x, directions, create_graph)
    return v, (rows * directions).flatten(2).sum(2)


def jacobian(field: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """v (B, ...) and its Jacobian (B, D, D) by place, D the elements of an item."""
    v, rows = value_and_rows(field, x, basis(x))
    return v, rows.flatten(2).transpose(0, 1)
