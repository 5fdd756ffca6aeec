"""Couplings: which noise goes with which data; the optimum, and a flow's own couples."""

from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from voiceflow.flow.couplings import (
    COUPLINGS,
    Coupling,
    independent,
    minibatch_optimal_transport,
    reflow,
)
from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.path import Field, Path
from voiceflow.flow.paths import OptimalTransport, VarianceExploding, VariancePreserving
from voiceflow.flow.solvers import solve

DATA = GaussianMixture(
    torch.tensor([[1.5, 0.5], [-1.0, 1.2], [0.3, -1.8]], dtype=torch.float64),
    torch.tensor([0.8, 1.0, 1.2], dtype=torch.float64),
)
PATHS = [OptimalTransport(), VariancePreserving(), VarianceExploding(0.05, 20.0)]

seeds = st.integers(0, 10_000)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )  # fmt: skip


def cost(x0: Tensor, x1: Tensor) -> float:
    """Sum of squared distances of the pairs."""
    return float((x0 - x1).square().sum())


def marginal(path: Path) -> Field:
    return lambda t, x: DATA.marginal_velocity(x, t, path)


@pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS)
def test_a_coupling_keeps_the_data_in_order_and_the_noise_as_a_set(coupling: Coupling) -> None:
    """So that conditions stay with their data, and the marginals are what they were."""
    x0, x1 = drawn(40, 3, 2, seed=1), drawn(40, 3, 2, seed=2)
    paired, data = coupling(x0, x1)
    assert torch.equal(data, x1)
    order = paired[:, 0, 0].argsort()
    assert torch.equal(paired[order], x0[x0[:, 0, 0].argsort()])
    assert paired.dtype == torch.float64


def test_independent_pairs_are_as_they_were_drawn() -> None:
    x0, x1 = drawn(5, 3, seed=1), drawn(5, 3, seed=2)
    paired, data = independent(x0, x1)
    assert torch.equal(paired, x0)
    assert torch.equal(data, x1)


@given(seeds, st.sampled_from([(6, 1), (6, 2), (6, 4, 3), (1, 2), (2, 2)]))
def test_the_optimum_is_that_of_all_permutations(seed: int, shape: tuple[int, ...]) -> None:
    x0, x1 = drawn(*shape, seed=seed), drawn(*shape, seed=seed + 20_000)
    least = min(cost(x0[list(order)], x1) for order in permutations(range(len(x0))))
    assert cost(*minibatch_optimal_transport(x0, x1)) == pytest.approx(least, rel=1e-6)


@given(seeds)
def test_on_a_line_the_optimum_is_sorted(seed: int) -> None:
    """The closed form in 1-D: the k-th of the noise goes with the k-th of the data."""
    generator = torch.Generator().manual_seed(seed)
    ordered = torch.arange(30, dtype=torch.float64)[:, None] + 0.4 * drawn(30, 1, seed=seed).tanh()
    x1 = (0.2 * ordered**2)[torch.randperm(30, generator=generator)]
    paired, _ = minibatch_optimal_transport(
        ordered[torch.randperm(30, generator=generator)], x1
    )  # fmt: skip
    assert torch.equal(paired[x1.squeeze(1).argsort()], ordered)


def test_the_cost_is_lower_than_as_drawn_and_no_swap_lowers_it() -> None:
    x0, x1 = drawn(64, 5, seed=1), drawn(64, 5, seed=2) + 1
    paired, _ = minibatch_optimal_transport(x0, x1)
    assert cost(paired, x1) < 0.8 * cost(x0, x1)
    between = torch.cdist(paired, x1).square()
    own = between.diagonal()
    saved = own[:, None] + own[None] - between - between.T
    assert float(saved.max()) < 1e-5


def test_pairing_again_changes_nothing_nor_does_the_noises_order() -> None:
    x0, x1 = drawn(32, 4, seed=1), drawn(32, 4, seed=2)
    paired, _ = minibatch_optimal_transport(x0, x1)
    assert torch.equal(minibatch_optimal_transport(paired, x1)[0], paired)
    assert torch.equal(minibatch_optimal_transport(x0.flip(0), x1)[0], paired)


def test_noise_near_its_data_finds_it() -> None:
    x1 = 10 * drawn(50, 6, seed=1)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    x0 = x1 + 0.01 * drawn(50, 6, seed=3)
    assert torch.equal(minibatch_optimal_transport(x0[order], x1)[0], x0)


@pytest.mark.parametrize("offset", [-3.0, 1000.0])
def test_the_optimum_does_not_depend_on_where_the_data_lie(offset: float) -> None:
    """|x0 - x1 - c|^2 has the same optimum for every c."""
    x0, x1 = drawn(64, 800, seed=1), drawn(64, 800, seed=2)
    paired, _ = minibatch_optimal_transport(x0, x1 + offset)
    assert torch.equal(paired, minibatch_optimal_transport(x0, x1)[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("in_noise", [True, False])
def test_what_is_not_finite_cannot_be_paired(bad: float, in_noise: bool) -> None:
    x0, x1 = drawn(6, 2, seed=1), drawn(6, 2, seed=2)
    (x0 if in_noise else x1)[3, 1] = bad
    with pytest.raises(ValueError, match="must be finite to be paired, found NaN or infinity"):
        minibatch_optimal_transport(x0, x1)


@pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS)
@pytest.mark.parametrize("shape", [(5, 3), (6, 2)], ids=str)
def test_two_shapes_are_refused(coupling: Coupling, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have one shape, found \(.*\) and \(6, 3\)"):
        coupling(drawn(*shape), drawn(6, 3))


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("method", ["midpoint", "rk4"])
def test_a_flows_couples_are_where_its_solution_leads_from_the_prior(
    path: Path, method: str
) -> None:
    """The noise is given as standard normal; the state starts from prior.std times it."""
    noise = drawn(10, 2)
    x0, x1 = reflow(marginal(path), path, noise, 20, method)
    wanted = solve(marginal(path), path.prior.std * noise, 20, method, path=path).x
    assert torch.equal(x0, noise)
    torch.testing.assert_close(x1, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_a_flows_couples_have_the_marginals(path: Path) -> None:
    """Standard normal noise, and the mixture's mean and covariance, to four standard errors."""
    count = 4000
    x0, x1 = reflow(marginal(path), path, drawn(count, 2, seed=1), 60)
    error = 4 / count**0.5
    assert x0.std(0).tolist() == pytest.approx([1.0, 1.0], abs=error)
    spread = DATA.covariance.diagonal().sqrt()
    assert bool(((x1.mean(0) - DATA.mean).abs() < error * spread).all())
    scale = torch.outer(spread, spread)
    assert bool(((torch.cov(x1.T) - DATA.covariance).abs() < 1.5 * error * scale).all())


def test_a_flows_couples_cross_less_than_independent_ones() -> None:
    """Rectified pairs cost no more than those they came from (Liu et al. 2023, theorem 3.5)."""
    path = PATHS[0]
    x0, x1 = reflow(marginal(path), path, drawn(2000, 2, seed=1), 60)
    other = DATA.sample(2000, torch.Generator().manual_seed(3))
    assert cost(x0, x1) < 0.8 * cost(x0, other)


def test_the_size_of_a_batch_does_not_matter() -> None:
    path, noise = PATHS[0], drawn(10, 2)
    seen: list[int] = []

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        seen.append(len(x))
        return DATA.marginal_velocity(x, t, path)

    whole = reflow(velocity, path, noise, 8)[1]
    assert set(seen) == {10}
    seen.clear()
    parts = reflow(velocity, path, noise, 8, batch=4)[1]
    assert set(seen) == {4, 2}
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=1e-13)


def test_a_flows_couples_carry_no_gradient() -> None:
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = reflow(lambda t, x: scale * x, PATHS[0], drawn(3, 2), 4)
    assert not any(each.requires_grad for each in found)


def test_a_grid_and_its_errors_reach_the_solver() -> None:
    grid = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    _, x1 = reflow(lambda t, x: -x, PATHS[0], drawn(3, 2), grid, "euler")
    torch.testing.assert_close(x1, 0.7 * 0.3 * drawn(3, 2))
    with pytest.raises(ValueError, match="'rk9' is not known"):
        reflow(lambda t, x: -x, PATHS[0], drawn(3, 2), 4, "rk9")
    with pytest.raises(ValueError, match="at least 1, found 0"):
        reflow(lambda t, x: -x, PATHS[0], drawn(3, 2), 0)
