"""The base class: conversions, broadcasting, declared ends, bad input; FunctionPath; Prior."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from voiceflow.flow.path import (
    QUANTITIES,
    Ends,
    FunctionPath,
    Path,
    Prior,
    Quantity,
    check_pair,
    check_time,
    expand_right,
)
from voiceflow.flow.paths import PATHS, OptimalTransport, Trigonometric, make_path

QUARTER = 0.5 * math.pi
ALL: dict[str, Path] = {
    **{name: make_path(name) for name in PATHS},
    "function_trigonometric": FunctionPath(
        lambda t: torch.sin(QUARTER * t), lambda t: torch.cos(QUARTER * t)
    ),
    "function_square_root": FunctionPath(lambda t: t, lambda t: torch.sqrt(1 - t)),
}
INTERIOR = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
every_path = pytest.mark.parametrize("name", ALL)
every_source = pytest.mark.parametrize("source", QUANTITIES)


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x0.to(dtype), torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def rows(path: Path, quantity: Quantity, t: Tensor) -> np.ndarray:
    """The matrices (N, 2, 2) that make (x_t, quantity) of (x_1, x_0) at t (N,), in float64."""
    t = t.double()
    alpha, sigma, one = path.alpha(t), path.sigma(t), torch.ones_like(t)
    on_x1, on_x0 = {
        "velocity": (path.alpha_dot(t), path.sigma_dot(t)),
        "x1": (one, 0 * one),
        "x0": (0 * one, one),
        "v": (sigma, -alpha),
        "score": (0 * one, -1 / sigma),
    }[quantity]
    return torch.stack([alpha, sigma, on_x1, on_x0], 1).reshape(-1, 2, 2).numpy()


def converter(path: Path, source: Quantity, target: Quantity, t: Tensor) -> np.ndarray:
    """The matrices (N, 2, 2) that make (x_t, target) of (x_t, source) at t (N,)."""
    return rows(path, target, t) @ np.linalg.inv(rows(path, source, t))


@every_path
def test_each_quantity_of_a_pair_is_what_its_name_says(name: str) -> None:
    path = ALL[name]
    x0, x1 = pair(99, 4)
    for quantity in QUANTITIES:
        on_x1, on_x0 = torch.from_numpy(rows(path, quantity, INTERIOR)[:, 1]).unbind(1)
        wanted = on_x1[:, None] * x1 + on_x0[:, None] * x0
        found = path.quantity(quantity, x0, x1, INTERIOR)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@every_path
@every_source
def test_conversions_of_a_known_pair_are_right_and_round_trips(name: str, source: Quantity) -> None:
    path = ALL[name]
    x0, x1 = pair(99, 4)
    xt, value = path.sample(x0, x1, INTERIOR), path.quantity(source, x0, x1, INTERIOR)
    for target in QUANTITIES:
        wanted = path.quantity(target, x0, x1, INTERIOR)
        found = path.convert(value, xt, INTERIOR, source, target)
        back = path.convert(found, xt, INTERIOR, target, source)
        for result, truth in ((found, wanted), (back, value)):
            size = truth.abs().amax(1) + xt.abs().amax(1)
            worst = ((result - truth).abs().amax(1) / size).max()
            assert float(worst) < 1e-9, f"{source} to {target}"


@every_path
@every_source
def test_float32_conversions_are_as_good_as_their_condition_allows(
    name: str, source: Quantity
) -> None:
    """A conversion is a matrix (x_t, source) -> (x_t, target): its condition bounds the error."""
    path = ALL[name]
    x0, x1 = pair(99, 4, dtype=torch.float32)
    times = INTERIOR.float()
    xt, value = path.sample(x0, x1, times), path.quantity(source, x0, x1, times)
    shown = torch.stack([xt, value], 1).double().numpy()  # (99, 2, 4)
    for target in QUANTITIES:
        found = path.convert(value, xt, times, source, target)
        back = path.convert(found, xt, times, target, source)
        assert found.dtype == torch.float32
        matrix = converter(path, source, target, times)
        allowed = 1e-5 * np.linalg.cond(matrix)[:, None]
        wanted = matrix @ shown
        for result, truth in ((found, wanted), (back, shown)):
            error = np.abs(result.double().numpy() - truth[:, 1])
            assert (error <= allowed * np.linalg.norm(truth, axis=1)).all(), target


@given(
    st.sampled_from(sorted(ALL)),
    st.sampled_from(QUANTITIES),
    st.sampled_from(QUANTITIES),
    st.floats(0.01, 0.99),
    st.floats(-20, 20),
    st.floats(-20, 20),
)
def test_any_value_at_any_point_is_converted_and_comes_back(
    name: str, source: Quantity, target: Quantity, t: float, x: float, value: float
) -> None:
    path, time = ALL[name], torch.tensor(t, dtype=torch.float64)
    xt = torch.tensor([x], dtype=torch.float64)
    said = torch.tensor([value], dtype=torch.float64)
    matrix = converter(path, source, target, time[None])[0]
    found = path.convert(said, xt, time, source, target)
    back = path.convert(found, xt, time, target, source)
    wanted = matrix @ np.array([x, value])
    tolerance = 1e-13 * np.linalg.cond(matrix)
    assert abs(float(found) - wanted[1]) <= 1e-12 + tolerance * np.linalg.norm(wanted)
    assert abs(float(back) - value) <= 1e-12 + tolerance * np.hypot(x, value)


@every_path
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_conversions_are_finite_at_both_ends_in_float32(name: str, t: float) -> None:
    path, time = ALL[name], torch.tensor(t)
    x0, x1 = pair(8, dtype=torch.float32)
    xt = path.sample(x0, x1, time)
    for source in QUANTITIES:
        value = path.quantity(source, x0, x1, time)
        for target in QUANTITIES:
            found = path.convert(value, xt, time, source, target)
            assert torch.isfinite(found).all(), f"{source} to {target}"


@pytest.mark.parametrize("t", [0.0, 1.0])
@pytest.mark.parametrize("path", [OptimalTransport(), OptimalTransport(0.0), Trigonometric()])
def test_velocity_gives_both_ends_of_the_pair_also_at_the_ends(path: Path, t: float) -> None:
    time = torch.tensor(t, dtype=torch.float64)
    x0, x1 = pair(8)
    xt, velocity = path.sample(x0, x1, time), path.velocity(x0, x1, time)
    for target, wanted in (("x1", x1), ("x0", x0), ("v", path.quantity("v", x0, x1, time))):
        found = path.convert(velocity, xt, time, "velocity", target)  # type: ignore[arg-type]
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_score_is_minus_the_noise_over_sigma() -> None:
    path = OptimalTransport(0.1)
    x0, x1 = pair(5, 2)
    t = torch.tensor(0.6, dtype=torch.float64)
    wanted = -x0 / (1 - 0.9 * 0.6)
    torch.testing.assert_close(path.quantity("score", x0, x1, t), wanted)
    xt = path.sample(x0, x1, t)
    torch.testing.assert_close(path.convert(x0, xt, t, "x0", "score"), wanted)
    torch.testing.assert_close(path.convert(wanted, xt, t, "score", "x0"), x0)


@every_path
def test_each_item_and_each_frame_may_have_its_own_time(name: str) -> None:
    path = ALL[name]
    x0, x1 = pair(3, 5, 2)
    generator = torch.Generator().manual_seed(1)
    for shape in ((3,), (3, 5), (3, 5, 2), ()):
        t = 0.05 + 0.9 * torch.rand(shape, generator=generator, dtype=torch.float64)
        xt, velocity = path.sample(x0, x1, t), path.velocity(x0, x1, t)
        x1_again = path.convert(velocity, xt, t, "velocity", "x1")
        noise = path.quantity("x0", x0, x1, t)
        assert xt.shape == velocity.shape == x1_again.shape == noise.shape == x1.shape
        for i in range(3):
            for j in range(5):
                for k in range(2):
                    own = t[(i, j, k)[: len(shape)]]
                    at = (i, j, k)
                    wanted = path.alpha(own) * x1[at] + path.sigma(own) * x0[at]
                    torch.testing.assert_close(xt[at], wanted)
                    wanted = path.alpha_dot(own) * x1[at] + path.sigma_dot(own) * x0[at]
                    torch.testing.assert_close(velocity[at], wanted)
        torch.testing.assert_close(x1_again, x1)
        torch.testing.assert_close(noise, x0)


def test_expand_right_adds_axes_on_the_right() -> None:
    assert expand_right(torch.zeros(4), torch.zeros(4, 3, 2)).shape == (4, 1, 1)
    assert expand_right(torch.zeros(4, 3), torch.zeros(4, 3, 2)).shape == (4, 3, 1)
    assert expand_right(torch.zeros(()), torch.zeros(4, 3)).shape == (1, 1)
    assert expand_right(torch.zeros(4, 3), torch.zeros(4, 3)).shape == (4, 3)


# Bad input


@pytest.mark.parametrize("call", ["sample", "velocity", "quantity"])
def test_noise_and_data_of_different_shapes_are_an_error(call: str) -> None:
    path, t = OptimalTransport(), torch.tensor(0.5)
    arguments = (torch.zeros(2, 3), torch.zeros(2, 1), t)
    with pytest.raises(ValueError, match=r"one shape, found \(2, 3\) and \(2, 1\)"):
        if call == "quantity":
            path.quantity("x1", *arguments)
        else:
            getattr(path, call)(*arguments)


def test_a_value_of_another_shape_than_x_t_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"one shape, found \(2,\) and \(2, 3\)"):
        OptimalTransport().convert(
            torch.zeros(2), torch.zeros(2, 3), torch.tensor(0.5), "velocity", "x1"
        )
    check_pair(torch.zeros(2, 3), torch.zeros(2, 3))


def test_a_time_of_a_shape_that_does_not_fit_is_an_error() -> None:
    x = torch.zeros(2, 3)
    for shape in ((3,), (2, 1), (1,), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"t has the shape .* first axes of \(2, 3\)"):
            OptimalTransport().sample(x, x, torch.full(shape, 0.5))
    for shape in ((), (2,), (2, 3)):
        check_time(torch.full(shape, 0.5), x)


@pytest.mark.parametrize(
    ("bad", "shown"), [(-0.01, "-0.01"), (1.5, "1.5"), (float("nan"), "nan"), (16.0, "16")]
)
def test_a_time_outside_zero_to_one_is_an_error_that_names_it(bad: float, shown: str) -> None:
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=rf"\[0, 1\] \(0 noise, 1 data\), found {shown}$"):
        OptimalTransport().velocity(x, x, torch.tensor([0.0, bad, 1.0]))


def test_whole_numbers_are_no_times() -> None:
    x = torch.zeros(2, 2)
    for call in (OptimalTransport().sample, OptimalTransport().velocity):
        with pytest.raises(ValueError, match=r"floating type, found torch\.int64"):
            call(x, x, torch.tensor(1))


@pytest.mark.parametrize(("source", "target"), [("speed", "x1"), ("x1", "speed")])
def test_an_unknown_quantity_names_the_known_ones(source: Quantity, target: Quantity) -> None:
    x, t = torch.zeros(2, 2), torch.tensor(0.5)
    message = "'speed' is not one of velocity, x1, x0, v, score"
    with pytest.raises(ValueError, match=message):
        OptimalTransport().convert(x, x, t, source, target)
    with pytest.raises(ValueError, match=message):
        OptimalTransport().quantity("speed", x, x, t)  # type: ignore[arg-type]


class Amiss(OptimalTransport):
    """Declares other ends than it has."""

    @property
    def ends(self) -> Ends:
        return Ends(sigma_1=0.2)


def test_ends_that_are_not_met_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"Amiss: sigma is 1.*e-05 at t = 1, .* declares 0\.2;"):
        Amiss().check_ends()


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (Ends(alpha_0=0.1), r"alpha is 0 at t = 0, .* declares 0\.1;"),
        (Ends(sigma_0=2.0), r"sigma is 1 at t = 0, .* declares 2;"),
        (Ends(alpha_1=1.001), r"alpha is 1 at t = 1, .* declares 1\.001;"),
        (Ends(sigma_1=0.5), r"sigma is 0 at t = 1, .* declares 0\.5;"),
    ],
)
def test_a_function_path_must_meet_its_declared_ends(ends: Ends, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FunctionPath(lambda t: t, lambda t: 1 - t, ends)
    with pytest.raises(ValueError, match="sigma is nan at t = 1"):
        FunctionPath(lambda t: t, lambda t: torch.sqrt(1 - 2 * t))


# FunctionPath


@pytest.mark.parametrize(
    ("function", "named"),
    [
        ("function_trigonometric", "trigonometric"),
        ("function_square_root", "square_root_variance"),
    ],
)
def test_a_function_path_is_the_named_path_of_its_functions(function: str, named: str) -> None:
    with torch.no_grad():
        for what in ("alpha", "sigma", "alpha_dot", "sigma_dot", "variance_rate", "half_log_snr"):
            found, wanted = (getattr(ALL[name], what)(INTERIOR) for name in (function, named))
            torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
            assert not found.requires_grad
    assert ALL[function].ends == ALL[named].ends == Ends()


def test_a_singular_derivative_is_that_of_a_time_a_millionth_further_in() -> None:
    path = FunctionPath(torch.sqrt, lambda t: torch.sqrt(1 - t))
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    inside = torch.tensor([1e-6, 0.25, 1 - 1e-6], dtype=torch.float64)
    at_zero, at_one = path.alpha_dot(t), path.sigma_dot(t)
    torch.testing.assert_close(at_zero[:2], 0.5 / inside[:2].sqrt())
    torch.testing.assert_close(at_one[1:], -0.5 / (1 - inside[1:]).sqrt())
    assert float(at_zero[2]) == 0.5  # finite where they are: as they are
    assert float(at_one[0]) == -0.5


def test_variance_rate_of_a_function_path_holds_where_its_derivative_is_singular() -> None:
    # sigma^2 = 1 - t, so sigma sigma' = -1/2 everywhere
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    found = ALL["function_square_root"].variance_rate(t)
    torch.testing.assert_close(found, torch.full_like(t, -0.5), rtol=1e-6, atol=0)


def test_the_derivative_is_right_whatever_mode_gradients_are_in() -> None:
    path, wanted = ALL["function_trigonometric"], QUARTER * math.cos(QUARTER * 0.3)
    with torch.no_grad():
        assert float(path.alpha_dot(torch.tensor(0.3))) == pytest.approx(wanted, rel=1e-6)
    with torch.inference_mode():
        assert float(path.alpha_dot(torch.tensor(0.3))) == pytest.approx(wanted, rel=1e-6)


def test_a_function_path_may_be_constant_and_declare_ends_prior_and_times() -> None:
    path = FunctionPath(
        torch.ones_like,
        lambda t: 3 - 2.5 * t,
        Ends(1.0, 3.0, 1.0, 0.5),
        declared_times=(0.1, 0.9),
    )
    t = torch.tensor([0.0, 0.4, 1.0])
    assert torch.equal(path.alpha_dot(t), torch.zeros(3))
    assert torch.equal(path.sigma_dot(t), torch.full((3,), -2.5))
    assert path.times == (0.1, 0.9)
    assert path.prior == Prior(3.0)
    wide = FunctionPath(lambda t: t, lambda t: 1 - t, declared_prior=Prior(7.0))
    assert wide.prior == Prior(7.0)
    assert wide.times == (0.0, 1.0)


# Prior


def test_the_priors_density_is_the_normal_one() -> None:
    x = 3 * pair(4, 5, 2)[0]
    elements = torch.distributions.Normal(torch.tensor(0.0).double(), 2.5).log_prob(x)
    torch.testing.assert_close(Prior(2.5).log_prob(x), elements.sum((1, 2)))
    mask = torch.tensor([[1, 0, 1, 1, 0], [0] * 5, [1] * 5, [0, 0, 0, 0, 1]]).bool()
    wanted = torch.stack([e[m].sum() for e, m in zip(elements, mask, strict=True)])
    torch.testing.assert_close(Prior(2.5).log_prob(x, mask), wanted)
    assert float(wanted[1]) == 0


def test_the_priors_draws_have_its_deviation_and_follow_the_generator() -> None:
    prior = Prior(50.0)
    first, again, other = (
        prior.sample(400, 50, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)
    )
    assert first.shape == (400, 50)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    count = first.numel()
    assert abs(float(first.mean())) < 4 * 50 / math.sqrt(count)
    assert float(first.std()) == pytest.approx(50, rel=4 / math.sqrt(2 * count))
