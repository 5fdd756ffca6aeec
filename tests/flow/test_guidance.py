"""Guidance: its forms and their ends, rescaling, and whole solves of a conditional mixture."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.guidance import (
    Combine,
    Guided,
    against,
    apart,
    constant,
    guide,
    guide_apart,
    guide_by_scale,
    rescale,
    rescaled,
)
from voiceflow.flow.paths import OptimalTransport
from voiceflow.flow.solvers import Context, solve

CONDITIONAL = torch.tensor([1.0, -2.0, 0.5])
UNCONDITIONAL = torch.tensor([0.5, 3.0, 0.5])
OT = OptimalTransport(0.0)
STRENGTHS = [0.0, 0.7, 2.0, -0.5, -1.0]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Toy:
    """The closed-form velocity of four modes; the condition (B, 4) is how likely each is."""

    means = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])
    everything = torch.full((4,), 0.25)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.times: list[Tensor] = []

    def __call__(self, t: Tensor, x: Tensor, weights: Tensor) -> Tensor:
        assert t.shape == (len(x),) == (len(weights),)
        self.batches.append(len(x))
        self.times.append(t)
        return GaussianMixture(self.means, 0.5, weights).marginal_velocity(x, t, OT)


X0 = torch.randn(24, 2, generator=seeded())
MODE = torch.arange(24) % 4
ONE = torch.nn.functional.one_hot(MODE, 4).float()
TWO = 0.5 * ONE + 0.5 * ONE.roll(1, 1)
ALL = Toy.everything.expand(24, 4)


def by_scale(scale: float) -> Combine:
    return lambda v: guide_by_scale(v[0], v[1], scale)


def samples(combine: Combine, *branches: Tensor, steps: int = 16) -> Tensor:
    return solve(Guided(Toy(), [(branch,) for branch in branches], combine), X0, steps).x


def alone(weights: Tensor) -> Tensor:
    toy = Toy()
    return solve(lambda t, x: toy(t.expand(len(x)), x, weights), X0, 16).x


# The forms


@pytest.mark.parametrize("a", STRENGTHS)
def test_the_tutorials_form_has_w_one_larger(a: float) -> None:
    w = 1 + a
    tutorials = (1 - w) * UNCONDITIONAL + w * CONDITIONAL
    torch.testing.assert_close(guide(CONDITIONAL, UNCONDITIONAL, a), tutorials)
    torch.testing.assert_close(guide_by_scale(CONDITIONAL, UNCONDITIONAL, w), tutorials)


def test_none_is_the_conditional_and_minus_one_the_unconditional() -> None:
    for none, wanted in ((0.0, CONDITIONAL), (-1.0, UNCONDITIONAL)):
        assert torch.equal(guide(CONDITIONAL, UNCONDITIONAL, none), wanted)
        assert torch.equal(guide_by_scale(CONDITIONAL, UNCONDITIONAL, none + 1), wanted)


def test_guidance_leads_away_from_the_unconditional() -> None:
    guided = guide(CONDITIONAL, UNCONDITIONAL, 0.7)
    torch.testing.assert_close(guided - CONDITIONAL, 0.7 * (CONDITIONAL - UNCONDITIONAL))


@pytest.mark.parametrize("a", STRENGTHS)
def test_strengths_apart(a: float) -> None:
    full, audio, none = torch.randn(3, 5, 2, generator=seeded())
    together = guide_apart(full, audio, none, audio=a, text=a)
    torch.testing.assert_close(together, guide(full, none, a))
    # Without a text strength only the audio is stressed, beside the full model; and so in turn.
    only_audio = guide_apart(full, audio, none, audio=a, text=0.0)
    torch.testing.assert_close(only_audio, full + a * (audio - none))
    only_text = guide_apart(full, audio, none, audio=0.0, text=a)
    torch.testing.assert_close(only_text, guide(full, audio, a))
    assert torch.equal(guide_apart(full, audio, none, 0.0, 0.0), full)


@pytest.mark.parametrize("a", STRENGTHS)
def test_every_branch_is_left_by_its_own_strength(a: float) -> None:
    full, text, none = torch.randn(3, 5, 2, generator=seeded())
    torch.testing.assert_close(against(a)([full, none]), guide(full, none, a))
    torch.testing.assert_close(against(0.0, a)([full, none, text]), guide(full, text, a))
    # Unconditional, and with the text alone: `guide_apart` with text and audio changed about.
    found = against(0.3, a)([full, none, text])
    torch.testing.assert_close(found, guide_apart(full, text, none, audio=0.3, text=0.3 + a))
    with pytest.raises(ValueError, match="zip"):
        against(a)([full, none, text])


# Whole solves


@pytest.mark.parametrize("a", STRENGTHS)
def test_both_forms_give_the_same_samples(a: float) -> None:
    found = samples(constant(a), ONE, ALL)
    torch.testing.assert_close(found, samples(by_scale(1 + a), ONE, ALL), rtol=0, atol=1e-4)
    if a > 0:
        assert float((found - alone(ONE)).abs().mean()) > 0.05


def test_unguided_samples_are_the_conditional_models() -> None:
    conditional = alone(ONE)
    torch.testing.assert_close(samples(constant(0.0), ONE, ALL), conditional)
    torch.testing.assert_close(samples(by_scale(1.0), ONE, ALL), conditional)
    torch.testing.assert_close(samples(apart(0.0, 0.0), ONE, TWO, ALL), conditional)
    assert bool((torch.cdist(conditional, Toy.means).argmin(1) == MODE).all())


def test_samples_at_minus_one_are_the_unconditional_models() -> None:
    torch.testing.assert_close(samples(constant(-1.0), ONE, ALL), alone(ALL))
    torch.testing.assert_close(samples(by_scale(0.0), ONE, ALL), alone(ALL))
    torch.testing.assert_close(samples(apart(-1.0, -1.0), ONE, TWO, ALL), alone(ALL))
    torch.testing.assert_close(samples(apart(0.0, -1.0), ONE, TWO, ALL), alone(TWO))


@pytest.mark.parametrize("a", [0.7, -0.5])
def test_samples_with_strengths_apart(a: float) -> None:
    together = samples(apart(a, a), ONE, TWO, ALL)
    torch.testing.assert_close(together, samples(constant(a), ONE, ALL), rtol=0, atol=1e-4)
    text = samples(apart(0.0, a), ONE, TWO, ALL)
    torch.testing.assert_close(text, samples(constant(a), ONE, TWO), rtol=0, atol=1e-4)
    assert float((together - text).abs().mean()) > 0.02


def test_guidance_moves_samples_out_of_the_other_modes() -> None:
    """The mean distance from the origin along the mode's own direction grows with the strength."""
    direction = Toy.means[MODE] / 2
    along = [float((samples(constant(a), ONE, ALL) * direction).sum(1).mean()) for a in (0, 1, 2)]
    assert all(after > before + 0.1 for before, after in pairwise(along))


def test_a_known_context_is_known_to_every_branch() -> None:
    mask = torch.tensor([[True, False]]).expand(24, 2)
    known = Toy.means[MODE]
    seen: list[tuple[Tensor, Tensor]] = []

    def network(t: Tensor, x: Tensor, weights: Tensor) -> Tensor:
        seen.append((t, x))
        return Toy()(t, x, weights)

    guided = Guided(network, [(ONE,), (ALL,)], constant(0.7))
    found = solve(guided, X0, 4, context=Context(X0, known, mask, OT)).x
    assert torch.equal(found[:, 1], known[:, 1])
    for t, x in seen:
        assert len(x) == 48
        held = t[:24, None] * known + (1 - t[:24, None]) * X0
        torch.testing.assert_close(x[:, 1], held[:, 1].repeat(2))


# Rescaling


def test_rescaling_brings_the_deviation_back() -> None:
    guided = 3 * torch.randn(4, 6, 2, generator=seeded()) + 1
    conditional = torch.randn(4, 6, 2, generator=seeded(1))
    assert torch.equal(rescale(guided, conditional, 0.0), guided)
    before, wanted = (v.flatten(1).std(1, correction=0) for v in (guided, conditional))
    for amount in (0.3, 0.7, 1.0):
        found = rescale(guided, conditional, amount)
        deviation = found.flatten(1).std(1, correction=0)
        torch.testing.assert_close(deviation, (1 - amount) * before + amount * wanted)
        # The whole velocity is scaled, its mean too (Lin et al., eq. 15).
        torch.testing.assert_close(found, guided * (deviation / before)[:, None, None])


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_rescaling_looks_at_the_masked_elements_alone(axes: int) -> None:
    shape = (4, 6, 2)
    mask = torch.rand(shape[:axes], generator=seeded(2)) < 0.7
    mask.view(-1)[0] = False
    full = mask.reshape(*mask.shape, *(1,) * (3 - axes)).expand(shape)
    guided = torch.where(full, torch.randn(shape, generator=seeded()), torch.tensor(1e3))
    conditional = torch.where(full, torch.randn(shape, generator=seeded(1)), torch.tensor(-1e4))
    found = rescale(guided, conditional, 1.0, mask)
    for i in range(4):
        if not full[i].any():
            assert torch.equal(found[i], guided[i])
            continue
        wanted = conditional[i][full[i]].std(correction=0)
        torch.testing.assert_close(found[i][full[i]].std(correction=0), wanted)


def test_constant_velocities_have_no_deviation_to_bring_back() -> None:
    varied = torch.randn(1, 8, generator=seeded())
    still = torch.full((1, 8), 0.5)
    assert torch.equal(rescale(still, varied, 1.0), still)
    assert torch.equal(rescale(varied, still, 1.0), 0 * varied)
    assert bool(torch.isfinite(rescale(0 * still, 0 * still, 1.0)).all())


@pytest.mark.parametrize("value", [0.1, 0.3, 7.7])
def test_a_constant_that_rounds_is_still_constant(value: float) -> None:
    varied = torch.randn(1, 7, generator=seeded())
    still = torch.full((1, 7), value)
    torch.testing.assert_close(rescale(still, varied, 1.0), still)


def test_rescaling_refuses_other_amounts_and_shapes() -> None:
    v = torch.zeros(2, 3)
    for amount in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=rf"must lie in \[0, 1\], found {amount}"):
            rescale(v, v, amount)
    with pytest.raises(ValueError, match=r"one shape, found \(2, 3\) and \(2, 4\)"):
        rescale(v, torch.zeros(2, 4), 0.5)


def test_rescaled_combines_and_then_brings_back() -> None:
    branches = torch.randn(2, 4, 6, generator=seeded())
    mask = torch.rand(4, 6, generator=seeded(1)) < 0.6
    for chosen in (None, mask):
        wanted = rescale(guide(branches[0], branches[1], 2.0), branches[0], 0.7, chosen)
        assert torch.equal(rescaled(constant(2.0), 0.7, chosen)(list(branches)), wanted)
    found = samples(rescaled(constant(2.0), 0.0), ONE, ALL)
    torch.testing.assert_close(found, samples(constant(2.0), ONE, ALL))


# One batched pass


@pytest.mark.parametrize("count", [2, 3])
def test_all_branches_run_in_one_batch_in_their_order(count: int) -> None:
    toy, given = Toy(), [ONE, TWO, ALL][:count]
    seen: list[Tensor] = []

    def combine(v: Sequence[Tensor]) -> Tensor:
        seen.extend(v)
        return v[0]

    guided = Guided(toy, [(branch,) for branch in given], combine)
    found = guided(torch.tensor(0.3), X0)
    assert toy.batches == [24 * count]
    assert guided.passes == count
    for velocity, weights in zip(seen, given, strict=True):
        torch.testing.assert_close(velocity, Toy()(torch.full((24,), 0.3), X0, weights))
    assert torch.equal(found, seen[0])


def test_a_branch_may_have_many_conditions_of_many_shapes() -> None:
    shown: list[tuple[Tensor, ...]] = []

    def network(t: Tensor, x: Tensor, *conditions: Tensor) -> Tensor:
        shown.append(conditions)
        return x

    text, audio = torch.arange(6).reshape(2, 3), torch.randn(2, 5, 4, generator=seeded())
    Guided(network, [(text, audio), (-text, 0 * audio)], constant(1.0))(
        torch.tensor(0.5), torch.zeros(2, 5, 4)
    )
    assert torch.equal(shown[0][0], torch.cat([text, -text]))
    assert torch.equal(shown[0][1], torch.cat([audio, 0 * audio]))


def test_each_item_has_its_own_time_and_is_worth_the_same_alone() -> None:
    t = torch.rand(24, generator=seeded(3))
    found = Guided(Toy(), [(ONE,), (ALL,)], constant(0.7))(t, X0)
    for i in range(24):
        one = Guided(Toy(), [(ONE[i : i + 1],), (ALL[i : i + 1],)], constant(0.7))
        torch.testing.assert_close(one(t[i], X0[i : i + 1]), found[i : i + 1])


@pytest.mark.parametrize(("method", "evaluations"), [("euler", 8), ("midpoint", 16)])
def test_a_solution_tells_its_passes(method: str, evaluations: int) -> None:
    toy = Toy()
    guided = Guided(toy, [(ONE,), (TWO,), (ALL,)], apart(0.5, 0.5))
    for _ in range(2):  # a second solve counts its own
        solution = solve(guided, X0, 8, method)
        assert solution.nfe == evaluations
        assert solution.passes == 3 * evaluations
    assert guided.passes == 6 * evaluations == sum(toy.batches) // 24


# The interval


def test_outside_the_interval_the_conditional_runs_alone() -> None:
    toy = Toy()
    guided = Guided(toy, [(ONE,), (ALL,)], constant(0.7), (0.25, 0.5))
    solution = solve(guided, X0, 8, "euler")
    assert toy.batches == [24, 24, 48, 48, 48, 24, 24, 24]  # at 0, 1/8, ... 7/8
    assert solution.nfe == 8
    assert solution.passes == guided.passes == 11
    for t in (0.1, 0.3):
        time = torch.tensor(t)
        conditional, other = (Toy()(time.expand(24), X0, weights) for weights in (ONE, ALL))
        wanted = conditional if t < 0.25 else guide(conditional, other, 0.7)
        torch.testing.assert_close(guided(time, X0), wanted)


def test_the_interval_of_everything_and_of_one_time() -> None:
    always = Guided(Toy(), [(ONE,), (ALL,)], constant(0.7), (0.0, 1.0))
    assert solve(always, X0, 8).passes == 32
    once = Guided(Toy(), [(ONE,), (ALL,)], constant(0.7), (0.5, 0.5))
    assert solve(once, X0, 8, "euler").passes == 9


def test_the_interval_has_both_its_ends_in_float32() -> None:
    for first, last, inside in ((0.2, 0.8, 7), (0.7, 0.9, 3)):
        guided = Guided(Toy(), [(ONE,), (ALL,)], constant(0.7), (first, last))
        assert solve(guided, X0, 10, "euler").passes == 10 + inside


def test_the_interval_is_each_items_own() -> None:
    t = torch.linspace(0, 1, 24)
    found = Guided(Toy(), [(ONE,), (ALL,)], constant(0.7), (0.25, 0.75))(t, X0)
    conditional, other = (Toy()(t, X0, weights) for weights in (ONE, ALL))
    inside = ((t >= 0.25) & (t <= 0.75))[:, None]
    wanted = torch.where(inside, guide(conditional, other, 0.7), conditional)
    torch.testing.assert_close(found, wanted)


def test_what_cannot_be_guided_is_refused() -> None:
    with pytest.raises(ValueError, match="two branches or more, found 1"):
        Guided(Toy(), [(ONE,)], constant(0.7))
    for other in ((ONE[:5],), (ONE, ONE), ()):
        with pytest.raises(ValueError, match="must have the same shapes, found"):
            Guided(Toy(), [(ONE,), other], constant(0.7))
    for interval in ((-0.1, 1.0), (0.0, 1.1), (0.6, 0.4), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\] and not fall"):
            Guided(Toy(), [(ONE,), (ALL,)], constant(0.7), interval)


# What is prepared


@pytest.mark.parametrize(("interval", "times"), [((0.0, 1.0), 1), ((0.25, 0.5), 2)])
def test_conditions_are_prepared_once(interval: tuple[float, float], times: int) -> None:
    """Those of all branches together, and of the first where it runs alone as well."""
    toy, made = Toy(), []

    def prepare(weights: Tensor) -> tuple[str, Tensor]:
        made.append(weights)
        return "prepared", weights

    def network(t: Tensor, x: Tensor, said: str, weights: Tensor) -> Tensor:
        assert said == "prepared"
        return toy(t, x, weights)

    guided = Guided(network, [(ONE,), (ALL,)], constant(0.7), interval, prepare)
    found = solve(guided, X0, 8, "euler")
    wanted = solve(Guided(Toy(), [(ONE,), (ALL,)], constant(0.7), interval), X0, 8, "euler")
    assert torch.equal(found.x, wanted.x)
    assert found.passes == wanted.passes
    assert [len(weights) for weights in made] == [48, 24][:times]
