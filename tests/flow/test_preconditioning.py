"""Preconditioning: what the network sees and is to say has unit variance, on every path."""

import math

import pytest
import torch
from torch import Tensor

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.path import FunctionPath, Path
from voiceflow.flow.paths import PATHS, SquareRootVariance, make_path
from voiceflow.flow.preconditioning import Preconditioning

ALL: dict[str, Path] = {
    **{name: make_path(name) for name in PATHS},
    "function_square_root": FunctionPath(lambda t: t, lambda t: torch.sqrt(1 - t)),
}
TIMES = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
every_path = pytest.mark.parametrize("name", ALL)
every_deviation = pytest.mark.parametrize("s", [0.3, 1.0, 2.5])


def moments(path: Path, s: float) -> tuple[Tensor, Tensor, Tensor]:
    """var x_t, var u_t and cov(x_t, u_t) for data N(0, s^2), of the path's four functions."""
    alpha, sigma = path.alpha(TIMES), path.sigma(TIMES)
    alpha_dot, sigma_dot = path.alpha_dot(TIMES), path.sigma_dot(TIMES)
    return (
        alpha**2 * s**2 + sigma**2,
        alpha_dot**2 * s**2 + sigma_dot**2,
        alpha * alpha_dot * s**2 + sigma * sigma_dot,
    )


@every_path
@every_deviation
def test_scales_are_the_regression_of_the_velocity_on_x_t(name: str, s: float) -> None:
    scales = Preconditioning(ALL[name], s)
    of_x, of_u, across = moments(ALL[name], s)
    torch.testing.assert_close(scales.variance(TIMES), of_x)
    torch.testing.assert_close(scales.into(TIMES).square() * of_x, torch.ones_like(TIMES))
    torch.testing.assert_close(scales.skip(TIMES), across / of_x)
    left = of_u - across**2 / of_x  # cancels for wide noise: 1e-7 of what is subtracted
    assert float(((scales.out(TIMES).square() - left).abs() / of_u).max()) < 1e-9
    assert (scales.out(TIMES) > 0).all()
    torch.testing.assert_close(
        scales.weight(TIMES) * scales.out(TIMES) ** 2, torch.ones_like(TIMES)
    )


@every_path
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_samples_have_unit_variance_and_nothing_left_to_say_of_x_t(name: str, t: float) -> None:
    count, s, path = 200_000, 0.6, ALL[name]
    scales, time = Preconditioning(path, s), torch.tensor(t, dtype=torch.float64)
    generator = torch.Generator().manual_seed(4)
    x0 = torch.randn(count, generator=generator, dtype=torch.float64)
    x1 = s * torch.randn(count, generator=generator, dtype=torch.float64)
    xt, ut = path.sample(x0, x1, time), path.velocity(x0, x1, time)
    seen = scales.into(time) * xt
    target = (ut - scales.skip(time) * xt) / scales.out(time)
    allowed = 4 / math.sqrt(2 * count)  # four standard errors of a deviation
    assert float(seen.std()) == pytest.approx(1, abs=allowed)
    assert float(target.std()) == pytest.approx(1, abs=allowed)
    assert abs(float((seen * target).mean())) < 4 / math.sqrt(count)


@every_path
@every_deviation
def test_on_gaussian_data_a_network_that_says_nothing_is_the_marginal_velocity(
    name: str, s: float
) -> None:
    path = ALL[name]
    data = GaussianMixture(torch.zeros(1, 3, dtype=torch.float64), s)
    x = torch.randn(25, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Preconditioning(path, s).velocity(lambda t, x: torch.zeros_like(x), TIMES, x)
    torch.testing.assert_close(found, data.marginal_velocity(x, TIMES, path), rtol=1e-9, atol=1e-9)


@every_path
@pytest.mark.parametrize("shape", [(), (4,)])
def test_velocity_composes_the_network_with_the_scales(name: str, shape: tuple[int, ...]) -> None:
    scales = Preconditioning(ALL[name], 0.7)
    generator = torch.Generator().manual_seed(1)
    t = 0.1 + 0.8 * torch.rand(shape, generator=generator, dtype=torch.float64)
    x = torch.randn(4, 5, 2, generator=generator, dtype=torch.float64)
    shown: list[tuple[Tensor, Tensor]] = []

    def network(time: Tensor, scaled: Tensor) -> Tensor:
        shown.append((time, scaled))
        return torch.sin(3 * scaled) + 1

    found = scales.velocity(network, t, x)
    ((time, scaled),) = shown
    assert time is t
    for i in range(4):
        own = t[i] if shape else t
        torch.testing.assert_close(scaled[i], scales.into(own) * x[i])
        said = torch.sin(3 * scales.into(own) * x[i]) + 1
        torch.testing.assert_close(found[i], scales.skip(own) * x[i] + scales.out(own) * said)


@every_path
def test_a_network_that_says_the_scaled_target_gives_the_velocity(name: str) -> None:
    path = ALL[name]
    scales = Preconditioning(path, 0.7)
    generator = torch.Generator().manual_seed(2)
    x0 = torch.randn(25, 3, generator=generator, dtype=torch.float64)
    x1 = torch.randn(25, 3, generator=generator, dtype=torch.float64)
    xt, ut = path.sample(x0, x1, TIMES), path.velocity(x0, x1, TIMES)
    target = (ut - scales.skip(TIMES)[:, None] * xt) / scales.out(TIMES)[:, None]
    found = scales.velocity(lambda t, x: target, TIMES, xt)
    torch.testing.assert_close(found, ut, rtol=1e-9, atol=1e-9)


def test_the_weighted_loss_of_the_square_root_path_is_finite_where_the_velocity_is_not() -> None:
    """out^2 grows as 1 / (1 - t); times the weight it is 1 up to the end, in float32 too."""
    scales, s = Preconditioning(SquareRootVariance(), 0.8), 0.8
    left = torch.tensor([1e-2, 1e-3, 1e-4, 1e-5], dtype=torch.float64)
    growth = scales.out(1 - left).square() * left
    torch.testing.assert_close(growth, torch.full_like(left, 0.25), rtol=0.05, atol=0)
    assert float(scales.out(1 - left).square()[-1]) > 1e4
    t = torch.tensor([0.0, 0.5, 0.99, 1 - 1e-5, 1 - 1e-7, 1.0])
    weight = scales.weight(t)
    assert torch.isfinite(weight).all()
    generator = torch.Generator().manual_seed(3)
    x0 = torch.randn(20_000, 1, generator=generator).expand(-1, 6)
    x1 = s * torch.randn(20_000, 1, generator=generator).expand(-1, 6)
    times = t.expand_as(x0)
    path = scales.path
    error = path.velocity(x0, x1, times) - scales.skip(t) * path.sample(x0, x1, times)
    weighted = (weight * error.square()).mean(0)
    assert torch.isfinite(weighted).all()
    torch.testing.assert_close(weighted, torch.ones(6), rtol=0, atol=4 * math.sqrt(2 / 20_000))


@every_path
def test_scales_are_finite_at_both_ends_in_float32(name: str) -> None:
    scales, t = Preconditioning(ALL[name], 0.5), torch.tensor([0.0, 1.0])
    for scale in (scales.variance, scales.into, scales.skip, scales.out):
        found = scale(t)
        assert found.dtype == torch.float32
        assert torch.isfinite(found).all(), scale


@every_path
def test_the_weight_is_finite_at_both_ends_in_float32(name: str) -> None:
    assert torch.isfinite(Preconditioning(ALL[name], 0.5).weight(torch.tensor([0.0, 1.0]))).all()
