"""Solvers against closed forms: order of convergence, each method's arithmetic, cost, errors."""

import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.path import Field, Path
from voiceflow.flow.paths import (
    PATHS,
    OptimalTransport,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
    make_path,
)
from voiceflow.flow.solvers import SOLVERS, Solution, solve
from voiceflow.flow.times import make_grid

FIXED = [method for method in SOLVERS if method != "dopri5"]
ORDER = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4, "adams_bashforth": 2}
LINE = OptimalTransport(0.1)
RATE = -1.3
UNEVEN = [0, 0.1, 0.3, 0.45, 0.7, 0.9, 1]
X = torch.tensor([[1.0, -2.0], [0.3, 4.0]], dtype=torch.float64)

MIXTURE = GaussianMixture(
    torch.tensor([[1.5, 0.5], [-1.0, 1.2], [0.3, -1.8]], dtype=torch.float64),
    torch.tensor([0.8, 1.0, 1.2], dtype=torch.float64),
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
)
on_grids = pytest.mark.parametrize(
    "times", [[0, 1], [0, 0.25, 0.5, 0.75, 1], UNEVEN], ids=["one", "even", "uneven"]
)
NOISE = torch.randn(16, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def marginal(path: Path) -> Field:
    """The mixture's closed-form velocity on a path."""
    return lambda t, x: MIXTURE.marginal_velocity(x, t, path)


def given(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def distance(x: Tensor, y: Tensor) -> float:
    return float((x - y).square().mean().sqrt())


def slope(sizes: list[float], errors: list[float]) -> float:
    """Least squares of log error against log size."""
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def even_in_lambda(path: Path, steps: int) -> Tensor:
    """A grid from 0.02 to 0.98 in equal steps of the half log SNR."""
    times = torch.linspace(0.02, 0.98, 20001, dtype=torch.float64)
    values = path.half_log_snr(times)
    wanted = np.linspace(float(values[0]), float(values[-1]), steps + 1)
    return given(np.interp(wanted, values.numpy(), times.numpy()))


@cache
def reference(path: Path, ends: bool = True) -> Tensor:
    """Where the mixture's flow takes the noise, to some 1e-10; between 0.02 and 0.98 or 0 and 1."""
    grid = 500 if ends else even_in_lambda(path, 500)
    return solve(marginal(path), path.prior.std * NOISE, grid, "rk4").x


@pytest.mark.parametrize("method", ORDER)
@pytest.mark.parametrize("sigma_min", [0.0, 0.1])
def test_the_order_of_convergence_on_a_mixture(method: str, sigma_min: float) -> None:
    path = OptimalTransport(sigma_min)
    steps = [16, 32, 64, 128]
    errors = [distance(solve(marginal(path), NOISE, n, method).x, reference(path)) for n in steps]
    assert slope(steps, errors) == pytest.approx(-ORDER[method], abs=0.15)


@pytest.mark.parametrize(
    "path", [LINE, VariancePreserving(), VarianceExploding(0.05, 20.0), Trigonometric()], ids=str
)
def test_dpm_multistep_is_of_second_order_in_the_half_log_snr(path: Path) -> None:
    """Between 0.02 and 0.98, where lambda is finite, with equal steps in it.

    At an infinite lambda the steps fall back to first order, and steps even in time are the more
    uneven in lambda the nearer they are: the error is h^2 log h, whose slope nears 2 but slowly.
    """
    steps, x = [16, 32, 64, 128, 256], path.prior.std * NOISE
    found = [
        solve(marginal(path), x, even_in_lambda(path, n), "dpm_multistep", path=path).x
        for n in steps
    ]
    errors = [distance(each, reference(path, ends=False)) for each in found]
    assert slope(steps, errors) == pytest.approx(-2, abs=0.15)


def off_the_quantiles(path: Path, method: str, steps: int) -> float:
    """The largest error in moving a Gaussian's quantiles from the path's start to its end.

    x_t of data N(m, s^2) is N(alpha m, alpha^2 s^2 + sigma^2), and in 1-D the order is kept.
    """
    m, s = 1.5, 0.6
    data = GaussianMixture(given([[m]]), s)
    x = path.prior.std * torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    found = solve(lambda t, x: data.marginal_velocity(x, t, path), x, steps, method, path=path)
    ends = found.times[[0, -1]]
    assert tuple(ends.tolist()) == path.times
    alpha, sigma = path.alpha(ends), path.sigma(ends)
    mean, std = alpha * m, torch.hypot(alpha * s, sigma)
    return float((found.x - mean[1] - std[1] / std[0] * (x - mean[0])).abs().max())


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("name", PATHS)
def test_a_gaussian_is_transported_along_its_quantiles(method: str, name: str) -> None:
    """On every path. Euler is of first order, and so is dpm_multistep's last step at sigma = 0."""
    path = VarianceExploding(0.05, 20.0) if name == "variance_exploding" else make_path(name)
    steps = 300 if name == "variance_exploding" else 100
    bound = 0.08 if method in ("euler", "dpm_multistep") else 2e-3
    assert off_the_quantiles(path, method, steps) < bound


@pytest.mark.parametrize(
    "path", [OptimalTransport(0.0), OptimalTransport(), VariancePreserving()], ids=str
)
def test_dpm_multistep_is_accurate_to_the_ends(path: Path) -> None:
    """More so than Euler's method at the same cost, and to more than first order."""
    steps = [25, 50, 100, 200]
    errors = [off_the_quantiles(path, "dpm_multistep", n) for n in steps]
    assert errors[0] < off_the_quantiles(path, "euler", steps[0])
    assert slope(steps, errors) < -1.2


def test_dopri5_keeps_its_tolerance() -> None:
    """Relative and absolute: within 10 times tolerance (1 + |x|), falling with it, at a price."""
    exact = reference(LINE)
    tolerances = [1e-3, 1e-5, 1e-7, 1e-9]
    found = [solve(marginal(LINE), NOISE, 1, "dopri5", path=LINE, tolerance=t) for t in tolerances]
    errors = [distance(each.x / (1 + exact.abs()), exact / (1 + exact.abs())) for each in found]
    assert all(error < 10 * allowed for error, allowed in zip(errors, tolerances, strict=True))
    assert all(finer < 0.1 * coarser for coarser, finer in pairwise(errors))
    assert all(finer.nfe > coarser.nfe for coarser, finer in pairwise(found))


def test_dopri5_says_that_it_cannot_keep_its_tolerance_at_a_singular_end() -> None:
    with pytest.raises(ArithmeticError, match=r"tolerance of 1e-05 in torch\.float32 .*underflow"):
        solve(lambda t, x: x * (1 - t).clamp_min(1e-12).rsqrt(), X.float(), 1, "dopri5")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("reverse", [False, True])
def test_dopri5_stays_within_the_paths_times(name: str, reverse: bool) -> None:
    """A velocity is not known outside [0, 1], so no step nor trial may leave the grid."""
    path = make_path(name)
    seen: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.append(float(t))
        return MIXTURE.marginal_velocity(x, t.clamp(0, 1), path)

    x = MIXTURE.means if reverse else path.prior.std * NOISE
    solve(field, x, 4, "dopri5", path=path, reverse=reverse, tolerance=1e-4)
    assert path.times[0] - 1e-12 <= min(seen) < max(seen) <= path.times[1] + 1e-12


class Float64Seen(TorchDispatchMode):
    """What operators have put out a float64 tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.dtype == torch.float64:
            self.operators.add(str(func))
        return out


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_is_float64_where_x_is_not(method: str, reverse: bool) -> None:
    """Some accelerators do not have it."""
    seen: set[torch.dtype] = set()
    x = NOISE.float()

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.update({t.dtype, x.dtype})
        return -t * x

    reverse = reverse and method != "dpm_multistep"  # which has one direction
    with Float64Seen() as found:
        solution = solve(field, x, 3, method, path=LINE, reverse=reverse)
    assert solution.x.dtype == solution.times.dtype == torch.float32
    assert seen == {torch.float32}
    assert not found.operators


def grown(method: str, grid: list[float], rate: Any) -> Any:
    """What a method multiplies x by on dx/dt = rate x over a grid, without calling it."""
    polynomial: dict[str, Callable[[Any], Any]] = {
        "euler": lambda z: 1 + z,
        "midpoint": lambda z: 1 + z + z**2 / 2,
        "heun": lambda z: 1 + z + z**2 / 2,
        "rk4": lambda z: 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24,
    }
    c, before, h_before = 1.0, None, None
    for s, t in pairwise(grid):
        h = t - s
        if method in polynomial:
            c = c * polynomial[method](rate * h)
        elif method == "adams_bashforth":
            now = rate * c
            w = 0.0 if before is None else h / h_before
            c = c + h * ((1 + w / 2) * now - (0.0 if before is None else w / 2 * before))
            before, h_before = now, h
        else:  # DPM-Solver++(2M) as in the paper: h in lambda, r = h_before / h, on LINE
            sigma_s, sigma_t = 1 - 0.9 * s, 1 - 0.9 * t
            h = math.log(t / sigma_t) - (math.log(s / sigma_s) if s else -math.inf)
            now = (sigma_s * rate + 0.9) * c  # x_1 = sigma v + (1 - sigma_min) x
            r = math.inf if before is None else h_before / h
            guess = now if before is None else (1 + 0.5 / r) * now - 0.5 / r * before
            c = sigma_t / sigma_s * c - t * math.expm1(-h) * guess
            before, h_before = now, h
    return c


@pytest.mark.parametrize("method", FIXED)
@on_grids
def test_a_linear_field_takes_the_methods_own_polynomial(method: str, times: list[float]) -> None:
    found = solve(lambda t, x: RATE * x, X, given(times), method, path=LINE)
    torch.testing.assert_close(found.x, X * grown(method, times, RATE), rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", [m for m in FIXED if m != "dpm_multistep"])
@on_grids
def test_reverse_takes_the_same_steps_backwards(method: str, times: list[float]) -> None:
    found = solve(lambda t, x: RATE * x, X, given(times), method, reverse=True)
    wanted = X * grown(method, times[::-1], RATE)
    torch.testing.assert_close(found.x, wanted, rtol=1e-12, atol=0)
    assert found.times.tolist() == times[::-1]


def test_a_number_of_steps_is_as_many_equal_ones_by_the_midpoint_method() -> None:
    found = solve(lambda t, x: RATE * x, X, 8)
    torch.testing.assert_close(found.times, torch.linspace(0, 1, 9, dtype=torch.float64))
    wanted = X * (1 + RATE / 8 + (RATE / 8) ** 2 / 2) ** 8
    torch.testing.assert_close(found.x, wanted, rtol=1e-12, atol=0)
    assert found.passes == found.nfe == 16  # a velocity that does not count its passes


@pytest.mark.parametrize("method", ["midpoint", "heun", "rk4", "adams_bashforth"])
def test_a_field_linear_in_time_is_integrated_exactly_after_the_first_step(method: str) -> None:
    """The multistep method knows nothing before its first step, Euler's, which lacks b h^2 / 2."""
    found = solve(lambda t, x: 2.0 + 3.0 * t + 0 * x, X, given(UNEVEN), method).x
    lacking = 3.0 * UNEVEN[1] ** 2 / 2 if method == "adams_bashforth" else 0.0
    torch.testing.assert_close(found, X + 3.5 - lacking, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", SOLVERS)
def test_the_straight_line_of_a_pair_is_followed_exactly_in_one_step(method: str) -> None:
    x0, x1 = NOISE[:5], NOISE[5:10] + 3
    found = solve(lambda t, x: x1 - 0.9 * x0, x0, 1, method, path=LINE).x
    torch.testing.assert_close(found, x1 + 0.1 * x0, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("path", [VariancePreserving(), Trigonometric()], ids=str)
@pytest.mark.parametrize("steps", [1, 5])
def test_dpm_multistep_follows_one_pair_exactly_on_a_bent_path(path: Path, steps: int) -> None:
    """Its steps are exact where x_1 does not change; Euler's leave the path."""
    x0, x1 = NOISE[:5], NOISE[5:10] + 3
    grid = make_grid(steps, within=(0.0, 0.9), dtype=torch.float64)

    def field(t: Tensor, x: Tensor) -> Tensor:
        return path.convert(x1, x, t, "x1", "velocity")

    start, end = (path.sample(x0, x1, t) for t in grid[[0, -1]])
    found = solve(field, start, grid, "dpm_multistep", path=path).x
    torch.testing.assert_close(found, end, rtol=1e-11, atol=1e-11)
    assert distance(solve(field, start, grid, "euler").x, end) > 1e-2


class Counted:
    """A velocity that runs a network three times, as guidance does, and was used before."""

    def __init__(self) -> None:
        self.passes = 7
        self.times: list[float] = []

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        self.passes += 3
        self.times.append(float(t))
        return -x


@pytest.mark.parametrize("method", FIXED)
@on_grids
def test_evaluations_are_at_the_methods_own_times(method: str, times: list[float]) -> None:
    field = Counted()
    found = solve(field, X, given(times), method, path=LINE)
    inside = {"midpoint": [0, 0.5], "heun": [0, 1], "rk4": [0, 1 / 3, 2 / 3, 1]}.get(method, [0])
    wanted = [s + part * (t - s) for s, t in pairwise(times) for part in inside]
    assert field.times == pytest.approx(wanted, abs=1e-12)
    assert found.nfe == len(wanted)
    assert found.passes == 3 * found.nfe


def test_dopri5_counts_its_evaluations_too() -> None:
    field = Counted()
    found = solve(field, X, 1, "dopri5", tolerance=1e-6)
    assert found.nfe == len(field.times) > 10
    assert found.passes == 3 * found.nfe


@pytest.mark.parametrize("method", ["midpoint", "heun", "rk4", "adams_bashforth", "dopri5"])
def test_reverse_undoes(method: str) -> None:
    there = solve(marginal(LINE), NOISE, 100, method, path=LINE)
    back = solve(marginal(LINE), there.x, 100, method, path=LINE, reverse=True)
    assert distance(back.x, NOISE) < 5e-4
    assert distance(there.x, NOISE) > 0.5


@pytest.mark.parametrize("method", SOLVERS)
def test_states_are_kept_at_the_grids_times(method: str) -> None:
    grid = given(UNEVEN)

    def run(grid: Tensor, keep_states: bool = False) -> Solution:
        return solve(lambda t, x: torch.cos(3 * t) - x, X, grid, method, path=LINE,
                     keep_states=keep_states, tolerance=1e-8)  # fmt: skip

    kept, plain = run(grid, True), run(grid)
    assert plain.states is None
    assert kept.states.shape == (7, *X.shape)
    assert torch.equal(kept.states[0], X)
    assert torch.equal(kept.states[-1], kept.x)
    assert method == "dopri5" or kept.nfe == plain.nfe
    close = {"rtol": 1e-6, "atol": 1e-6} if method == "dopri5" else {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(kept.x, plain.x, **close)
    for count in range(2, 7):
        torch.testing.assert_close(kept.states[count - 1], run(grid[:count]).x, **close)


@pytest.mark.parametrize("method", SOLVERS)
def test_gradients_flow_to_the_start_and_to_the_velocity(method: str) -> None:
    times = UNEVEN[1:]
    start = X.clone().requires_grad_()
    rate = torch.tensor(RATE, dtype=torch.float64, requires_grad=True)
    solve(lambda t, x: rate * x, start, given(times), method, path=LINE).x.sum().backward()
    other = torch.tensor(RATE, dtype=torch.float64, requires_grad=True)
    factor = torch.exp(other * 0.9) if method == "dopri5" else grown(method, times, other)
    (wanted,) = torch.autograd.grad(factor * X.sum(), other)
    tight = 1e-4 if method == "dopri5" else 1e-11
    torch.testing.assert_close(rate.grad, wanted, rtol=tight, atol=tight)
    torch.testing.assert_close(start.grad, factor.detach().expand_as(X), rtol=tight, atol=tight)


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        (0, "at least 1, found 0"),
        (-3, "at least 1, found -3"),
        ([0.0, 0.6, 0.5, 1.0], "must increase strictly, found 0, 0.6, 0.5, 1"),
        ([0.0, 0.5, 0.5], "must increase strictly"),
        ([1.0, 0.0], "must increase strictly"),
        ([-0.1, 1.0], r"lie in \[0, 1\], found -0.1, 1"),
        ([0.0, 1.5], r"lie in \[0, 1\]"),
        ([0.0, float("nan"), 1.0], r"lie in \[0, 1\]"),
        ([0.5], r"two times or more in a row, found \(1,\)"),
        ([[0.0, 1.0]], r"two times or more in a row, found \(1, 2\)"),
    ],
)
def test_no_steps_and_bad_grids_are_refused(steps: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        solve(lambda t, x: x, X, steps if isinstance(steps, int) else given(steps))


def test_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=f"'rk9' is not known: choose one of {', '.join(SOLVERS)}"):
        solve(lambda t, x: x, X, 4, "rk9")


@pytest.mark.parametrize(("path", "reverse"), [(None, False), (LINE, True)])
def test_dpm_multistep_needs_the_path_and_has_one_direction(path: Path, reverse: bool) -> None:
    with pytest.raises(ValueError, match="needs the path, and runs from noise to data alone"):
        solve(lambda t, x: x, X, 4, "dpm_multistep", path=path, reverse=reverse)
