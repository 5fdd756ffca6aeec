"""What is measured of a flow of points, beside the floor that independent data reach."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voiceflow.config import ToyConfig
from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.likelihood import log_likelihood
from voiceflow.measures.distributions import energy_distance, sliced_wasserstein
from voiceflow.toy.ways import Flow

MANY_STEPS = 64
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, MANY_STEPS)  # of midpoint: twice as many NFE
LIKELIHOOD_STEPS = 50
FLOOR_PAIRS = 20
FLOOR_QUANTILE = 0.95
NEAR_BEST = 1.1
SHARE_SAMPLES = 20000
STRAIGHTNESS_SAMPLES = 2000


@dataclass(frozen=True)
class Floor:
    """What independent samples of the data themselves reach: 95th percentile over 20 pairs."""

    energy_distance: float
    sliced_wasserstein: float
    entropy: float  # nats


@dataclass(frozen=True)
class Figures:
    """One row: a flow's figures.

    nll: nats, with its standard error; worst_share: the largest departure of a mode's share from
    even, in percentage points; straightness: of the lines, 0 is straight; nfe: the fewest
    evaluations within a tenth of the best energy distance; nfe_under_floor: the fewest that reach
    the floor, None where none do; distance_by_nfe: the sweep.
    """

    seconds: float
    energy_distance: float
    sliced_wasserstein: float
    nll: float
    nll_error: float
    worst_share: float
    straightness: float
    nfe: int
    nfe_under_floor: int | None
    distance_by_nfe: dict[int, float]


class Yardstick:
    """Draws of data and noise that all flows are measured with; 5000 and more of each."""

    def __init__(self, mixture: GaussianMixture, config: ToyConfig) -> None:
        self.mixture = mixture
        self.seed = config.seed
        generator = torch.Generator().manual_seed(config.seed + 1)
        self.data = mixture.sample(config.samples, generator)
        self.noise = torch.randn(max(SHARE_SAMPLES, config.samples), 2, generator=generator)
        self.floor = self._floor(generator)

    def _floor(self, generator: torch.Generator) -> Floor:
        pairs = [
            (self.mixture.sample(len(self.data), generator),
             self.mixture.sample(len(self.data), generator))
            for _ in range(FLOOR_PAIRS)
        ]  # fmt: skip
        distances = torch.tensor(
            [(energy_distance(a, b), self._sliced(a, b)) for a, b in pairs], dtype=torch.float64
        )
        energy, sliced = torch.quantile(distances, FLOOR_QUANTILE, dim=0).tolist()
        return Floor(energy, sliced, self.mixture.entropy())

    def _sliced(self, a: Tensor, b: Tensor) -> float:
        return sliced_wasserstein(a, b, generator=torch.Generator().manual_seed(self.seed))

    def measure(self, flow: Flow, seconds: float) -> Figures:
        """All figures of a flow that took so long to train."""
        noise = self.noise[: len(self.data)]
        sweep = {}
        for steps in STEPS:
            made = flow.sample(noise, steps)
            sweep[made.nfe] = energy_distance(made.x, self.data)
        best = min(sweep.values())
        nll, error = self.nll(flow)
        return Figures(
            seconds=seconds,
            energy_distance=sweep[2 * MANY_STEPS],
            sliced_wasserstein=self._sliced(made.x, self.data),
            nll=nll,
            nll_error=error,
            worst_share=self.worst_share(flow),
            straightness=straightness(flow, self.noise[:STRAIGHTNESS_SAMPLES]),
            nfe=min(nfe for nfe, distance in sweep.items() if distance <= NEAR_BEST * best),
            nfe_under_floor=min(
                (nfe for nfe, d in sweep.items() if d <= self.floor.energy_distance), default=None
            ),
            distance_by_nfe=sweep,
        )

    def nll(self, flow: Flow) -> tuple[float, float]:
        """Negative log-likelihood of the data in nats, and its standard error.

        The entropy, which is known, plus the mean of log p - log p_flow, which varies less than
        log p_flow does.
        """
        found = log_likelihood(flow.velocity, self.data, flow.path, LIKELIHOOD_STEPS).nats
        excess = self.mixture.log_prob(self.data) - found
        error = float(excess.std()) / len(excess) ** 0.5
        return self.floor.entropy + float(excess.mean()), error

    def worst_share(self, flow: Flow) -> float:
        """Largest departure of a mode's share of the samples from its weight, in points."""
        made = flow.sample(self.noise, MANY_STEPS).x
        counts = torch.bincount(self.mixture.nearest_mode(made), minlength=self.mixture.modes)
        return 100 * float((counts / len(made) - self.mixture.weights).abs().max())


def straightness(flow: Flow, noise: Tensor) -> float:
    """E int |v - (x_1 - x_0)|^2 dt / E |x_1 - x_0|^2 over the flow's lines from noise (B, 2).

    0 where every line is straight and walked evenly (Liu et al. 2023, section 2.2, relative here).
    """
    solution = flow.sample(noise, MANY_STEPS, keep_states=True)
    assert solution.states is not None
    lengths = solution.times.diff()
    span = float(lengths.sum())
    velocities = solution.states.diff(dim=0) / lengths[:, None, None]
    way = (solution.states[-1] - solution.states[0]) / span
    departure = (velocities - way).square().sum(2).mean(1)
    return float((departure * lengths).sum() / (span * way.square().sum(1).mean()))
