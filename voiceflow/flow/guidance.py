"""Classifier-free guidance of a velocity field."""

from __future__ import annotations

from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """(1 + a) v(cond) - a v(uncond) with a = `guidance` (Le et al. 2023, eq. 6).

    The tutorials' form (1 - w) v(uncond) + w v(cond) has w = 1 + a.
    """
    return (1 + guidance) * conditional - guidance * unconditional
