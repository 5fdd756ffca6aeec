"""Likelihoods against closed forms: mixtures on every path, linear fields, context, gradients."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.jacobian import PROBES, Probe, draw_probes
from voiceflow.flow.likelihood import log_likelihood
from voiceflow.flow.path import Field, Path
from voiceflow.flow.paths import PATHS, OptimalTransport, make_path
from voiceflow.flow.solvers import Context

OT = OptimalTransport(0.0)
TRANSITION = torch.tensor([[0.3, -0.8, 0.2], [0.5, -0.4, 0.1], [-0.6, 0.3, 0.7]])
SHAPES = [(2,), (32,), (8, 4)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture_of(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> GaussianMixture:
    """Three overlapping components, every one with its own deviations."""
    generator = seeded(1)
    spread = 2.0 / math.sqrt(math.prod(shape))
    means = spread * torch.randn(3, *shape, generator=generator, dtype=dtype)
    std = 0.5 + torch.rand(3, *shape, generator=generator, dtype=dtype)
    return GaussianMixture(means, std, torch.tensor([0.5, 0.2, 0.3], dtype=dtype))


def flow_of(mixture: GaussianMixture, path: Path = OT, mask: Tensor | None = None) -> Field:
    return lambda t, x: mixture.marginal_velocity(x, t, path, mask)


def random_mask(shape: tuple[int, ...], seed: int = 2) -> Tensor:
    """About half of the elements, and at least one of every item."""
    mask = torch.rand(shape, generator=seeded(seed)) < 0.5
    mask.flatten(1)[:, 0] = True
    return mask


def counted(field: Field) -> tuple[Field, list[float]]:
    times: list[float] = []

    def counting(t: Tensor, x: Tensor) -> Tensor:
        times.append(float(t))
        return field(t, x)

    return counting, times


def assert_within_standard_errors(found: Tensor, wanted: Tensor, error: Tensor) -> None:
    """z-scores (B,) as they should be: centred, of unit deviation, nearly all within three."""
    z = (found - wanted) / error
    assert abs(float(z.mean())) <= 3 / math.sqrt(len(z))
    assert 0.75 <= float(z.std()) <= 1.35
    assert float((z.abs() <= 3).float().mean()) >= 0.96


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_likelihood_is_the_mixtures_density_in_float32(shape: tuple[int, ...]) -> None:
    mixture = mixture_of(shape)
    x1 = mixture.sample(48, seeded())
    found = log_likelihood(flow_of(mixture), x1, OT, 32)
    torch.testing.assert_close(found.nats, mixture.log_prob(x1), rtol=0, atol=1e-3)
    assert found.nats.dtype == torch.float32
    assert found.standard_error is None
    assert found.elements.tolist() == [math.prod(shape)] * 48


def test_float64_is_exact_to_the_solver() -> None:
    mixture = mixture_of((2,), torch.float64)
    x1 = mixture.sample(16, seeded())
    found = log_likelihood(flow_of(mixture), x1, OT, 128).nats
    torch.testing.assert_close(found, mixture.log_prob(x1), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("shape", SHAPES)
def test_hutchinson_is_within_its_standard_errors(shape: tuple[int, ...], kind: Probe) -> None:
    mixture = mixture_of(shape)
    x1 = mixture.sample(96, seeded())
    found = log_likelihood(flow_of(mixture), x1, OT, 24, probes=64, probe=kind, generator=seeded(3))
    assert found.standard_error is not None
    assert found.standard_error.shape == (96,)
    assert_within_standard_errors(found.nats, mixture.log_prob(x1), found.standard_error)


@pytest.mark.parametrize("kind", PROBES)
def test_the_standard_error_is_the_spread_over_repetitions(kind: Probe) -> None:
    mixture = mixture_of((6,))
    x1 = mixture.sample(1, seeded()).expand(400, 6)
    found = log_likelihood(
        flow_of(mixture), x1, OT, 8, "midpoint", probes=16, probe=kind, generator=seeded()
    )
    assert found.standard_error is not None
    claimed = float(found.standard_error.square().mean().sqrt())
    assert claimed == pytest.approx(float(found.nats.std()), rel=0.12)  # 3 / sqrt(2 x 400)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_every_path_given_its_marginal_as_prior(name: str, shape: tuple[int, ...]) -> None:
    path, mixture = make_path(name), mixture_of(shape)
    x1 = mixture.sample(32, seeded())

    def prior(x: Tensor) -> Tensor:
        return mixture.marginal_log_prob(x, torch.tensor(0.0), path)

    found = log_likelihood(flow_of(mixture, path), x1, path, prior=prior)
    wanted = mixture.marginal_log_prob(x1, torch.tensor(1.0), path)
    torch.testing.assert_close(found.nats, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["variance_preserving", "square_root_variance"])
def test_a_singular_end_is_left_out_of_the_solve(name: str) -> None:
    path, mixture = make_path(name), mixture_of((2,))
    field, times = counted(flow_of(mixture, path))
    found = log_likelihood(field, mixture.sample(4, seeded()), path, 8)
    assert bool(torch.isfinite(found.nats).all())
    assert max(times) == pytest.approx(path.times[1], abs=1e-7) != 1.0
    assert min(times) == 0.0


def test_the_paths_own_prior_has_its_own_deviation() -> None:
    """The variance-exploding prior is wide: N(0, 50^2) in place of the marginal at t = 0."""
    path, mixture = make_path("variance_exploding"), mixture_of((2,))
    x1 = mixture.sample(8, seeded())
    found = log_likelihood(flow_of(mixture, path), x1, path)
    by_hand = torch.distributions.Normal(0.0, 50.0).log_prob(found.x0).sum(1)
    marginal = mixture.marginal_log_prob(found.x0, torch.tensor(0.0), path)
    wanted = mixture.marginal_log_prob(x1, torch.tensor(1.0), path) + by_hand - marginal
    torch.testing.assert_close(found.nats, wanted, rtol=0, atol=1e-3)


# Context


def masked_case(kind: str) -> tuple[GaussianMixture, Tensor, Tensor]:
    """A mixture, items of it, and a mask of all their axes or of the first two."""
    shape = (32,) if kind == "elements of (B, D)" else (8, 4)
    mixture = mixture_of(shape)
    x1 = mixture.sample(48, seeded())
    return mixture, x1, random_mask((48, 8) if kind == "frames" else (48, *shape))


@pytest.mark.parametrize("kind", ["elements of (B, D)", "frames", "elements of (B, T, D)"])
def test_under_a_context_it_is_the_conditional_likelihood(kind: str) -> None:
    mixture, x1, mask = masked_case(kind)
    context = Context(torch.randn(x1.shape, generator=seeded(4)), x1, mask, OT)
    conditional = mixture.given(x1, mask)
    found = log_likelihood(flow_of(conditional, OT, mask), x1, OT, 32, context=context)
    torch.testing.assert_close(found.nats, conditional.log_prob(x1, mask), rtol=0, atol=1e-3)
    joint_less_context = mixture.log_prob(x1) - mixture.log_prob(x1, ~mask)
    torch.testing.assert_close(found.nats, joint_less_context, rtol=0, atol=1e-3)
    assert (mixture.log_prob(x1, mask) - found.nats).abs().max() > 0.1  # the context tells much
    estimate = log_likelihood(
        flow_of(conditional, OT, mask), x1, OT, 24, context=context, probes=64,
        probe="gaussian", generator=seeded(5),
    )  # fmt: skip
    assert estimate.standard_error is not None
    assert_within_standard_errors(estimate.nats, joint_less_context, estimate.standard_error)


def test_elements_and_bits_are_of_the_masked_alone() -> None:
    mixture, x1, mask = masked_case("frames")
    context = Context(torch.zeros_like(x1), x1, mask, OT)
    found = log_likelihood(flow_of(mixture, OT, mask), x1, OT, 4, context=context)
    assert found.elements.tolist() == [4 * int(frames.sum()) for frames in mask]
    assert len(set(found.elements.tolist())) > 2
    wanted = -found.nats / math.log(2) / (4 * mask.sum(1))
    torch.testing.assert_close(found.bits_per_dimension, wanted)


@pytest.mark.parametrize("probes", [0, 1])
def test_context_is_on_its_path_and_the_velocity_there_does_not_count(probes: int) -> None:
    x1 = torch.randn(3, 5, 2, generator=seeded())
    x0 = torch.randn(3, 5, 2, generator=seeded(1))
    mask = random_mask((3, 5))
    seen: list[tuple[float, Tensor]] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.append((float(t), x.detach().clone()))
        return torch.where(mask[..., None], -0.5 * x, 1e3 * x.sum((1, 2), keepdim=True))

    def prior(x: Tensor) -> Tensor:
        assert bool((x[~mask] == 0).all())
        return OT.prior.log_prob(x, mask)

    context = Context(x0, x1, mask, OT)
    found = log_likelihood(field, x1, OT, 8, context=context, prior=prior, probes=probes)
    for t, x in seen:
        known = OT.sample(x0, x1, torch.tensor(t))
        torch.testing.assert_close(x[~mask], known[~mask])
    # dx/dt = -x / 2 over the masked elements: x0 = e^(1/2) x1, and the divergence is -1/2 each.
    wanted = OT.prior.log_prob(math.exp(0.5) * x1, mask) + 0.5 * found.elements
    torch.testing.assert_close(found.nats, wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.x0[mask], math.exp(0.5) * x1[mask])
    assert bool((found.x0[~mask] == 0).all())


def test_a_mask_of_everything_is_no_context() -> None:
    mixture = mixture_of((4,))
    x1 = mixture.sample(5, seeded())
    context = Context(torch.zeros_like(x1), x1, torch.ones(5, 4, dtype=torch.bool), OT)
    whole = log_likelihood(flow_of(mixture), x1, OT, 8)
    found = log_likelihood(flow_of(mixture), x1, OT, 8, context=context)
    torch.testing.assert_close(found.nats, whole.nats)
    assert torch.equal(found.elements, whole.elements)


def test_an_item_is_worth_the_same_in_a_batch_and_alone() -> None:
    mixture, x1, mask = masked_case("frames")
    batch = Context(torch.zeros_like(x1), x1, mask, OT)
    together = log_likelihood(flow_of(mixture, OT, mask), x1, OT, 8, context=batch).nats
    for i in range(3):
        one, part = x1[i : i + 1], mask[i : i + 1]
        alone = Context(torch.zeros_like(one), one, part, OT)
        found = log_likelihood(flow_of(mixture, OT, part), one, OT, 8, context=alone).nats
        torch.testing.assert_close(found, together[i : i + 1], rtol=1e-5, atol=1e-4)


def linear(x: Tensor) -> Tensor:
    return x @ TRANSITION.to(x).T


def linear_density(x1: Tensor) -> Tensor:
    """x_0 = exp(-A) x_1, and the divergence of A x is A's trace."""
    x0 = x1 @ torch.matrix_exp(-TRANSITION.to(x1)).T
    return OT.prior.log_prob(x0) - TRANSITION.trace()


EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4, "adams_bashforth": 1}


@pytest.mark.parametrize("method", [*EVALUATIONS, "dopri5"])
@pytest.mark.parametrize("probes", [0, 3])
def test_a_linear_field_by_each_method(method: str, probes: int) -> None:
    """With the exact divergence; a probe e fixed over the path has e^T A e for it."""
    x1 = torch.randn(7, 3, generator=seeded())
    field, times = counted(lambda t, x: linear(x))
    steps = 400 if method == "euler" else 64
    found = log_likelihood(field, x1, OT, steps, method, probes=probes, generator=seeded(9))
    wanted = linear_density(x1)
    if probes:
        probe = draw_probes(x1, probes, generator=seeded(9))
        estimate = (linear(probe) * probe).sum(2)
        wanted = wanted + TRANSITION.trace() - estimate.mean(0)
        spread = estimate.std(0) / math.sqrt(probes)
        torch.testing.assert_close(found.standard_error, spread, rtol=0, atol=1e-4)
        assert float(spread.max()) > 0.1
    torch.testing.assert_close(found.nats, wanted, rtol=0, atol=2e-2 if steps == 400 else 1e-3)
    assert found.nfe == len(times)  # one trajectory, whatever the probes
    if method == "dopri5":
        assert 12 <= found.nfe <= 200
    else:
        assert found.nfe == EVALUATIONS[method] * steps
    assert times[0] == max(times) == 1.0


def test_tolerance_rules_the_adaptive_solver() -> None:
    mixture = mixture_of((2,))
    x1 = mixture.sample(8, seeded())
    field, times = counted(flow_of(mixture))
    coarse, fine = (
        log_likelihood(field, x1, OT, 1, "dopri5", tolerance=tolerance)
        for tolerance in (1e-2, 1e-6)
    )
    rough, error = (float((f.nats - mixture.log_prob(x1)).abs().max()) for f in (coarse, fine))
    assert error < min(1e-4, rough)
    assert fine.nfe > coarse.nfe
    assert min(times) >= 0.0


@pytest.mark.parametrize("kind", PROBES)
def test_one_probe_is_drawn_by_the_generator_and_has_no_standard_error(kind: Probe) -> None:
    x1 = torch.randn(7, 3, generator=seeded())
    first, again, other = (
        log_likelihood(
            lambda t, x: linear(x), x1, OT, 16, probes=1, probe=kind, generator=seeded(seed)
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.nats, again.nats)
    assert float((first.nats - other.nats).abs().max()) > 0.1
    assert first.standard_error is None
    probe = draw_probes(x1, 1, kind, seeded(1))[0]
    wanted = linear_density(x1) + TRANSITION.trace() - (linear(probe) * probe).sum(1)
    torch.testing.assert_close(first.nats, wanted, rtol=0, atol=1e-4)


def test_a_field_that_does_not_know_its_place_moves_the_prior() -> None:
    x1 = torch.randn(5, 2, 3, generator=seeded())
    found = log_likelihood(lambda t, x: torch.full_like(x, 0.7), x1, OT, 4)
    torch.testing.assert_close(found.nats, OT.prior.log_prob(x1 - 0.7))
    torch.testing.assert_close(found.x0, x1 - 0.7)
    wanted = -found.nats / math.log(2) / 6
    torch.testing.assert_close(found.bits_per_dimension, wanted)


# Gradients


def test_gradients_reach_the_velocitys_parameters() -> None:
    given = mixture_of((2,), torch.float64)
    x1 = given.sample(12, seeded())
    parameters = [part.clone().requires_grad_() for part in (given.means, given.std, given.weights)]
    flow = flow_of(GaussianMixture(*parameters))
    through = log_likelihood(flow, x1, OT, 32, create_graph=True).nats.mean()
    direct = GaussianMixture(*parameters).log_prob(x1).mean()
    for a, b in zip(
        torch.autograd.grad(through, parameters),
        torch.autograd.grad(direct, parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        assert float(b.abs().max()) > 1e-2


@pytest.mark.parametrize("probes", [0, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_a_networks_gradient_is_the_finite_difference(probes: int, masked: bool) -> None:
    generator = seeded()
    x1 = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    slope = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    mask = random_mask((6, 4))
    context = Context(torch.zeros_like(x1), x1, mask, OT) if masked else None

    def loss(matrix: Tensor, create_graph: bool = False) -> Tensor:
        return -log_likelihood(
            lambda t, x: torch.tanh(x @ matrix + t), x1, OT, 6, "midpoint", probes=probes,
            context=context, create_graph=create_graph, generator=seeded(3),
        ).nats.mean()  # fmt: skip

    parameter = weight.clone().requires_grad_()
    found = torch.autograd.grad(loss(parameter, create_graph=True), parameter)[0]
    change = (loss(weight + 1e-5 * slope) - loss(weight - 1e-5 * slope)) / 2e-5
    torch.testing.assert_close((found * slope).sum(), change, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("probes", [0, 1])
def test_maximum_likelihood_finds_the_scale_of_a_gaussian(probes: int) -> None:
    """dx/dt = a x ends at N(0, e^2a); d/da of the mean of -log p is D - e^-2a E|x|^2."""
    x1 = 1.7 * torch.randn(200, 2, generator=seeded())
    square = x1.square().sum(1).mean()
    scale = torch.zeros((), requires_grad=True)
    losses: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        return scale * x

    for _ in range(40):
        loss = -log_likelihood(
            field, x1, OT, 8, "midpoint", probes=probes, create_graph=True, generator=seeded()
        ).nats.mean()
        (gradient,) = torch.autograd.grad(loss, scale)
        closed_form = 2 - torch.exp(-2 * scale.detach()) * square
        torch.testing.assert_close(gradient, closed_form, rtol=2e-2, atol=1e-2)
        losses.append(float(loss.detach()))
        with torch.no_grad():
            scale -= 0.15 * gradient
    assert losses[0] - losses[-1] > 0.3
    assert losses[:5] == sorted(losses[:5], reverse=True)
    assert float(scale.detach()) == pytest.approx(0.5 * math.log(float(square) / 2), abs=2e-3)


def test_without_create_graph_no_graph_is_kept() -> None:
    scale = torch.full((), 0.3, requires_grad=True)
    x1 = torch.randn(4, 2, generator=seeded())
    found = log_likelihood(
        lambda t, x: scale * x, x1, OT, 4, prior=lambda x: OT.prior.log_prob(x) * scale / 0.3
    )
    assert not found.nats.requires_grad
    assert not found.x0.requires_grad
    kept = log_likelihood(lambda t, x: scale * x, x1, OT, 4, create_graph=True)
    assert kept.nats.requires_grad
    torch.testing.assert_close(kept.nats.detach(), found.nats)


def test_items_of_one_axis_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x1 must be \(B, \.\.\.\), found \(5,\)"):
        log_likelihood(lambda t, x: x, torch.zeros(5), OT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": -1}, "at least 1, found -1"),
        ({"probes": 1, "probe": "x"}, "probe 'x' is not known"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_likelihood(lambda t, x: x, torch.zeros(2, 3), OT, **options)
