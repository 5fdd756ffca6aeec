"""The sampler against closed forms, and what a sample must not depend on."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from voiceflow.config import SampleConfig, UserError, VelocityConfig, load_group
from voiceflow.data.masking import generator_for
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import sample, windows
from voiceflow.models.velocity import VelocityNetwork
from voiceflow.text.phones import NONE, PhoneTable

N_MELS = 4
TABLE = PhoneTable([NONE, "A", "B", "C"])
WHOLE = 10_000  # context_frames that no plan here reaches
SETTINGS = SampleConfig(steps=3, guidance=0.0, context_frames=WHOLE)


def plan_of(*gaps: tuple[int, int], n_frames: int = 60) -> Plan:
    """A B C A B C ... of five frames each, with random context and gaps anywhere."""
    generator = torch.Generator().manual_seed(n_frames)
    mask = torch.zeros(n_frames, dtype=torch.bool)
    for first, last in gaps:
        mask[first:last] = True
    context = torch.randn(n_frames, N_MELS, generator=generator)
    context[mask] = 0
    phones = tuple("ABC"[i % 3] for i in range(n_frames // 5))
    return Plan(phones, (5,) * len(phones), context, mask, gaps)


class Field(nn.Module):
    """A network that is a plain function, and remembers what it was shown."""

    def __init__(self, field: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.field = field
        self.shown: list[tuple[Tensor, ...]] = []

    def forward(
        self, xt: Tensor, context: Tensor, phones: Tensor, t: Tensor, lengths: Tensor
    ) -> Tensor:
        assert lengths.tolist() == [xt.shape[1]] * len(xt)
        self.shown.append((xt, context, phones, t))
        return self.field(xt, context, phones, t[:, None, None])


def target_of(phones: Tensor) -> Tensor:
    """(..., T) -> (..., T, M): where each phone's frames shall end."""
    return phones[..., None] * torch.tensor([1.0, -2.0, 0.5, 3.0])


def to_target(x: Tensor, context: Tensor, phones: Tensor, t: Tensor) -> Tensor:
    return (target_of(phones) - x) / (1 - t)


def local(x: Tensor, context: Tensor, phones: Tensor, t: Tensor) -> Tensor:
    """Of a frame's own state, context, phone and time alone; not a straight line."""
    return torch.tanh(x) * phones[..., None] + context - t


@pytest.fixture(scope="module")
def network() -> VelocityNetwork:
    """A tiny network with attention over everything, whose output is not zero."""
    torch.manual_seed(0)
    made = VelocityNetwork(load_group(VelocityConfig, "model", "tiny"), len(TABLE), N_MELS)
    nn.init.normal_(made.output.weight, std=0.3)
    return made.eval()


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_windows_are_the_masked_frames_with_their_context(
    masked: list[bool], context_frames: int
) -> None:
    mask = torch.tensor(masked, dtype=torch.bool)
    found = windows(mask, context_frames)
    near = {
        i + by
        for i in mask.nonzero().flatten().tolist()
        for by in range(-context_frames, context_frames + 1)
        if 0 <= i + by < len(mask)
    }
    covered = [i for window in found for i in range(window.start, window.stop)]
    assert covered == sorted(near)
    assert all(left.stop < right.start for left, right in pairwise(found))


def test_windows_by_hand() -> None:
    mask = plan_of((10, 12), (18, 20), (40, 41)).mask
    assert windows(mask, 2) == [slice(8, 14), slice(16, 22), slice(38, 43)]
    assert windows(mask, 3) == [slice(7, 23), slice(37, 44)]
    assert windows(mask, 4) == [slice(6, 24), slice(36, 45)]
    assert windows(mask, WHOLE) == [slice(0, 60)]


@pytest.mark.parametrize("context_frames", [1, 4, WHOLE])
@pytest.mark.parametrize("gaps", [[(10, 22)], [(0, 7), (30, 31)], [(50, 60)], [(0, 60)]])
def test_a_field_towards_the_phones_ends_on_them(
    gaps: list[tuple[int, int]], context_frames: int
) -> None:
    plan = plan_of(*gaps)
    settings = replace(SETTINGS, solver="euler", context_frames=context_frames)
    drawn = sample(Field(to_target), plan, TABLE, settings, seed=0, count=2)
    phones = torch.tensor(TABLE.ids(plan.phones)).repeat_interleave(5)
    wanted = torch.where(plan.mask[:, None], target_of(phones), plan.context)
    torch.testing.assert_close(drawn.mel, wanted.expand(2, -1, -1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("guidance", [0.7, 2.0, -0.5])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_guidance_weighs_the_branches_and_temperature_the_noise(
    guidance: float, temperature: float
) -> None:
    """Constant velocities: 3 with the condition, 1 without; noise moves by their mixture."""
    plan = plan_of((10, 22))
    field = Field(lambda x, c, p, t: torch.where(p[..., None] > 0, 3.0, 1.0).expand_as(x))
    settings = replace(SETTINGS, guidance=guidance, temperature=temperature)
    drawn = sample(field, plan, TABLE, settings, seed=4)
    noise = torch.randn(60, N_MELS, generator=generator_for("sample", 4))
    wanted = temperature * noise + (1 + guidance) * 3 - guidance
    torch.testing.assert_close(drawn.mel[0, 10:22], wanted[10:22], rtol=1e-6, atol=1e-5)


def test_temperature_leaves_the_context_on_its_own_path() -> None:
    plan, shown = plan_of((10, 22)), []
    for temperature in (1.0, 0.25):
        field = Field(local)
        sample(field, plan, TABLE, replace(SETTINGS, temperature=temperature), seed=0)
        shown.append(torch.stack([x[0] for x, *_ in field.shown]))
    warm, cold = shown
    assert torch.equal(warm[:, ~plan.mask], cold[:, ~plan.mask])
    assert torch.equal(0.25 * warm[0, plan.mask], cold[0, plan.mask])


def test_the_second_branch_is_shown_the_same_state_without_context_and_phones() -> None:
    plan = plan_of((10, 22))
    field = Field(local)
    sample(field, plan, TABLE, replace(SETTINGS, guidance=0.5), seed=0, count=2)
    phones = torch.tensor(TABLE.ids(plan.phones)).repeat_interleave(5)
    for x, context, shown_phones, t in field.shown:
        assert torch.equal(x[:2], x[2:])
        assert len(set(t.tolist())) == 1
        assert torch.equal(context[:2], plan.context.expand(2, -1, -1))
        assert torch.equal(shown_phones[:2], phones.expand(2, -1))
        assert not context[2:].any()
        assert not shown_phones[2:].any()


@pytest.mark.parametrize("guidance", [0.0, 0.7])
@pytest.mark.parametrize("context_guidance", [1.5, -0.5])
def test_context_guidance_leads_away_from_the_text_alone(
    guidance: float, context_guidance: float
) -> None:
    """Constant velocities: 4 with context and phones, 3 with phones alone, 1 with neither."""

    def velocity(x: Tensor, c: Tensor, p: Tensor, t: Tensor) -> Tensor:
        heard = c.abs().amax((1, 2), keepdim=True) > 0
        return torch.where(p[..., None] > 0, torch.where(heard, 4.0, 3.0), 1.0).expand_as(x)

    plan, field = plan_of((25, 60)), Field(velocity)
    settings = replace(SETTINGS, guidance=guidance, context_guidance=context_guidance)
    drawn = sample(field, plan, TABLE, settings, seed=4)
    noise = torch.randn(60, N_MELS, generator=generator_for("sample", 4))
    wanted = noise + 4 + guidance * 3 + context_guidance * 1
    torch.testing.assert_close(drawn.mel[0, 25:], wanted[25:], rtol=1e-6, atol=1e-5)
    phones = torch.tensor(TABLE.ids(plan.phones)).repeat_interleave(5)
    for x, context, shown, _ in field.shown:
        assert torch.equal(x, x[:1].expand_as(x))
        assert torch.equal(shown[-1], phones)
        assert not context[-1].any()


@pytest.mark.parametrize("gap", [(0, 60), (10, 22)])
def test_context_guidance_is_of_gaps_with_context_on_one_side(gap: tuple[int, int]) -> None:
    """Without any there is nothing to lead from; between two sides it is left out."""
    plan = plan_of(gap)
    settings = replace(SETTINGS, guidance=0.7)
    wanted = sample(Field(local), plan, TABLE, settings, seed=0)
    found = sample(Field(local), plan, TABLE, replace(settings, context_guidance=2.0), seed=0)
    assert torch.equal(found.mel, wanted.mel)
    assert found.network_passes == wanted.network_passes


@pytest.mark.parametrize(("solver", "evaluations"), [("euler", 5), ("midpoint", 10)])
@pytest.mark.parametrize(("guidance", "branches"), [(0.0, 1), (0.7, 2)])
@pytest.mark.parametrize(("context_frames", "n_windows"), [(3, 2), (WHOLE, 1)])
def test_what_a_sample_costs(
    solver: str, evaluations: int, guidance: float, branches: int, context_frames: int,
    n_windows: int,
) -> None:  # fmt: skip
    field = Field(local)
    settings = SampleConfig(
        steps=5, solver=solver, guidance=guidance, context_frames=context_frames
    )
    drawn = sample(field, plan_of((10, 12), (40, 45)), TABLE, settings, seed=0, count=3)
    assert drawn.nfe == len(field.shown) == evaluations * n_windows
    assert drawn.network_passes == branches * drawn.nfe
    assert {len(x) for x, *_ in field.shown} == {3 * branches}


@pytest.mark.parametrize("guidance", [0.0, 0.7])
def test_context_is_returned_exactly(network: VelocityNetwork, guidance: float) -> None:
    plan = plan_of((10, 22), (40, 45))
    for context_frames in (4, WHOLE):
        settings = replace(SETTINGS, guidance=guidance, context_frames=context_frames)
        mel = sample(network, plan, TABLE, settings, seed=1, count=2).mel
        assert mel.dtype == torch.float32
        assert torch.equal(mel[:, ~plan.mask], plan.context[~plan.mask].expand(2, -1, -1))


@pytest.mark.parametrize("context_frames", [4, WHOLE])
def test_a_batch_is_its_seeds_one_by_one(network: VelocityNetwork, context_frames: int) -> None:
    plan = plan_of((10, 22), (40, 45))
    settings = replace(SETTINGS, guidance=0.7, context_frames=context_frames)
    batch = sample(network, plan, TABLE, settings, seed=5, count=3).mel
    singles = [sample(network, plan, TABLE, settings, seed=5 + k).mel[0] for k in range(3)]
    torch.testing.assert_close(batch, torch.stack(singles), rtol=1e-5, atol=1e-5)
    apart = [float((a - b).abs().max()) for a, b in pairwise(singles)]
    assert min(apart) > 0.5


def test_a_sample_depends_on_its_seed_alone(network: VelocityNetwork) -> None:
    plan = plan_of((10, 22))
    first = sample(network, plan, TABLE, SETTINGS, seed=3).mel
    torch.manual_seed(99)
    assert torch.equal(sample(network, plan, TABLE, SETTINGS, seed=3).mel, first)


def test_nothing_to_generate_costs_nothing() -> None:
    plan = plan_of()
    drawn = sample(Field(local), plan, TABLE, SETTINGS, seed=0, count=2)
    assert torch.equal(drawn.mel, plan.context.expand(2, -1, -1))
    assert (drawn.nfe, drawn.network_passes) == (0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 59), st.integers(1, 8)), min_size=1, max_size=4),
    st.integers(1, 20),
)
def test_a_local_field_gives_the_same_through_any_window(
    gaps: list[tuple[int, int]], context_frames: int
) -> None:
    plan = plan_of(*((first, min(first + n, 60)) for first, n in gaps))
    settings = replace(SETTINGS, guidance=0.7)
    whole = sample(Field(local), plan, TABLE, settings, seed=2).mel
    cut = sample(
        Field(local), plan, TABLE, replace(settings, context_frames=context_frames), seed=2
    ).mel
    torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-5)


def test_frames_beyond_the_window_have_no_influence(network: VelocityNetwork) -> None:
    plan = plan_of((20, 25), (28, 30))
    settings = replace(SETTINGS, guidance=0.7, context_frames=6)
    before = sample(network, plan, TABLE, settings, seed=0).mel[0]

    def with_noise(frames: slice) -> Tensor:
        context = plan.context.clone()
        context[frames] = 5.0
        return sample(network, replace(plan, context=context), TABLE, settings, seed=0).mel[0]

    for beyond in (slice(0, 14), slice(36, 60)):
        assert torch.equal(with_noise(beyond)[plan.mask], before[plan.mask])
    for within in (slice(0, 15), slice(35, 60), slice(26, 27)):
        assert not torch.equal(with_noise(within)[plan.mask], before[plan.mask])


def test_gaps_that_share_a_window_see_each_other(network: VelocityNetwork) -> None:
    """The far gap's phones matter where the windows touch, and not where they do not."""
    plan = plan_of((20, 25), (30, 35))
    phones = list(plan.phones)
    phones[6] = "C"
    other = replace(plan, phones=tuple(phones))
    assert other != plan
    for context_frames, alike in ((2, True), (3, False)):
        settings = replace(SETTINGS, context_frames=context_frames)
        a, b = (sample(network, p, TABLE, settings, seed=0).mel[0] for p in (plan, other))
        assert torch.equal(a[20:25], b[20:25]) == alike
        assert not torch.equal(a[30:35], b[30:35])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"solver": "rk9"}, "solver 'rk9' is not one of euler, midpoint"),
        ({"steps": 0}, "steps must be at least 1, found 0"),
        ({"context_frames": 0}, "context_frames must be at least 1, found 0"),
        ({"temperature": -0.1}, "temperature must be 0 or more, found -0.1"),
        ({"temperature": float("nan")}, "temperature must be 0 or more, found nan"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, object], why: str) -> None:
    with pytest.raises(UserError, match=why):
        sample(Field(local), plan_of((1, 2)), TABLE, replace(SETTINGS, **wrong), seed=0)


def test_a_phone_that_the_table_lacks() -> None:
    plan = replace(plan_of((1, 2), n_frames=5), phones=("Q",))
    with pytest.raises(UserError, match="'Q' is not in the model's table"):
        sample(Field(local), plan, TABLE, SETTINGS, seed=0)


def test_what_begins_near_a_sound_is_the_path_from_it() -> None:
    """With a velocity of zero the result is the path at t; with the true one, the target."""
    from voiceflow.generation.sample import Near

    plan = plan_of((20, 40))
    sound = torch.full((60, N_MELS), 3.0)
    still = Field(lambda x, context, phones, t: torch.zeros_like(x))
    drawn = sample(still, plan, TABLE, SETTINGS, 5, near=Near(sound, 0.75))
    noise = torch.randn(60, N_MELS, generator=generator_for("sample", 5))
    sigma = 1 - (1 - 1e-5) * 0.75
    expected = 0.75 * sound + sigma * noise
    torch.testing.assert_close(drawn.mel[0, 20:40], expected[20:40], rtol=1e-3, atol=1e-3)
    assert torch.equal(drawn.mel[0, :20], plan.context[:20])
    assert all(float(t.min()) >= 0.75 for *_, t in still.shown)
    drawn = sample(Field(to_target), plan, TABLE, SETTINGS, 5, near=Near(sound, 0.75))
    phones = torch.tensor(TABLE.ids(plan.phones)).repeat_interleave(5)
    torch.testing.assert_close(drawn.mel[0, 20:40], target_of(phones)[20:40], rtol=0, atol=1e-3)


@pytest.mark.parametrize("t", [0.0, 1.0, -0.1])
def test_a_beginning_that_is_none(t: float) -> None:
    from voiceflow.generation.sample import Near

    with pytest.raises(UserError, match="must lie between 0 and 1"):
        sample(Field(to_target), plan_of((20, 40)), TABLE, SETTINGS, 0,
               near=Near(torch.zeros(60, N_MELS), t))  # fmt: skip


@pytest.mark.parametrize(("guidance", "context_guidance"), [(0.0, 0.0), (0.7, 0.0), (0.7, 1.2)])
def test_many_plans_together_are_each_alone(guidance: float, context_guidance: float) -> None:
    """Of other lengths, with one gap or two, with context or none, in batches of any size."""
    from voiceflow.generation.sample import sample_many

    torch.manual_seed(0)
    config = replace(load_group(VelocityConfig, "model", "tiny"))
    network = VelocityNetwork(config, len(TABLE.symbols), N_MELS).eval()
    plans = [
        plan_of((20, 40)), plan_of((5, 10), (50, 70), n_frames=100), plan_of((0, 35), n_frames=35),
        plan_of((60, 90), n_frames=150),
    ]  # fmt: skip
    settings = replace(
        SETTINGS, guidance=guidance, context_guidance=context_guidance, context_frames=20
    )
    alone = [sample(network, p, TABLE, settings, seed) for seed, p in enumerate(plans)]
    for most in (1, 150, 10_000):
        together = sample_many(network, plans, TABLE, settings, [0, 1, 2, 3], batch_frames=most)
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one.mel, other.mel, rtol=0, atol=1e-4)
            assert (one.nfe, one.network_passes) == (other.nfe, other.network_passes)
