"""The flows that the comparison trains, and what a flow of points is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as File

import torch
from torch import Tensor

from voiceflow.config import ToyConfig, UserError
from voiceflow.files import replacing
from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.path import Path
from voiceflow.flow.paths import PATHS, make_path
from voiceflow.flow.preconditioning import Preconditioning
from voiceflow.flow.solvers import Solution, solve
from voiceflow.models.point_velocity import PointVelocity


@dataclass(frozen=True)
class Way:
    """One row of the comparison.

    path: a name of `PATHS`; coupling: a name of `COUPLINGS`; teacher: the way whose couples of
    noise and data it is trained on; by_likelihood: trained by maximum likelihood; its path then
    gives the prior and the scales alone.
    """

    name: str
    path: str = "optimal_transport"
    coupling: str = "independent"
    teacher: str | None = None
    by_likelihood: bool = False


WAYS: dict[str, Way] = {
    **{name: Way(name, path=name) for name in PATHS},
    "minibatch_coupling": Way("minibatch_coupling", coupling="minibatch_optimal_transport"),
    "reflow": Way("reflow", teacher="optimal_transport"),
    "maximum_likelihood": Way("maximum_likelihood", by_likelihood=True),
}
"""All rows, by name."""


def chosen_ways(names: list[str]) -> list[Way]:
    """The named ways in WAYS' order; UserError for a name unknown or a teacher left out."""
    unknown = sorted(set(names) - set(WAYS))
    if unknown or not names:
        said = f"{', '.join(unknown)}: not known" if unknown else "none named"
        raise UserError(f"ways: {said}; choose of {', '.join(WAYS)}")
    ways = [way for name, way in WAYS.items() if name in names]
    for way in ways:
        if way.teacher and way.teacher not in names:
            raise UserError(f"ways: {way.name} is trained on the couples of {way.teacher}: add it")
    return ways


class Flow:
    """A velocity of points on the path of a way."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.path: Path = make_path(way.path)

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """v (B, 2) at x (B, 2), t () or (B,)."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, x0: Tensor, steps: int, keep_states: bool = False) -> Solution:
        """Where standard normal noise x0 (B, 2) is led in so many midpoint steps."""
        start = self.path.prior.std * x0
        return solve(
            self.velocity, start, steps, "midpoint", path=self.path, keep_states=keep_states
        )


class ExactFlow(Flow):
    """The marginal velocity of a mixture, in closed form."""

    def __init__(self, way: Way, mixture: GaussianMixture) -> None:
        super().__init__(way)
        self.mixture = mixture

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        return self.mixture.marginal_velocity(x, t, self.path)


class PointFlow(Flow):
    """A velocity network of points, preconditioned for the data's deviation."""

    def __init__(self, way: Way, config: ToyConfig, data_std: float) -> None:
        super().__init__(way)
        self.scales = Preconditioning(self.path, data_std)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = PointVelocity(2, config.width, config.layers)

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        return self.scales.velocity(self.network, t, x)

    def save(self, file: File) -> None:
        """Write the weights."""
        from safetensors.torch import save_file

        with replacing(file) as temporary:
            save_file(self.network.state_dict(), temporary)

    def load(self, file: File) -> None:
        """Read the weights; UserError when they are missing, damaged or of another size."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.network.load_state_dict(load_file(file))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise UserError(f"{file}: cannot be read as this flow's weights ({error})") from error
