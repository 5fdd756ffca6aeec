"""Every path against formulas written apart from it, and against a mixture's closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.path import Ends, FunctionPath, Path, Prior
from voiceflow.flow.paths import (
    PATHS,
    OptimalTransport,
    Polynomial,
    SquareRootVariance,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
    make_path,
)
from voiceflow.measures.distributions import energy_distance

QUARTER = 0.5 * math.pi


def vp(beta_min: float, beta_max: float) -> Callable[[float], tuple[float, float]]:
    def at(t: float) -> tuple[float, float]:
        s = 1 - t
        alpha = math.exp(-(beta_min * s + (beta_max - beta_min) * s**2 / 2) / 2)
        return alpha, math.sqrt(1 - alpha**2)

    return at


# Each path beside alpha and sigma at t, as FACTS.md section 6 has them.
CASES: dict[str, tuple[Path, Callable[[float], tuple[float, float]]]] = {
    "optimal_transport": (OptimalTransport(), lambda t: (t, 1 - (1 - 1e-5) * t)),
    "variance_preserving": (VariancePreserving(), vp(0.1, 20.0)),
    "variance_exploding": (VarianceExploding(), lambda t: (1.0, 0.01 * 5000 ** (1 - t))),
    "trigonometric": (Trigonometric(), lambda t: (math.sin(QUARTER * t), math.cos(QUARTER * t))),
    "square_root_variance": (SquareRootVariance(), lambda t: (t, math.sqrt(1 - t))),
    "polynomial": (Polynomial(), lambda t: (t**2, 1 - t**2)),
    "optimal_transport_wide": (OptimalTransport(0.1), lambda t: (t, 1 - 0.9 * t)),
    "variance_preserving_steady": (VariancePreserving(4.0, 4.0), vp(4.0, 4.0)),
    "variance_exploding_narrow": (
        VarianceExploding(0.5, 8.0),
        lambda t: (1.0, 0.5 * 16 ** (1 - t)),
    ),
    "polynomial_3": (Polynomial(3.0), lambda t: (t**3, 1 - t**3)),
    "polynomial_1.5": (Polynomial(1.5), lambda t: (t**1.5, 1 - t**1.5)),
    "function_trigonometric": (
        FunctionPath(lambda t: torch.sin(QUARTER * t), lambda t: torch.cos(QUARTER * t)),
        lambda t: (math.sin(QUARTER * t), math.cos(QUARTER * t)),
    ),
    "function_square_root": (
        FunctionPath(lambda t: t, lambda t: torch.sqrt(1 - t)),
        lambda t: (t, math.sqrt(1 - t)),
    ),
}
SINGULAR = ("variance_preserving", "variance_preserving_steady", "square_root_variance")
INTERIOR = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
every_path = pytest.mark.parametrize("name", CASES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """Five unequal modes on a circle: its mean is not 0, its covariance not round."""
    even = GaussianMixture.symmetric_2d(5, 0.5, 3.0, dtype)
    return GaussianMixture(even.means, 0.5, torch.tensor([1.0, 2, 3, 2, 4], dtype=dtype))


def closed_form(data: GaussianMixture, alpha: float, sigma: float) -> GaussianMixture:
    """x_t's distribution: the means times alpha, the variances alpha^2 s^2 + sigma^2."""
    std = ((alpha * data.std).square() + sigma**2).sqrt()
    return GaussianMixture(alpha * data.means, std, data.weights)


def derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    time = t.clone().requires_grad_()
    value = function(time)
    if not value.requires_grad:
        return torch.zeros_like(t)
    return torch.autograd.grad(value.sum(), time)[0]


def draw_xt(
    path: Path, data: GaussianMixture, t: float, count: int, generator: torch.Generator
) -> Tensor:
    x1 = data.sample(count, generator)
    x0 = torch.randn(count, 2, generator=generator, dtype=x1.dtype)
    return path.sample(x0, x1, torch.tensor(t, dtype=x1.dtype))


def test_every_named_path_is_under_test() -> None:
    for name in PATHS:
        assert make_path(name) == CASES[name][0]
    with pytest.raises(ValueError, match="'straight' is not known: choose one of optimal_trans"):
        make_path("straight")


# The functions


@every_path
def test_alpha_and_sigma_are_the_formulas(name: str) -> None:
    path, formula = CASES[name]
    wanted = torch.tensor([formula(t) for t in INTERIOR.tolist()], dtype=torch.float64)
    found = torch.stack([path.alpha(INTERIOR), path.sigma(INTERIOR)], 1)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    ratio = (wanted[:, 0] / wanted[:, 1]).log()
    torch.testing.assert_close(path.half_log_snr(INTERIOR), ratio, rtol=1e-9, atol=1e-9)


@every_path
def test_the_derivatives_are_those_of_the_functions(name: str) -> None:
    path = CASES[name][0]
    for function, dot in ((path.alpha, path.alpha_dot), (path.sigma, path.sigma_dot)):
        found = dot(INTERIOR)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, derivative(function, INTERIOR), rtol=1e-11, atol=1e-11)


@every_path
def test_variance_rate_is_half_the_derivative_of_sigma_squared(name: str) -> None:
    path = CASES[name][0]
    wanted = 0.5 * derivative(lambda t: path.sigma(t).square(), INTERIOR)
    torch.testing.assert_close(path.variance_rate(INTERIOR), wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", [n for n in CASES if n != "function_square_root"])
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_variance_rate_holds_at_the_ends_too(name: str, end: float) -> None:
    path, h = CASES[name][0], 1e-6
    times = torch.tensor([end, abs(end - h)], dtype=torch.float64)
    at, inside = path.sigma(times).square().tolist()
    slope = (inside - at) / (h if end == 0 else -h)
    found = float(path.variance_rate(times)[0])
    assert found == pytest.approx(0.5 * slope, rel=1e-4, abs=2e-3)


@every_path
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_is_finite_on_the_ends_and_close_to_them(name: str, dtype: torch.dtype) -> None:
    path = CASES[name][0]
    smallest = torch.finfo(dtype).eps / 2
    near = [0.0, torch.finfo(dtype).tiny, smallest, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2]
    t = torch.tensor(near, dtype=dtype)
    t = torch.cat([t, torch.linspace(0.05, 0.95, 19, dtype=dtype), (1 - t).flip(0)])
    for function in (path.alpha, path.sigma, path.alpha_dot, path.sigma_dot, path.variance_rate):
        found = function(t)
        assert found.dtype == dtype
        assert found.shape == t.shape
        assert torch.isfinite(found).all(), function
    x0 = torch.randn(len(t), 2, generator=seeded(), dtype=dtype)
    assert torch.isfinite(path.sample(x0, x0.flip(0), t)).all()
    assert torch.isfinite(path.velocity(x0, x0.flip(0), t)).all()


@pytest.mark.parametrize("name", [*SINGULAR, "trigonometric"])
def test_sigma_does_not_drown_in_rounding_close_to_the_data(name: str) -> None:
    path = CASES[name][0]
    left = torch.tensor([0.0, 1e-6, 1e-5, 1e-4, 1e-3], dtype=torch.float32)
    found, wanted = path.sigma(1 - left), path.sigma((1 - left).double())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=0)
    assert float(found[0]) == 0


@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_derivative_is_right_a_hundred_thousandth_from_the_end(name: str) -> None:
    path = CASES[name][0]
    assert path.times[0] == 0
    assert 0.9999 <= path.times[1] < 1
    t = torch.tensor([path.times[1]], dtype=torch.float64)
    torch.testing.assert_close(path.sigma_dot(t), derivative(path.sigma, t), rtol=1e-9, atol=0)
    assert float(path.sigma_dot(t)) < -50
    assert float(path.sigma_dot(torch.ones(()))) < -500


# Ends and priors


@every_path
def test_the_declared_ends_are_met(name: str) -> None:
    path, formula = CASES[name]
    path.check_ends()
    ends = path.ends
    assert (ends.alpha_0, ends.sigma_0) == pytest.approx(formula(0.0), abs=1e-12)
    assert (ends.alpha_1, ends.sigma_1) == pytest.approx(formula(1.0), abs=1e-12)
    assert path.prior == Prior(ends.sigma_0)
    if name not in SINGULAR:
        assert path.times == (0.0, 1.0)


def test_ends_are_as_the_papers_have_them() -> None:
    total = 0.5 * (0.1 + 20.0)
    vp_ends = VariancePreserving().ends
    assert vp_ends.alpha_0 == pytest.approx(math.exp(-total / 2))
    assert 0 < vp_ends.alpha_0 < 0.01
    assert vp_ends.sigma_0 == pytest.approx(math.sqrt(1 - math.exp(-total)))
    assert VarianceExploding().ends == Ends(1.0, 50.0, 1.0, 0.01)
    assert VarianceExploding().prior == Prior(50.0)
    assert OptimalTransport(0.1).ends == Ends(0.0, 1.0, 1.0, 0.1)
    for path in (OptimalTransport(0.0), Trigonometric(), SquareRootVariance(), Polynomial(3.0)):
        assert path.ends == Ends(0.0, 1.0, 1.0, 0.0)
        assert path.prior == Prior(1.0)


@every_path
def test_a_sample_starts_at_the_noise_and_ends_at_the_data(name: str) -> None:
    path = CASES[name][0]
    x0, x1 = (torch.randn(6, 3, generator=seeded(s), dtype=torch.float64) for s in (0, 1))
    for t, alpha, sigma in (
        (0.0, path.ends.alpha_0, path.ends.sigma_0),
        (1.0, path.ends.alpha_1, path.ends.sigma_1),
    ):
        found = path.sample(x0, x1, torch.full((6,), t, dtype=torch.float64))
        torch.testing.assert_close(found, alpha * x1 + sigma * x0, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OptimalTransport(-0.1), r"sigma_min must lie in \[0, 1\), found -0\.1"),
        (lambda: OptimalTransport(1.0), r"sigma_min must lie in \[0, 1\), found 1\.0"),
        (lambda: VariancePreserving(0.0), r"0 < beta_min <= beta_max, found 0\.0 and 20\.0"),
        (lambda: VariancePreserving(3.0, 2.0), "beta_min <= beta_max, found 3.0 and 2.0"),
        (lambda: VarianceExploding(0.0), r"0 < sigma_min < sigma_max, found 0\.0 and 50"),
        (lambda: VarianceExploding(5.0, 5.0), "sigma_min < sigma_max, found 5.0 and 5.0"),
        (lambda: Polynomial(0.5), r"n must be at least 1 .* found 0\.5"),
        (lambda: Polynomial(float("nan")), "n must be at least 1 .* found nan"),
    ],
)
def test_constants_out_of_range_are_an_error(make: Callable[[], Path], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_polynomial_of_the_first_degree_is_optimal_transport() -> None:
    t = torch.linspace(0, 1, 11)
    for what in ("alpha", "sigma", "alpha_dot", "sigma_dot"):
        found = getattr(Polynomial(1.0), what)(t)
        torch.testing.assert_close(found, getattr(OptimalTransport(0.0), what)(t))


def test_optimal_transport_has_one_velocity_for_all_times() -> None:
    x0, x1 = (torch.randn(5, generator=seeded(s)) for s in (0, 1))
    for t in (0.0, 0.4, 1.0):
        found = OptimalTransport(0.1).velocity(x0, x1, torch.tensor(t))
        torch.testing.assert_close(found, x1 - 0.9 * x0)


# Velocity


@every_path
def test_velocity_is_the_derivative_of_the_sample(name: str) -> None:
    path = CASES[name][0]
    x0, x1 = (torch.randn(100, 3, generator=seeded(s), dtype=torch.float64) for s in (0, 1))
    found = path.velocity(x0, x1, INTERIOR)
    one = torch.ones_like(INTERIOR)
    wanted = torch.autograd.functional.jvp(lambda t: path.sample(x0, x1, t), INTERIOR, one)[1]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    assert float(wanted.abs().max()) > 0.1


@pytest.mark.parametrize("name", ["trigonometric", "function_trigonometric"])
def test_the_trigonometric_velocity_is_half_pi_times_the_v_prediction(name: str) -> None:
    path = CASES[name][0]
    x0, x1 = (torch.randn(100, 3, generator=seeded(s), dtype=torch.float64) for s in (0, 1))
    angle = (QUARTER * INTERIOR)[:, None]
    v = angle.cos() * x1 - angle.sin() * x0
    torch.testing.assert_close(path.quantity("v", x0, x1, INTERIOR), v)
    torch.testing.assert_close(path.velocity(x0, x1, INTERIOR), QUARTER * v)
    xt = path.sample(x0, x1, INTERIOR)
    torch.testing.assert_close(path.convert(v, xt, INTERIOR, "v", "velocity"), QUARTER * v)


# Marginals


@every_path
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_mean_and_covariance_of_x_t_are_the_closed_forms(name: str, t: float) -> None:
    path, formula = CASES[name]
    data, count = mixture(), 100_000
    xt = draw_xt(path, data, t, count, seeded(5))
    wanted = closed_form(data, *formula(t))
    error = (xt.mean(0) - wanted.mean).abs() / (xt.std(0) / math.sqrt(count))
    assert float(error.max()) < 4
    centred = xt - wanted.mean
    products = centred[:, :, None] * centred[:, None]
    error = (products.mean(0) - wanted.covariance).abs() / (products.std(0) / math.sqrt(count))
    assert float(error.max()) < 4


@pytest.fixture(scope="module")
def floor() -> float:
    """95th percentile, over 20 pairs of independent draws of x_1 + x_0, of their distance."""
    sums, generator = closed_form(mixture(torch.float32), 1.0, 1.0), seeded(11)
    distances = [
        energy_distance(sums.sample(5000, generator), sums.sample(5000, generator))
        for _ in range(20)
    ]
    return float(torch.tensor(distances).quantile(0.95))


def time_of_equal_weights(formula: Callable[[float], tuple[float, float]]) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        alpha, sigma = formula(middle)
        low, high = (middle, high) if alpha < sigma else (low, middle)
    return low


@every_path
def test_x_t_is_as_near_its_closed_form_as_a_second_draw_of_it(name: str, floor: float) -> None:
    """At the time where alpha = sigma: x_t is alpha (x_1 + x_0) there, so one floor serves all.

    The energy distance scales with x. The draw is fixed by its seed.
    """
    path, formula = CASES[name]
    data, generator = mixture(torch.float32), seeded(1)
    t = time_of_equal_weights(formula)
    alpha, sigma = formula(t)
    xt = draw_xt(path, data, t, 5000, generator)
    other = closed_form(data, alpha, sigma).sample(5000, generator)
    assert energy_distance(xt, other) / alpha < floor


def test_the_distance_tells_a_marginal_of_another_time(floor: float) -> None:
    """The control: half the noise again, or data a tenth too small, are seen."""
    data, generator = mixture(torch.float32), seeded(1)
    right = closed_form(data, 1.0, 1.0).sample(5000, generator)
    for alpha, sigma in ((1.0, 1.5), (0.9, 1.0)):
        wrong = closed_form(data, alpha, sigma).sample(5000, generator)
        assert energy_distance(wrong, right) > 2 * floor


@every_path
@pytest.mark.parametrize("t", [0.02, 0.3, 0.5, 0.8, 0.98])
def test_the_marginal_velocity_carries_the_marginal_density(name: str, t: float) -> None:
    """d log p_t / dt + u_t . grad log p_t + div u_t = 0: the continuity equation over p_t."""
    path, data = CASES[name][0], mixture()
    x = 1.5 * draw_xt(path, data, t, 64, seeded(2))
    time = torch.full((64,), t, dtype=torch.float64, requires_grad=True)
    x.requires_grad_()
    by_time, by_place = torch.autograd.grad(data.marginal_log_prob(x, time, path).sum(), (time, x))
    u = data.marginal_velocity(x, time.detach(), path)
    divergence = sum(
        torch.autograd.grad(u[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2)
    )
    carried = (u.detach() * by_place).sum(1)
    size = by_time.abs() + carried.abs() + divergence.abs()
    assert float(((by_time + carried + divergence).abs() / size).max()) < 1e-8
    assert float(by_time.abs().max()) > 1e-3
