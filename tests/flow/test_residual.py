"""The chain of Euler steps as an exact density, and the Jacobians it is made of."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.func import jacrev

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.jacobian import (
    PROBES,
    Probe,
    basis,
    divergence,
    draw_probes,
    jacobian,
    value_and_rows,
)
from voiceflow.flow.path import Field, Prior
from voiceflow.flow.paths import OptimalTransport
from voiceflow.flow.residual import NotContractive, ResidualFlow
from voiceflow.flow.solvers import solve

SHAPES = [(4, 3), (4, 2, 3)]
UNEVEN = torch.tensor([0.0, 0.1, 0.35, 0.4, 0.8, 1.0], dtype=torch.float64)

on_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )  # fmt: skip


class Mixing:
    """tanh of a matrix times all of an item's elements: smooth, not symmetric, bent in time."""

    def __init__(self, size: int, strength: float = 0.8) -> None:
        matrix = drawn(size, size, seed=7)
        self.matrix = strength * matrix / torch.linalg.matrix_norm(matrix, ord=2)

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        mixed = torch.tanh(x.flatten(1) @ self.matrix.T + t)
        return mixed.reshape(x.shape) + torch.cos(t)


def chain(velocity: Field, grid: Tensor) -> Callable[[Tensor], Tensor]:
    """The chain written out, of one item (...)."""

    def walk(x: Tensor) -> Tensor:
        for s, t in pairwise(grid):
            x = x + (t - s) * velocity(s, x[None])[0]
        return x

    return walk


def log_volume(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det| of a function of one item at each of x (B, ...), by torch.func."""
    size = x[0].numel()
    found = [torch.linalg.slogdet(jacrev(function)(item).reshape(size, size))[1] for item in x]
    return torch.stack(found)


@on_shapes
@pytest.mark.parametrize("steps", [1, 6, UNEVEN], ids=["one", "even", "uneven"])
def test_the_chain_is_eulers_method(shape: tuple[int, ...], steps: int | Tensor) -> None:
    x, velocity = drawn(*shape), Mixing(math.prod(shape[1:]))
    found = ResidualFlow(velocity, steps).forward(x)
    euler = solve(velocity, x, steps, "euler")
    torch.testing.assert_close(found.x, euler.x, rtol=1e-14, atol=1e-14)
    assert found.nfe == euler.nfe
    assert found.log_det.shape == (4,)


@on_shapes
def test_the_inverse_undoes_the_chain_both_ways(shape: tuple[int, ...]) -> None:
    x = drawn(*shape)
    flow = ResidualFlow(Mixing(math.prod(shape[1:])), UNEVEN, tolerance=1e-12)
    there, back = flow.forward(x), flow.inverse(x)
    torch.testing.assert_close(flow.inverse(there.x).x, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(flow.forward(back.x).x, x, rtol=0, atol=1e-10)
    assert float((there.x - x).abs().max()) > 0.5
    assert back.nfe > 2 * there.nfe


def test_the_inverse_keeps_its_tolerance_in_single_precision() -> None:
    x = drawn(50, 3).float()
    velocity = Mixing(3)
    velocity.matrix = velocity.matrix.float()
    flow = ResidualFlow(velocity, 8)
    there = flow.forward(x)
    back = flow.inverse(there.x)
    assert there.x.dtype == there.log_det.dtype == back.x.dtype == torch.float32
    torch.testing.assert_close(back.x, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(back.log_det, there.log_det, rtol=0, atol=1e-4)


@on_shapes
def test_the_change_of_volume_is_that_of_the_whole_chain(shape: tuple[int, ...]) -> None:
    """Its Jacobian taken in one piece; and the inverse gives it in the same direction."""
    x, velocity = drawn(*shape), Mixing(math.prod(shape[1:]))
    flow = ResidualFlow(velocity, UNEVEN, tolerance=1e-13)
    there = flow.forward(x)
    wanted = log_volume(chain(velocity, UNEVEN), x)
    torch.testing.assert_close(there.log_det, wanted, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(flow.inverse(there.x).log_det, wanted, rtol=1e-8, atol=1e-8)
    assert float(wanted.abs().min()) > 0.01


@on_shapes
@pytest.mark.parametrize("rate", [-0.9, 0.9])
def test_a_linear_field_has_a_closed_form(shape: tuple[int, ...], rate: float) -> None:
    """(1 + delta a)^D a step."""
    x, size = drawn(*shape), math.prod(shape[1:])
    found = ResidualFlow(lambda t, x: rate * x, UNEVEN).forward(x)
    factor = math.prod(1 + float(h) * rate for h in UNEVEN.diff())
    torch.testing.assert_close(found.x, factor * x)
    wanted = torch.full((4,), size * math.log(abs(factor)), dtype=torch.float64)
    torch.testing.assert_close(found.log_det, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [2, 5])
def test_the_density_of_a_chain_integrates_to_one_on_a_line(steps: int) -> None:
    """Steps so large that no flow with the same velocity has this density."""
    flow = ResidualFlow(lambda t, x: 1.5 * torch.sin(x + 2 * t), steps, tolerance=1e-12)
    grid = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    density = flow.log_prob(grid[:, None], Prior().log_prob).exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1.0, abs=1e-8)
    mean = float(torch.trapezoid(density * grid, grid))
    drawn_mean = float(flow.forward(drawn(20_000, 1)).x.mean())
    assert mean == pytest.approx(drawn_mean, abs=0.05)


def test_the_density_of_a_chain_integrates_to_one_on_a_plane() -> None:
    flow = ResidualFlow(Mixing(2), 3, tolerance=1e-10)
    axis = torch.linspace(-7, 9, 161, dtype=torch.float64)
    places = torch.cartesian_prod(axis, axis)
    density = flow.log_prob(places, Prior().log_prob).exp()
    assert float(density.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1.0, abs=1e-6)


def test_many_steps_approach_the_data_with_the_step() -> None:
    """Of first order, as Euler's method is, towards the mixture's own density."""
    path = OptimalTransport(0.0)
    means = torch.tensor([[0.8, 0.3], [-0.6, -0.5]], dtype=torch.float64)
    data = GaussianMixture(means, 0.8)
    y = data.sample(30, torch.Generator().manual_seed(1))
    errors = []
    for steps in (20, 40, 80):
        flow = ResidualFlow(lambda t, x: data.marginal_velocity(x, t, path), steps)
        errors.append(flow.log_prob(y, path.prior.log_prob) - data.log_prob(y))
    size = [float(error.abs().max()) for error in errors]
    assert [a / b for a, b in pairwise(size)] == pytest.approx([2.0, 2.0], abs=0.25)
    assert float((2 * errors[2] - errors[1]).abs().max()) < 0.02  # less its first order


class Steep:
    """A slope of `rate` after t = 0.5, and none before."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        return x * (self.rate if float(t) >= 0.5 else 0.0)


@pytest.mark.parametrize("rate", [4.0, -4.0, 11.0])
def test_a_step_that_is_no_contraction_is_refused(rate: float) -> None:
    """With the step's times and its factor: delta is 1/4, so 4 is just too much."""
    with pytest.raises(
        NotContractive, match=rf"0\.5000 to 0\.7500 .* constant is {abs(rate) / 4:g} "
    ):
        ResidualFlow(Steep(rate), 4).forward(drawn(2, 3))
    assert torch.isfinite(ResidualFlow(Steep(0.97 * 4.0), 4).forward(drawn(2, 3)).log_det).all()


def test_the_item_that_is_steep_is_named() -> None:
    x = torch.tensor([[0.1], [2.0], [0.2]], dtype=torch.float64)
    with pytest.raises(NotContractive, match="Lipschitz constant is 2 or more at item 1"):
        ResidualFlow(lambda t, x: x * x / 2, 1).forward(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [4.0, -4.4, 8.0, -400.0])
def test_a_step_that_cannot_be_inverted_is_refused(rate: float, dtype: torch.dtype) -> None:
    """By the iteration itself, which moves ever more; the last step is the first to be inverted."""
    with pytest.raises(NotContractive, match=r"from t = 0\.7500 to 1\.0000 .* not a contraction"):
        ResidualFlow(Steep(rate), 4).inverse(drawn(2, 3).to(dtype))


def test_an_inverse_found_where_the_chain_is_steep_is_refused() -> None:
    """The iteration settles where it starts; the Jacobian there says that it need not be alone."""
    with pytest.raises(NotContractive, match="Lipschitz constant is 3 or more at item 0"):
        ResidualFlow(lambda t, x: torch.sin(3 * x), 1).inverse(torch.zeros(1, 1).double())


def test_gradients_reach_neither_the_chain_nor_its_inverse() -> None:
    x = drawn(4, 3).requires_grad_()
    flow = ResidualFlow(Mixing(3), 3)
    assert not flow.forward(x).x.requires_grad
    assert not flow.inverse(x).log_det.requires_grad


def test_bad_steps_and_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        ResidualFlow(Mixing(3), 0).forward(drawn(4, 3))
    with pytest.raises(ValueError, match="must increase strictly"):
        ResidualFlow(Mixing(3), UNEVEN.flip(0)).inverse(drawn(4, 3))
    with pytest.raises(FloatingPointError, match=r"not finite at t = 0\.5000"):
        ResidualFlow(lambda t, x: x * torch.where(t < 0.5, 0.1, torch.nan), 2).forward(drawn(4, 3))


@on_shapes
def test_the_jacobian_is_torch_funcs(shape: tuple[int, ...]) -> None:
    x, size = drawn(*shape), math.prod(shape[1:])
    field, t = Mixing(size), torch.tensor(0.3, dtype=torch.float64)
    v, found = jacobian(lambda x: field(t, x), x)
    torch.testing.assert_close(v, field(t, x), rtol=0, atol=0)
    wanted = torch.stack([jacrev(lambda item: field(t, item[None])[0])(item) for item in x])
    torch.testing.assert_close(found, wanted.reshape(4, size, size), rtol=1e-13, atol=1e-13)
    assert not v.requires_grad
    assert not found.requires_grad


@on_shapes
def test_the_divergence_is_the_jacobians_trace(shape: tuple[int, ...]) -> None:
    x, size = drawn(*shape), math.prod(shape[1:])
    field, t = Mixing(size), torch.tensor(0.3, dtype=torch.float64)
    v, parts = divergence(lambda x: field(t, x), x, basis(x))
    bent = 1 - torch.tanh(x.flatten(1) @ field.matrix.T + t).square()
    torch.testing.assert_close(parts.sum(0), (bent * field.matrix.diagonal()).sum(1))
    torch.testing.assert_close(v, field(t, x), rtol=0, atol=0)
    assert parts.shape == (size, 4)


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3), (4,)], ids=str)
def test_with_a_mask_it_is_the_divergence_of_what_is_masked(shape: tuple[int, ...]) -> None:
    """Each item its own, though the directions are those that any of them has."""
    x, mask = drawn(4, 3, 2), drawn(*shape, seed=3) > 0
    field, t = Mixing(6), torch.tensor(0.3, dtype=torch.float64)
    directions = basis(x, mask)
    found = divergence(lambda x: field(t, x), x, directions, mask)[1].sum(0)
    chosen = mask.reshape(mask.shape + (1,) * (3 - mask.dim())).expand(x.shape).flatten(1)
    diagonal = jacobian(lambda x: field(t, x), x)[1].diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(found, (diagonal * chosen).sum(1))
    assert len(directions) == int(chosen.any(0).sum())


def test_with_nothing_masked_the_divergence_is_none() -> None:
    x, mask = drawn(4, 3), torch.zeros(4, dtype=torch.bool)
    v, found = divergence(lambda x: -x, x, basis(x, mask), mask)
    assert torch.equal(v, -x)
    assert torch.equal(found.sum(0), torch.zeros(4, dtype=torch.float64))


def test_more_elements_than_go_at_once() -> None:
    """150 rows, in parts of 64: a permutation of the elements, so every row is another."""
    x = drawn(2, 30, 5)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    scale = torch.arange(1, 151, dtype=torch.float64)
    found = jacobian(lambda x: (x.flatten(1)[:, order] * scale).reshape(x.shape), x)[1]
    wanted = torch.zeros(150, 150, dtype=torch.float64)
    wanted[torch.arange(150), order] = scale
    torch.testing.assert_close(found, wanted.expand(2, 150, 150), rtol=0, atol=0)


@pytest.mark.parametrize("graph", [False, True])
def test_a_field_that_does_not_depend_on_x(graph: bool) -> None:
    """Constant, or of parameters alone, whose graph is no path to x."""
    x, bias = drawn(4, 3), torch.ones(3, dtype=torch.float64, requires_grad=graph)
    v, found = jacobian(lambda x: bias.expand_as(x), x)
    assert torch.equal(v, torch.ones_like(x))
    assert torch.equal(found, torch.zeros(4, 3, 3, dtype=torch.float64))


def test_the_divergence_can_be_differentiated() -> None:
    """div of a tanh(x) is a sum(1 - tanh^2), in a and in x."""
    a = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    x = drawn(4, 3).requires_grad_()
    _, parts = divergence(lambda x: a * torch.tanh(x), x, basis(x), create_graph=True)
    found = torch.autograd.grad(parts.sum(), (a, x))
    bent = 1 - torch.tanh(x.detach()).square()
    torch.testing.assert_close(found[0], bent.sum())
    torch.testing.assert_close(found[1], -2 * 1.7 * torch.tanh(x.detach()) * bent)


@pytest.mark.parametrize("kind", PROBES)
def test_probes_estimate_the_trace_without_bias(kind: Probe) -> None:
    """Their covariance is the identity; the variance of e^T J e is Hutchinson's for each kind."""
    count = 40_000
    x, matrix = drawn(2, 3), drawn(3, 3, seed=5)
    probes = draw_probes(x, count, kind, torch.Generator().manual_seed(2))
    assert probes.shape == (count, 2, 3)
    assert probes.dtype == torch.float64
    covariance = torch.einsum("pbi,pcj->bicj", probes, probes).reshape(6, 6) / count
    torch.testing.assert_close(covariance, torch.eye(6).double(), rtol=0, atol=0.03)
    assert float(probes.mean(0).abs().max()) < 0.03
    _, estimates = divergence(lambda x: x @ matrix.T, x, probes)
    symmetric = (matrix + matrix.T) / 2
    off = symmetric - torch.diag(symmetric.diagonal()) if kind == "rademacher" else symmetric
    variance = 2 * float(off.square().sum())
    error = 4 * math.sqrt(variance / count)
    assert estimates.mean(0).tolist() == pytest.approx([float(matrix.trace())] * 2, abs=error)
    assert estimates.var(0).tolist() == pytest.approx([variance] * 2, rel=0.1)


def test_rademacher_probes_are_signs_and_gaussian_ones_are_not() -> None:
    x, generator = drawn(2, 3).float(), torch.Generator().manual_seed(0)
    signs = draw_probes(x, 50, "rademacher", generator)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert signs.dtype == torch.float32
    assert len(draw_probes(x, 50, "gaussian", generator).unique()) > 200


@pytest.mark.parametrize("kind", PROBES)
def test_probes_come_from_the_generator(kind: Probe) -> None:
    x, before = drawn(2, 3), torch.get_rng_state()
    once, again, other = (
        draw_probes(x, 50, kind, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_directions_may_be_shared_by_the_items_or_their_own() -> None:
    x, matrix = drawn(4, 3), drawn(3, 3, seed=5)
    shared, own = drawn(2, 1, 3, seed=8), drawn(2, 4, 3, seed=9)
    for directions in (shared, own):
        v, rows = value_and_rows(lambda x: x @ matrix.T, x, directions)
        torch.testing.assert_close(v, x @ matrix.T)
        torch.testing.assert_close(rows, (directions @ matrix).expand(2, 4, 3))


def test_bad_probes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, found 0"):
        draw_probes(drawn(2, 3), 0)
    with pytest.raises(ValueError, match="'uniform' is not known: choose one of rademacher, gauss"):
        draw_probes(drawn(2, 3), 1, "uniform")  # type: ignore[arg-type]
