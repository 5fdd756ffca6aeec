"""Drawn times against their closed-form distributions; grids against their formulas."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from voiceflow.flow.times import GRIDS, TIMES, check_grid, draw_times, given_grid, make_grid

MOST = 2 / (math.pi - 2)
Cdf = Callable[[np.ndarray], np.ndarray]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logit_normal(mean: float, std: float) -> Cdf:
    return lambda t: stats.norm.cdf((np.log(t) - np.log1p(-t) - mean) / std)


def mode_heavy(scale: float) -> Cdf:
    """t = f(u) falls from 1 to 0, so P(t <= x) = P(u >= f^-1(x)): the inverse from a fine table."""
    u = np.linspace(0, 1, 200_001)
    t = 1 - u - scale * (np.cos(np.pi * u / 2) ** 2 - 1 + u)
    return lambda x: 1 - np.interp(x, t[::-1], u[::-1])


# Keywords of draw_times beside the distribution function they stand for.
DRAWS: list[tuple[dict[str, object], Cdf]] = [
    ({"kind": "uniform"}, lambda t: t),
    ({"kind": "logit_normal"}, logit_normal(0, 1)),
    ({"kind": "logit_normal", "mean": 1.0, "std": 0.5}, logit_normal(1.0, 0.5)),
    ({"kind": "logit_normal", "mean": -0.5, "std": 2.0}, logit_normal(-0.5, 2.0)),
    ({"kind": "mode_heavy"}, mode_heavy(0.8)),
    ({"kind": "mode_heavy", "scale": 1.5}, mode_heavy(1.5)),
    ({"kind": "mode_heavy", "scale": -1.0}, mode_heavy(-1.0)),
    ({"kind": "mode_heavy", "scale": -0.4}, mode_heavy(-0.4)),
]
every_draw = pytest.mark.parametrize(("keywords", "cdf"), DRAWS)


def draw(count: int, seed: int = 0, **keywords: object) -> Tensor:
    return draw_times(count, generator=seeded(seed), **keywords)  # type: ignore[arg-type]


# Drawn times


@every_draw
@pytest.mark.parametrize("within", [(0.0, 1.0), (0.0, 1 - 1e-5), (0.2, 0.7)])
def test_draws_follow_their_closed_form(
    keywords: dict[str, object], cdf: Cdf, within: tuple[float, float]
) -> None:
    t = draw(20_000, within=within, **keywords)
    assert t.shape == (20_000,)
    assert t.dtype == torch.float32
    assert float(t.min()) >= within[0]
    assert float(t.max()) <= np.float32(within[1])
    u = ((t.double() - within[0]) / (within[1] - within[0])).clamp(1e-9, 1 - 1e-9).numpy()
    assert stats.kstest(u, cdf).pvalue > 0.01
    for other, unlike in DRAWS:  # the control: no other distribution fits
        if other != keywords:
            assert stats.kstest(u, unlike).pvalue < 1e-6


def test_a_positive_scale_leans_to_the_middle_and_a_positive_mean_to_the_data() -> None:
    def away(scale: float) -> float:
        return float((draw(20_000, kind="mode_heavy", scale=scale) - 0.5).abs().mean())

    assert away(1.0) < 0.22 < 0.25 == pytest.approx(away(0.0), abs=0.005)
    assert away(-0.8) > 0.28
    assert float(draw(20_000, kind="logit_normal", mean=1.0).mean()) > 0.6
    assert float(draw(20_000, kind="logit_normal", mean=-1.0).mean()) < 0.4


@every_draw
@pytest.mark.parametrize("count", [1, 7, 256])
def test_stratified_draws_put_one_in_each_equal_part(
    keywords: dict[str, object], cdf: Cdf, count: int
) -> None:
    for seed, within in ((0, (0.0, 1.0)), (1, (0.25, 0.75))):
        t = draw(count, seed, stratified=True, within=within, **keywords)
        u = (t.double() - within[0]) / (within[1] - within[0])
        part = np.floor(count * cdf(u.clamp(1e-9, 1 - 1e-9).numpy()))
        assert sorted(part.tolist()) == list(range(count))
        if count == 256:
            assert part.tolist() != sorted(part.tolist())  # in random order
            assert part.tolist() != sorted(part.tolist(), reverse=True)
            inside = count * cdf(u.numpy()) - part  # and anywhere in its part
            assert stats.kstest(inside, "uniform").pvalue > 0.01
            loose = np.floor(count * cdf(draw(count, **keywords).double().numpy()))
            assert len(set(loose.tolist())) < 200  # the control: free draws collide


@every_draw
@pytest.mark.parametrize("stratified", [False, True])
def test_the_generator_decides(keywords: dict[str, object], cdf: Cdf, stratified: bool) -> None:
    first, again, other = (draw(50, seed, stratified=stratified, **keywords) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    generator, state = seeded(3), torch.get_rng_state()
    one, two = (draw_times(50, "uniform", generator=generator) for _ in range(2))
    assert not torch.equal(one, two)  # it moves on
    assert torch.equal(torch.get_rng_state(), state)  # and torch's own does not


@pytest.mark.parametrize("stratified", [False, True])
def test_extreme_constants_still_give_times(stratified: bool) -> None:
    for keywords in (
        {"kind": "logit_normal", "mean": 30.0},
        {"kind": "logit_normal", "mean": -30.0, "std": 9.0},
        {"kind": "mode_heavy", "scale": MOST},
        {"kind": "mode_heavy", "scale": -1.0},
    ):
        t = draw(100_000, stratified=stratified, **keywords)
        assert bool(((t >= 0) & (t <= 1)).all())
    assert draw(0, stratified=stratified).shape == (0,)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"kind": "cosine"},
            "times 'cosine' are not known: choose one of uniform, logit_normal, m",
        ),
        ({"kind": "logit_normal", "std": 0.0}, r"std must be above 0, found 0\.0"),
        ({"kind": "logit_normal", "std": float("nan")}, "std must be above 0, found nan"),
        ({"kind": "mode_heavy", "scale": 1.76}, r"scale must lie in \[-1, 1\.7519\], found 1\.76"),
        ({"kind": "mode_heavy", "scale": -1.01}, r"scale must lie in .*, found -1\.01"),
        ({"within": (0.5, 0.5)}, r"0 <= first < last <= 1, found \(0\.5, 0\.5\)"),
        ({"within": (-0.1, 0.5)}, r"0 <= first < last <= 1, found \(-0\.1"),
        ({"within": (0.5, 1.1)}, r"0 <= first < last <= 1, found \(0\.5, 1\.1\)"),
    ],
)
def test_bad_arguments_of_draws_are_errors(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(4, **keywords)


# Grids

FORMULAS: dict[str, tuple[dict[str, object], Callable[[float], float]]] = {
    "uniform": ({}, lambda u: u),
    "cosine": ({}, lambda u: 1 - math.cos(math.pi * u / 2)),
    "sway": ({"sway": 0.7}, lambda u: u + 0.7 * (math.cos(math.pi * u / 2) - 1 + u)),
    "shifted": ({"shift": 3.0}, lambda u: 3 * u / (1 + 2 * u)),
}


def grid_of(steps: int, kind: str, **keywords: object) -> Tensor:
    return make_grid(steps, kind, **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 5, 32])
@pytest.mark.parametrize("within", [(0.0, 1.0), (0.0, 1 - 1e-5), (0.3, 0.8)])
def test_a_grid_is_its_formula(kind: str, steps: int, within: tuple[float, float]) -> None:
    keywords, formula = FORMULAS[kind]
    first, last = within
    wanted = [first + (last - first) * formula(i / steps) for i in range(steps + 1)]
    found = grid_of(steps, kind, within=within, dtype=torch.float64, **keywords)
    assert found.tolist() == pytest.approx(wanted, rel=1e-12, abs=1e-14)
    assert (float(found[0]), float(found[-1])) == within
    coarse = grid_of(steps, kind, within=within, **keywords)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, found.float(), rtol=1e-6, atol=1e-6)
    assert (coarse[0], coarse[-1]) == tuple(torch.tensor(within))


def test_known_values() -> None:
    assert make_grid(4).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert make_grid(2, "cosine")[1] == pytest.approx(1 - math.sqrt(0.5), rel=1e-6)
    assert make_grid(3, "cosine")[2] == pytest.approx(0.5, rel=1e-6)
    assert make_grid(2, "shifted")[1] == pytest.approx(1 / 3, rel=1e-6)  # shift is 0.5 unless given
    assert make_grid(2, "sway", sway=1.0)[1] == pytest.approx(math.sqrt(0.5), rel=1e-6)


def test_sway_of_minus_one_is_the_cosine_grid_and_of_none_the_uniform_one() -> None:
    for steps in (1, 7, 16, 500):
        cosine, uniform = (make_grid(steps, kind) for kind in ("cosine", "uniform"))
        torch.testing.assert_close(make_grid(steps, "sway", sway=-1.0), cosine)
        assert torch.equal(make_grid(steps, "sway"), make_grid(steps, "sway", sway=-1.0))
        torch.testing.assert_close(make_grid(steps, "sway", sway=0.0), uniform)
        torch.testing.assert_close(make_grid(steps, "shifted", shift=1.0), uniform)


def test_the_first_steps_of_a_long_grid_are_not_rounded_away() -> None:
    for kind, tolerance in (("cosine", 1e-5), ("sway", 1e-3)):
        fine = make_grid(1000, kind, dtype=torch.float64)[1:20]
        found = make_grid(1000, kind)[1:20].double()
        torch.testing.assert_close(found, fine, rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("kind", "keywords", "small_first"),
    [
        ("cosine", {}, True),
        ("sway", {"sway": -0.5}, True),
        ("sway", {"sway": 1.0}, False),
        ("shifted", {"shift": 0.2}, True),
        ("shifted", {"shift": 5.0}, False),
    ],
)
def test_which_end_has_the_small_steps(
    kind: str, keywords: dict[str, object], small_first: bool
) -> None:
    lengths = grid_of(16, kind, **keywords).diff().tolist()
    assert all((a < b) == small_first for a, b in pairwise(lengths))


STRICT: list[tuple[str, dict[str, object]]] = [
    *((kind, {}) for kind in GRIDS),
    *(("sway", {"sway": s}) for s in (-0.9, -0.5, 0.5, 1.0, 1.7)),
    *(("shifted", {"shift": s}) for s in (0.01, 0.1, 2.0, 10.0, 100.0)),
    *((kind, {"within": (0.0, 1 - 1e-5)}) for kind in GRIDS),
    *((kind, {"within": (0.5, 1.0)}) for kind in GRIDS),
]


@pytest.mark.parametrize(("kind", "keywords"), STRICT)
def test_grids_of_one_to_a_thousand_steps_increase_strictly_in_float32(
    kind: str, keywords: dict[str, object]
) -> None:
    first, last = keywords.get("within", (0.0, 1.0))  # type: ignore[misc]
    for steps in range(1, 1001):
        grid = grid_of(steps, kind, **keywords)
        assert grid.shape == (steps + 1,)
        assert grid[0] == first
        assert grid[-1] == torch.tensor(last)
        assert bool((grid.diff() > 0).all())


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((0,), {}, "steps must be at least 1, found 0"),
        ((-4, "cosine"), {}, "steps must be at least 1, found -4"),
        ((8, "square"), {}, "grid 'square' is not known: choose one of uniform, cosine, sway, sh"),
        ((8, "sway"), {"sway": -1.1}, r"sway must lie in \[-1, 1\.7\], found -1\.1"),
        ((8, "sway"), {"sway": 1.8}, r"sway must lie in .*, found 1\.8"),
        ((8, "shifted"), {"shift": 0.0}, r"shift must be above 0, found 0\.0"),
        ((8, "shifted"), {"shift": float("nan")}, "shift must be above 0, found nan"),
        ((2,), {"within": (0.5, 0.2)}, "increase strictly, found 0.5, 0.35, 0.2"),
        ((2,), {"within": (-1.0, 1.0)}, r"lie in \[0, 1\], found -1, 0, 1"),
    ],
)
def test_bad_arguments_of_grids_are_errors(
    arguments: tuple[object, ...], keywords: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_grid(*arguments, **keywords)  # type: ignore[arg-type]


def test_given_times_are_a_grid() -> None:
    grid = given_grid((0, 0.1, 0.75, 1))
    assert grid.dtype == torch.float32
    torch.testing.assert_close(grid, torch.tensor([0, 0.1, 0.75, 1.0]))
    assert check_grid(grid) is grid
    assert given_grid([0.2, 0.4]).shape == (2,)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], r"two times or more in a row, found \(0,\)"),
        ([0.5], r"two times or more in a row, found \(1,\)"),
        ([0, 0.5, 0.5, 1], "increase strictly, found 0, 0.5, 0.5, 1"),
        ([1.0, 0.0], "increase strictly, found 1, 0"),
        ([0.5, 0.5 + 1e-9], "increase strictly, found 0.5, 0.5"),
        ([-0.25, 1], r"lie in \[0, 1\], found -0\.25, 1"),
        ([0, 1.25], r"lie in \[0, 1\], found 0, 1\.25"),
        ([0, float("nan"), 1], r"lie in \[0, 1\], found 0, nan, 1"),
        ([0, float("inf")], r"lie in \[0, 1\], found 0, inf"),
    ],
)
def test_given_times_that_are_no_grid_are_an_error(times: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        given_grid(times)


def test_a_grid_has_one_axis_and_a_long_one_is_shown_in_part() -> None:
    with pytest.raises(ValueError, match=r"two times or more in a row, found \(2, 2\)"):
        check_grid(torch.rand(2, 2, generator=seeded()))
    with pytest.raises(ValueError, match=r"found 1, 0\.95, 0\.9, 0\.85, \.\.\., 0\.1, 0\.05, 0$"):
        check_grid(torch.linspace(1, 0, 21))


def test_every_kind_is_under_test() -> None:
    assert set(TIMES) == {str(keywords["kind"]) for keywords, _ in DRAWS}
    assert set(GRIDS) == set(FORMULAS)
