"""Distances between samples against closed forms, scipy, and one another."""

import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from torch import Tensor

from voiceflow.measures import distributions
from voiceflow.measures.distributions import energy_distance, sliced_wasserstein

DISTANCES = [energy_distance, sliced_wasserstein]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


# Energy distance


@pytest.mark.parametrize("counts", [(300, 300), (50, 400), (1, 7)])
def test_energy_distance_in_one_dimension_is_scipys(counts: tuple[int, int]) -> None:
    x, y = normal(counts[0], 1), 1.5 * normal(counts[1], 1, seed=1) + 0.3
    wanted = scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    assert energy_distance(x, y) == pytest.approx(wanted, rel=1e-4)


def test_energy_distance_of_two_points_is_twice_theirs() -> None:
    x, y = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[4.0, 6.0, 0.0]])
    assert energy_distance(x, y) == pytest.approx(10.0)
    assert energy_distance(x.expand(5, 3), y.expand(8, 3)) == pytest.approx(10.0)


def test_energy_distance_by_all_pairs() -> None:
    """The pairs of a sample with itself are among them: a V-statistic."""
    x, y = normal(9, 4), normal(5, 4, seed=1) + 0.5

    def mean(a: Tensor, b: Tensor) -> float:
        return sum(math.dist(p, q) for p in a.tolist() for q in b.tolist()) / (len(a) * len(b))

    wanted = 2 * mean(x, y) - mean(x, x) - mean(y, y)
    assert energy_distance(x, y) == pytest.approx(wanted, rel=1e-5)


def test_energy_distance_of_normals_is_the_known_one() -> None:
    """For N(m, 1) and N(0, 1), E|X - Y| is that of a folded N(m, 2)."""
    count, m = 4_000, 1.0
    quantiles = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
    folded = 2 / math.sqrt(math.pi) * math.exp(-m * m / 4) + m * math.erf(m / 2)
    wanted = 2 * folded - 4 / math.sqrt(math.pi)
    found = energy_distance(quantiles[:, None] + m, quantiles[:, None])
    assert found == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_chunks_do_not_matter(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(65, 3), normal(40, 3, seed=1) + 0.2
    whole = energy_distance(x, y)
    monkeypatch.setattr(distributions, "_AT_ONCE", rows)
    assert energy_distance(x, y) == pytest.approx(whole, rel=1e-6)


def test_energy_distance_far_from_the_origin_keeps_its_digits() -> None:
    """|x|^2 - 2 xy + |y|^2 would lose them all."""
    x, y = normal(200, 2).double(), normal(200, 2, seed=1).double()
    near = energy_distance(x, y + 0.5)
    assert energy_distance(x.float() + 4096, y.float() + 4096.5) == pytest.approx(near, rel=2e-3)


# Sliced Wasserstein


def test_sliced_wasserstein_in_one_dimension_is_that_of_the_sorted() -> None:
    x, y = normal(300, 1), 2 * normal(300, 1, seed=1) - 1
    wanted = (x[:, 0].sort().values - y[:, 0].sort().values).square().mean().sqrt()
    assert sliced_wasserstein(x, y, 5) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("dimensions", [2, 16])
def test_sliced_wasserstein_of_a_translation(dimensions: int) -> None:
    """Of (d . u)^2 over unit u the mean is |d|^2 / D."""
    x, step = normal(100, dimensions), normal(dimensions, seed=1)
    found = sliced_wasserstein(x, x + step, 20_000, seeded())
    assert found == pytest.approx(float(step.norm()) / math.sqrt(dimensions), rel=0.03)


def test_sliced_wasserstein_of_a_scaling_about_the_origin() -> None:
    """Every projection is stretched by s: (s - 1)^2 E|x|^2 / D."""
    x = normal(500, 3)
    found = sliced_wasserstein(3 * x, x, 20_000, seeded())
    wanted = 2 * float(x.square().sum(1).mean().sqrt()) / math.sqrt(3)
    assert found == pytest.approx(wanted, rel=0.03)


def test_directions_come_from_the_generator() -> None:
    x, y = normal(50, 4), normal(50, 4, seed=1) + 1
    first = sliced_wasserstein(x, y, 10, seeded(2))
    assert sliced_wasserstein(x, y, 10, seeded(2)) == first
    assert sliced_wasserstein(x, y, 10, seeded(3)) != first
    torch.manual_seed(0)
    state = torch.get_rng_state()
    sliced_wasserstein(x, y, 10, seeded(2))
    assert torch.equal(torch.get_rng_state(), state)


# Both


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_sample_is_at_no_distance_from_itself_in_any_order(
    distance: Callable[[Tensor, Tensor], float],
) -> None:
    x = normal(300, 5)
    shuffled = x[torch.randperm(300, generator=seeded(1))]
    assert distance(x, x) == pytest.approx(0.0, abs=1e-6)
    assert distance(x, shuffled) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("kind", ["energy", "sliced"])
def test_distances_are_symmetric_positive_and_grow(kind: str) -> None:
    def distance(x: Tensor, y: Tensor) -> float:
        return energy_distance(x, y) if kind == "energy" else sliced_wasserstein(x, y, 50, seeded())

    x, y = normal(200, 5), normal(200, 5, seed=1)
    by_step = [distance(x, y + step) for step in (0.0, 0.5, 1.0, 2.0)]
    assert by_step[0] > 0
    assert by_step == sorted(by_step)
    assert distance(y, x) == pytest.approx(by_step[0], rel=1e-4)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("shapes", [((5, 3), (5, 2)), ((5,), (5,)), ((0, 3), (0, 3))])
def test_shapes_that_do_not_fit_are_named(
    distance: Callable[[Tensor, Tensor], float], shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    with pytest.raises(ValueError, match=r"expected samples \(N, D\) and \(M, D\), found"):
        distance(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_sliced_wasserstein_needs_as_many_of_each() -> None:
    with pytest.raises(ValueError, match="as many samples of each, found 5 and 4"):
        sliced_wasserstein(torch.zeros(5, 3), torch.zeros(4, 3))


@pytest.mark.parametrize("projections", [0, -1])
def test_sliced_wasserstein_without_directions_is_refused(projections: int) -> None:
    with pytest.raises(ValueError, match=f"{projections}"):
        sliced_wasserstein(torch.zeros(5, 3), torch.zeros(5, 3), projections)
