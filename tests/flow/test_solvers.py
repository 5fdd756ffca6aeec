"""Solvers against closed forms: order of convergence, cost, clamped context, Gaussian transport."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from voiceflow.flow.paths import OptimalTransport
from voiceflow.flow.solvers import SOLVERS, Solution, solve, solve_clamped

ORDER = {"euler": 1.0, "midpoint": 2.0}
EVALUATIONS = {"euler": 1, "midpoint": 2}
RATE = -1.3
X0 = torch.tensor([[1.0, -2.0], [0.3, 4.0]], dtype=torch.float64)

STEP_FACTOR: dict[str, Callable[[float], float]] = {
    "euler": lambda z: 1 + z,
    "midpoint": lambda z: 1 + z + z * z / 2,
}


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_a_linear_field_is_stepped_by_the_methods_own_polynomial(method: str, steps: int) -> None:
    solution = solve(lambda t, x: RATE * x, X0, steps, method)
    factor = STEP_FACTOR[method](RATE / steps) ** steps
    torch.testing.assert_close(solution.x, X0 * factor, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", SOLVERS)
def test_a_field_without_x_and_t_is_solved_exactly(method: str) -> None:
    target = torch.tensor([[2.0, 2.0], [-1.0, 7.0]], dtype=torch.float64)
    solution = solve(lambda t, x: target - X0, X0, 3, method)
    torch.testing.assert_close(solution.x, target, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("method", SOLVERS)
def test_order_of_convergence(method: str) -> None:
    # dx/dt = -2 t x has x(1) = x(0) / e.
    exact = X0 / math.e
    counts = [16, 32, 64, 128]
    errors = [
        float((solve(lambda t, x: -2 * t * x, X0, n, method).x - exact).abs().max())
        for n in counts
    ]
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes == pytest.approx([ORDER[method]] * 3, abs=0.15)


@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("steps", [1, 5, 16])
def test_evaluations_are_counted(method: str, steps: int) -> None:
    times: list[float] = []

    def field(t: Tensor, x: Tensor) -> Tensor:
        times.append(float(t))
        return torch.zeros_like(x)

    assert solve(field, X0, steps, method).nfe == len(times) == EVALUATIONS[method] * steps
    assert times == sorted(times)
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(1 - 1 / (EVALUATIONS[method] * steps))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_velocity_that_is_not_finite_is_named_with_its_time(bad: float) -> None:
    def field(t: Tensor, x: Tensor) -> Tensor:
        v = torch.zeros_like(x)
        if float(t) >= 0.5:
            v[0, 0] = bad
        return v

    with pytest.raises(FloatingPointError, match=r"t = 0\.5000"):
        solve(field, X0, 8, "euler")


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps(steps: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, found {steps}"):
        solve(lambda t, x: x, X0, steps)


def test_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'rk9' is not known: choose one of euler, midpoint"):
        solve(lambda t, x: x, X0, 4, "rk9")


@pytest.mark.parametrize("method", SOLVERS)
def test_precision_is_the_states(method: str) -> None:
    seen: set[torch.dtype] = set()

    def field(t: Tensor, x: Tensor) -> Tensor:
        seen.update({t.dtype, x.dtype})
        return x

    assert solve(field, X0.float(), 3, method).x.dtype == torch.float32
    assert seen == {torch.float32}


class Clamped:
    """One clamped solve of 2 x 7 frames of 3 bands, and all that the field was shown."""

    def __init__(self, method: str) -> None:
        generator = torch.Generator().manual_seed(1)
        self.path = OptimalTransport(0.01)
        self.x0 = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
        self.x1 = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
        self.mask = torch.zeros(2, 7, dtype=torch.bool)
        self.mask[0, 2:5] = True
        self.mask[1, 4:] = True
        self.shown: list[tuple[Tensor, Tensor]] = []
        self.solution: Solution = solve_clamped(
            self.field, self.x0, self.x1, self.mask, self.path.sample, 4, method
        )

    def field(self, t: Tensor, x: Tensor) -> Tensor:
        """Bends what is generated towards its item's mean; wild on context frames."""
        self.shown.append((t.clone(), x.clone()))
        v = x.mean(dim=(1, 2), keepdim=True) - x
        return torch.where(self.mask[..., None], v, 1e6)


@pytest.mark.parametrize("method", SOLVERS)
def test_context_is_on_its_path_at_every_evaluation_and_exact_at_the_end(method: str) -> None:
    run = Clamped(method)
    assert len(run.shown) == run.solution.nfe == 4 * EVALUATIONS[method]
    for t, x in run.shown:
        known = run.path.sample(run.x0, run.x1, t)
        torch.testing.assert_close(x[~run.mask], known[~run.mask], rtol=0, atol=0)
    assert torch.equal(run.solution.x[~run.mask], run.x1[~run.mask])


@pytest.mark.parametrize("method", SOLVERS)
def test_what_is_masked_is_integrated_as_if_context_were_given(method: str) -> None:
    run = Clamped(method)

    def alone(t: Tensor, generated: Tensor) -> Tensor:
        x = run.path.sample(run.x0, run.x1, t)
        x = x.masked_scatter(run.mask[..., None].expand_as(x), generated)
        return (x.mean(dim=(1, 2), keepdim=True) - x)[run.mask]

    wanted = solve(alone, run.x0[run.mask], 4, method).x
    torch.testing.assert_close(run.solution.x[run.mask], wanted, rtol=1e-12, atol=1e-12)
    assert (run.solution.x[run.mask] - run.x1[run.mask]).abs().min() > 1e-3


def test_gaussian_data_are_reached_by_their_closed_form_velocity() -> None:
    """x_1 ~ N(m, s^2): E[u_t | x_t = x] moves N(0, 1) to the data along the quantiles."""
    m, s = 1.5, 0.4
    path = OptimalTransport(0.0)

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        variance = (t * s) ** 2 + (1 - t) ** 2
        centred = x - t * m
        x1 = m + t * s * s / variance * centred
        x0 = (1 - t) / variance * centred
        return path.velocity(x0, x1)

    quantiles = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    x0 = torch.special.ndtri(quantiles)
    found = solve(velocity, x0, 64, "midpoint").x
    assert float(found.mean()) == pytest.approx(m, abs=1e-2)
    assert float(found.std()) == pytest.approx(s, abs=1e-2)
    torch.testing.assert_close(found, m + s * x0, rtol=0, atol=1e-2)
