"""From a plan and a sound to the sound's log-likelihood: how well a voice expects it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from voiceflow.config import SampleConfig, UserError
from voiceflow.data.masking import generator_for
from voiceflow.flow.likelihood import log_likelihood
from voiceflow.flow.paths import make_path
from voiceflow.flow.solvers import Context
from voiceflow.flow.times import make_grid
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import check_settings, windows
from voiceflow.text.phones import PhoneTable

# Of frames squared, over all items of a batch: what an attention layer keeps for its gradient.
_AT_ONCE = 4 << 20
# Near the data the divergence is large and changes fast, and steps must be small. On two spans with
# the bundled voice 16 equal midpoint steps are off by 0.045 bits per dimension, such by 0.003.
_SHIFT = 3.0


@dataclass(frozen=True)
class Scored:
    """Log-likelihood of a plan's masked elements.

    per_probe: (K,) nats that each probe gives for all of them; n_dimensions: how many elements,
    frames times bands; nfe: evaluations of the velocity that each probe took.
    """

    per_probe: Tensor
    n_dimensions: int
    nfe: int

    @property
    def nats(self) -> float:
        """log p, the mean over the probes."""
        return float(self.per_probe.mean())

    @property
    def bits_per_dimension(self) -> float:
        """-log2 p over the number of elements: the lower, the more expected."""
        return self._bits(-self.per_probe)[0]

    @property
    def standard_error(self) -> float | None:
        """Of `bits_per_dimension`, over the probes; None for one probe."""
        return self._bits(self.per_probe)[1]

    def saved_over(self, other: Scored) -> tuple[float, float | None]:
        """Bits per dimension that this has less than `other`, and the standard error of that.

        Probe by probe: where both had the same seed and mask, what the probes share cancels, and
        the error is smaller than that of either. Raises ValueError for other numbers of probes or
        elements.
        """
        mine, theirs = ((len(s.per_probe), s.n_dimensions) for s in (self, other))
        if mine != theirs:
            raise ValueError(
                "only scores of as many probes and elements can be compared, found "
                f"{mine[0]} of {mine[1]} and {theirs[0]} of {theirs[1]}"
            )
        return self._bits(self.per_probe - other.per_probe)

    def _bits(self, nats: Tensor) -> tuple[float, float | None]:
        """Mean of nats (K,) in bits per dimension, and its standard error."""
        bits = nats / (math.log(2) * self.n_dimensions)
        error = float(bits.std()) / math.sqrt(len(bits)) if len(bits) > 1 else None
        return float(bits.mean()), error


@torch.no_grad()
def score(
    network: nn.Module,
    plan: Plan,
    mel: Tensor,
    phones: PhoneTable,
    settings: SampleConfig,
    *,
    seed: int,
    probes: int = 4,
    steps: int = 16,
    solver: str = "midpoint",
) -> Scored:
    """log p(masked frames of mel | context, phones) under the voice, without guidance.

    mel: (T, M) normalised log-mel, read where the plan's mask is True; elsewhere the plan's context
    stands, held on its path as in `sample`. However long the recording, the network sees each gap
    with `settings.context_frames` on either side; gaps that lie farther apart are scored apart and
    added up. Of the settings only these and the path count; the network runs in float32.

    Each probe has its own noise of the context and its own signs for Hutchinson's estimate of the
    divergence, fixed over the path (Grathwohl et al. 2019). Both come of the seed, the probe's
    number and the mask alone: two texts are compared on the same draws. The mean over the
    context's noise is one of log p, so by Jensen's inequality at most log p of what `sample` draws
    (guidance 0, temperature 1), and equal to it where everything is masked.

    It is a density, of the normalised log-mel: it may exceed 1, and bits be negative. The log-mel
    itself has log2(FeatureSpec.std) bits per dimension more, whatever the text. Values clipped at
    the floor (digital silence) are atoms of the data; there it is the smooth network's density at
    the clipped value, which is no probability. So compare scores of the same frames alone, with the
    same steps: what too few of them add is for the most part common to both.

    Raises UserError where nothing is masked, for no probes or steps and for a solver that is not
    known or cannot go back, ValueError where mel does not have the plan's shape.
    """
    settings = replace(settings, steps=steps, solver=solver, precision="float32", compiled=False)
    check_settings(settings)
    if solver == "dpm_multistep":
        raise UserError(f"solver '{solver}' runs from noise to data alone: choose midpoint or rk4")
    if probes < 1:
        raise UserError(f"probes must be at least 1, found {probes}")
    if mel.shape != plan.context.shape:
        raise ValueError(
            f"mel must have the plan's shape {tuple(plan.context.shape)}, found {tuple(mel.shape)}"
        )
    if not bool(plan.mask.any()):
        raise UserError("no frame is masked, so there is nothing to score: give a longer span")
    frame_phones = torch.tensor(phones.ids(plan.phones))
    frame_phones = frame_phones.repeat_interleave(torch.tensor(plan.durations))
    x1 = torch.where(plan.mask[:, None], mel, plan.context)
    generators = [generator_for("likelihood", seed, k) for k in range(probes)]
    noise = torch.stack([torch.randn(mel.shape, generator=g) for g in generators])
    nats = torch.zeros(probes, dtype=torch.float64)
    nfe = 0
    for window in windows(plan.mask, settings.context_frames):
        signs = generator_for("likelihood", seed, "signs", window.start)
        at_once = max(1, _AT_ONCE // (window.stop - window.start) ** 2)
        parts = noise[:, window].split(at_once)
        found = [
            _score_window(
                network, part, x1[window], plan.context[window], plan.mask[window],
                frame_phones[window], settings, signs,
            )
            for part in parts
        ]  # fmt: skip
        nats += torch.cat([part for part, _ in found])
        nfe += found[0][1]
    return Scored(nats, int(plan.mask.sum()) * mel.shape[1], nfe)


def _score_window(
    network: nn.Module,
    noise: Tensor,
    x1: Tensor,
    context: Tensor,
    mask: Tensor,
    phones: Tensor,
    settings: SampleConfig,
    signs: torch.Generator,
) -> tuple[Tensor, int]:
    """Nats (K,) of one stretch: noise (K, T, M), x1 and context (T, M), mask and phones (T,)."""
    count, n_frames, _ = noise.shape
    device = next(network.parameters(), noise).device
    noise = noise.to(device)
    x1, context, mask, phones = (
        x.to(device).expand(count, *x.shape) for x in (x1, context, mask, phones)
    )
    lengths = torch.full((count,), n_frames, device=device)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        v: Tensor = network(x, context, phones, t.expand(count), lengths)
        return v

    path = make_path(settings.path)
    grid = make_grid(settings.steps, "shifted", shift=_SHIFT, within=path.times)
    found = log_likelihood(
        velocity, x1, path, grid, settings.solver, probes=1,
        context=Context(noise, x1, mask, path), generator=signs,
    )  # fmt: skip
    return found.nats.double(), found.nfe
