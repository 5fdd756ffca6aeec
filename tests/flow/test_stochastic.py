"""Random walks keep the flow's marginals: against Gaussians and mixtures in closed form."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.path import Field, Path
from voiceflow.flow.paths import (
    OptimalTransport,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from voiceflow.flow.solvers import SOLVERS, Solution, solve
from voiceflow.flow.stochastic import Posterior, follow_random_drift, solve_stochastic
from voiceflow.measures.distributions import energy_distance

PATHS = [OptimalTransport(), VariancePreserving(), VarianceExploding()]
SMALL = [OptimalTransport(), VariancePreserving(), VarianceExploding(0.2, 5.0), Trigonometric()]
CIRCLE = GaussianMixture.symmetric_2d()
GAUSSIAN = GaussianMixture(torch.tensor([[1.5]], dtype=torch.float64), 0.6)
COUNT = 2000
GRID = torch.linspace(0, 0.9, 201, dtype=torch.float64)

on_paths = pytest.mark.parametrize("path", PATHS, ids=str)
on_small_paths = pytest.mark.parametrize("path", SMALL, ids=str)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def marginal(data: GaussianMixture, path: Path) -> Field:
    return lambda t, x: data.marginal_velocity(x, t, path)


def posterior(data: GaussianMixture, path: Path) -> Posterior:
    return lambda t, x, generator: data.posterior_sample(x, t, path, generator)


def constant(level: float) -> Callable[[Tensor], Tensor]:
    return lambda t: torch.full_like(t, level)


def start(path: Path, count: int, seed: int = 0) -> Tensor:
    """The Gaussian's own marginal at the first time (count, 1), which the prior only resembles."""
    t = torch.zeros((), dtype=torch.float64)
    data = GAUSSIAN.sample(count, seeded(seed))
    noise = torch.randn(count, 1, generator=seeded(seed + 100), dtype=torch.float64)
    return path.sample(noise, data, t)


def moments(path: Path, t: Tensor) -> tuple[float, float]:
    """Mean and deviation of the Gaussian's x_t: alpha m, and alpha^2 s^2 + sigma^2's root."""
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
    return 1.5 * alpha, math.hypot(0.6 * alpha, sigma)


def assert_marginals(solution: Solution, path: Path, slack: float) -> None:
    """Mean and deviation of every kept state, to four standard errors and `slack` deviations."""
    assert solution.states is not None
    for t, x in zip(solution.times, solution.states, strict=True):
        mean, std = moments(path, t)
        assert abs(float(x.mean()) - mean) < (4 / math.sqrt(len(x)) + slack) * std
        assert abs(float(x.std()) / std - 1) < 4 / math.sqrt(2 * len(x)) + slack


@cache
def floor() -> float:
    """The 95th percentile of the energy distance of two independent sets of data, of 20 pairs."""
    found = [
        energy_distance(CIRCLE.sample(COUNT, seeded(seed)), CIRCLE.sample(COUNT, seeded(seed + 50)))
        for seed in range(20)
    ]
    return float(np.quantile(found, 0.95))


@on_paths
def test_the_walk_samples_the_mixture(path: Path) -> None:
    x = path.prior.sample(COUNT, 2, generator=seeded(1))
    found = solve_stochastic(marginal(CIRCLE, path), x, path, 200, generator=seeded(2)).x
    assert energy_distance(found, CIRCLE.sample(COUNT, seeded(3))) < floor()


@on_paths
def test_the_random_drift_samples_the_mixture(path: Path) -> None:
    x = path.prior.sample(COUNT, 2, generator=seeded(4))
    found = follow_random_drift(posterior(CIRCLE, path), x, path, 200, generator=seeded(5)).x
    assert energy_distance(found, CIRCLE.sample(COUNT, seeded(6))) < floor()


@on_paths
def test_no_noise_is_eulers_method(path: Path) -> None:
    x = path.prior.sample(50, 2, generator=seeded(1))
    found = solve_stochastic(
        marginal(CIRCLE, path), x, path, 20, noise_level=constant(0.0), keep_states=True
    )
    euler = solve(marginal(CIRCLE, path), x, 20, "euler", path=path, keep_states=True)
    assert found.states is not None
    assert torch.equal(found.states, euler.states)
    assert torch.equal(found.times, euler.times)
    assert found.nfe == euler.nfe == 20


@on_small_paths
@pytest.mark.parametrize("level", [0.0, 0.5, 2.0, None])
def test_more_noise_keeps_the_marginals(path: Path, level: float | None) -> None:
    """All the way to t = 0.9, up to the O(dt) of the method; None is sigma_t."""
    found = solve_stochastic(
        marginal(GAUSSIAN, path), start(path, 10_000), path, GRID,
        noise_level=None if level is None else constant(level), generator=seeded(1),
        keep_states=True,
    )  # fmt: skip
    assert_marginals(found, path, 0.02)


def test_more_noise_forgets_more_of_the_start() -> None:
    path = PATHS[0]
    x = start(path, 5_000)
    kept = []
    for level in (0.0, 0.5, 1.0, 2.0):
        found = solve_stochastic(
            marginal(GAUSSIAN, path), x, path, GRID, noise_level=constant(level),
            generator=seeded(1),
        )  # fmt: skip
        kept.append(float(torch.corrcoef(torch.cat([x, found.x], 1).T)[0, 1]))
    assert kept[0] == pytest.approx(1.0, abs=1e-9)
    assert kept[0] > kept[1] + 0.05 > kept[2] + 0.1 > kept[3] + 0.15


@on_small_paths
def test_one_step_adds_noise_and_half_its_square_of_the_score(path: Path) -> None:
    """x + h (v + g^2 / 2 score), give or take g sqrt(h), with the score in closed form."""
    count, s, h, g = 40_000, 0.3, 0.01, 1.7
    grid = torch.tensor([s, s + h], dtype=torch.float64)
    place = torch.tensor([[-0.8]], dtype=torch.float64)
    found = solve_stochastic(
        marginal(GAUSSIAN, path), place.repeat(count, 1), path, grid, noise_level=constant(g),
        generator=seeded(3),
    ).x  # fmt: skip
    v = GAUSSIAN.marginal_velocity(place, grid[0], path)
    score = GAUSSIAN.marginal_score(place, grid[0], path)
    deviation = g * math.sqrt(h)
    assert float(found.std()) == pytest.approx(deviation, rel=4 / math.sqrt(2 * count))
    mean = float(place + h * (v + 0.5 * g * g * score))
    assert float(found.mean()) == pytest.approx(mean, abs=4 * deviation / math.sqrt(count))


@on_small_paths
def test_the_random_drift_keeps_the_marginals(path: Path) -> None:
    found = follow_random_drift(
        posterior(GAUSSIAN, path), start(path, 10_000), path, GRID, generator=seeded(1),
        keep_states=True,
    )  # fmt: skip
    assert_marginals(found, path, 0.02)
    assert found.nfe == found.passes == len(GRID) - 1


@on_small_paths
def test_the_mean_of_the_random_drift_is_the_marginal_velocity(path: Path) -> None:
    """At three places of a mixture with two modes, within 4 standard errors."""
    data = GaussianMixture(
        torch.tensor([[-1.0, 0.5], [1.2, 0.0]], dtype=torch.float64), 0.5,
        torch.tensor([0.3, 0.7], dtype=torch.float64),
    )  # fmt: skip
    count, grid = 20_000, torch.tensor([0.4, 0.5], dtype=torch.float64)
    places = torch.tensor([[0.1, 0.2], [-0.5, 0.4], [0.6, -1.0]], dtype=torch.float64)
    x = places.repeat_interleave(count, 0)
    found = follow_random_drift(posterior(data, path), x, path, grid, generator=seeded(2)).x
    drift = ((found - x) / (grid[1] - grid[0])).reshape(3, count, 2)
    wanted = data.marginal_velocity(places, grid[0], path)
    error = drift.std(1) / math.sqrt(count)
    assert bool((error > 1e-3).all())  # random it is
    assert bool(((drift.mean(1) - wanted).abs() < 4 * error).all())


@on_small_paths
def test_the_random_drifts_variance_about_the_flow_falls_as_the_step(path: Path) -> None:
    """From the same starts, by the same steps (Euler's own error is O(dt^2)): slope 1 in dt."""
    x = start(path, 2_000)
    steps, variance = [25, 50, 100, 200], []
    for n in steps:
        grid = torch.linspace(0, 0.9, n + 1, dtype=torch.float64)
        flow = solve(marginal(GAUSSIAN, path), x, grid, "euler").x
        found = follow_random_drift(posterior(GAUSSIAN, path), x, path, grid, generator=seeded(n))
        variance.append(float((found.x - flow).square().mean()))
    assert np.polyfit(np.log(steps), np.log(variance), 1)[0] == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize("walk", ["walk", "drift"])
def test_a_seed_gives_a_walk_and_another_seed_another(walk: str) -> None:
    path, x = PATHS[0], start(PATHS[0], 20).float()
    data = GAUSSIAN.to(x)

    def run(seed: int, keep_states: bool = False) -> Solution:
        more = {"generator": seeded(seed), "keep_states": keep_states}
        if walk == "walk":
            return solve_stochastic(marginal(data, path), x, path, 10, **more)
        return follow_random_drift(posterior(data, path), x, path, 10, **more)

    before = torch.get_rng_state()
    found, kept = run(1), run(1, True)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found.x, kept.x)
    assert not bool((found.x == run(2).x).any())
    assert found.x.dtype == found.times.dtype == torch.float32
    assert found.states is None
    assert kept.states is not None
    assert kept.states.shape == (11, 20, 1)
    assert torch.equal(kept.states[0], x)
    assert torch.equal(kept.states[-1], kept.x)


LINE = OptimalTransport(0.0)
SAMPLERS: dict[str, Callable[[Field, Tensor, int | Tensor], Solution]] = {
    "walk": lambda v, x, steps: solve_stochastic(v, x, LINE, steps),
    "drift": lambda v, x, steps: follow_random_drift(
        lambda t, x, _: (torch.zeros_like(v(t, x)), v(t, x)), x, LINE, steps
    ),
    **{
        method: lambda v, x, steps, method=method: solve(v, x, steps, method, path=LINE)
        for method in SOLVERS
    },
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


@every_sampler
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_velocity_that_is_not_finite_is_named_with_its_time(sampler: str, bad: float) -> None:
    def field(t: Tensor, x: Tensor) -> Tensor:
        v = torch.zeros_like(x)
        if float(t) >= 0.5:
            v[0, 0] = bad
        return v

    time = r"t = 0\.[5-9]|t = 1\.0000" if sampler == "dopri5" else r"not finite at t = 0\.5000"
    with pytest.raises(FloatingPointError, match=time):
        SAMPLERS[sampler](field, torch.ones(2, 2), 8)


@every_sampler
def test_a_velocity_of_another_shape_is_refused(sampler: str) -> None:
    with pytest.raises(ValueError, match=r"velocity has the shape \(1, 2\), x \(2, 2\)"):
        SAMPLERS[sampler](lambda t, x: x[:1], torch.ones(2, 2), 4)


@every_sampler
@pytest.mark.parametrize("steps", [1, 4])
def test_whole_numbers_are_not_a_state(sampler: str, steps: int) -> None:
    with pytest.raises(ValueError, match=r"floating type, found torch\.int64"):
        SAMPLERS[sampler](lambda t, x: x, torch.ones(2, 2, dtype=torch.int64), steps)


@every_sampler
def test_no_steps_and_bad_grids_are_refused(sampler: str) -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        SAMPLERS[sampler](lambda t, x: x, torch.ones(2, 2), 0)
    with pytest.raises(ValueError, match="must increase strictly"):
        SAMPLERS[sampler](lambda t, x: x, torch.ones(2, 2), torch.tensor([0.0, 0.5, 0.5]))
