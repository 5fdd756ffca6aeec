"""What is known stays on its path: for every solver, and for the random walk."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from voiceflow.flow.path import Field, Path
from voiceflow.flow.paths import OptimalTransport, VariancePreserving
from voiceflow.flow.solvers import SOLVERS, Context, Solution, solve
from voiceflow.flow.stochastic import solve_stochastic

SAMPLERS = [*SOLVERS, "stochastic"]
PATHS = [OptimalTransport(0.01), VariancePreserving()]
SHAPE = (2, 7, 3)

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def drawn(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def spans() -> Tensor:
    """A span to generate in each of 2 items of 7 frames."""
    mask = torch.zeros(2, 7, dtype=torch.bool)
    mask[0, 2:5] = True
    mask[1, 4:] = True
    return mask


def full(mask: Tensor) -> Tensor:
    """The mask over every element."""
    return mask.reshape(mask.shape + (1,) * (3 - mask.dim())).expand(SHAPE)


MASKS = {
    "frames (B, T)": spans(),
    "items (B,)": torch.tensor([True, False]),
    "elements (B, T, M)": drawn(9) > 0,
}


def to_its_items_mean(t: Tensor, x: Tensor) -> Tensor:
    """Bends every element towards what all of its item are, context and all."""
    return x.mean(dim=(1, 2), keepdim=True) - x


def sample(
    sampler: str,
    velocity: Field,
    x: Tensor,
    path: Path,
    steps: int | Tensor = 4,
    context: Context | None = None,
    keep_states: bool = False,
) -> Solution:
    """Any solver, or the random walk, with the same draws in every call."""
    if sampler == "stochastic":
        generator = torch.Generator().manual_seed(5)
        return solve_stochastic(
            velocity, x, path, steps, context=context, generator=generator, keep_states=keep_states
        )
    return solve(
        velocity, x, steps, sampler, path=path, context=context, keep_states=keep_states,
        tolerance=1e-9,
    )  # fmt: skip


class Held:
    """One run with context from a start of its own, and all that the velocity was shown."""

    def __init__(self, sampler: str, path: Path, mask: Tensor) -> None:
        self.x0, self.x1, self.start = drawn(1), drawn(2), drawn(3)
        self.path, self.mask = path, full(mask)
        self.shown: list[tuple[Tensor, Tensor]] = []
        context = Context(self.x0, self.x1, mask, path)
        self.solution = sample(sampler, self.velocity, self.start, path, context=context)

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """Wild on context, as an untrained output may be."""
        self.shown.append((t.clone(), x.clone()))
        return torch.where(self.mask, to_its_items_mean(t, x), 1e6)


@every_sampler
@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_context_is_on_its_path_at_every_evaluation_and_its_data_at_the_end(
    sampler: str, path: Path, mask: Tensor
) -> None:
    run = Held(sampler, path, mask)
    assert len(run.shown) == run.solution.nfe >= 4
    for t, x in run.shown:
        known = path.sample(run.x0, run.x1, t)
        assert torch.equal(x[~run.mask], known[~run.mask])
    assert torch.equal(run.solution.x[~run.mask], run.x1[~run.mask])


@every_sampler
@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_what_is_masked_is_sampled_as_if_context_were_given(
    sampler: str, path: Path, mask: Tensor
) -> None:
    """As by a velocity that puts the context on its path for itself."""
    run = Held(sampler, path, mask)

    def knowing(t: Tensor, x: Tensor) -> Tensor:
        x = torch.where(run.mask, x, path.sample(run.x0, run.x1, t))
        return torch.where(run.mask, to_its_items_mean(t, x), 0.0)

    wanted = sample(sampler, knowing, run.start, path).x
    close = 1e-5 if sampler == "dopri5" else 1e-12
    found = run.solution.x
    torch.testing.assert_close(found[run.mask], wanted[run.mask], rtol=close, atol=close)
    assert (found[run.mask] - run.start[run.mask]).abs().min() > 1e-4


@pytest.mark.parametrize("sampler", SOLVERS)
def test_what_is_masked_alone_is_the_same_state_to_integrate(sampler: str) -> None:
    """The masked elements taken out, as a vector, and solved without any context."""
    run = Held(sampler, PATHS[0], spans())

    def alone(t: Tensor, generated: Tensor) -> Tensor:
        x = run.path.sample(run.x0, run.x1, t).masked_scatter(run.mask, generated)
        return to_its_items_mean(t, x)[run.mask]

    wanted = sample(sampler, alone, run.start[run.mask], run.path).x
    close = 1e-5 if sampler == "dopri5" else 1e-12
    torch.testing.assert_close(run.solution.x[run.mask], wanted, rtol=close, atol=close)


@every_sampler
@pytest.mark.parametrize("whole", [True, False])
def test_an_item_masked_whole_has_no_context_and_one_masked_nowhere_is_its_data(
    sampler: str, whole: bool
) -> None:
    x0, x1, start, path = drawn(1), drawn(2), drawn(3), PATHS[0]
    context = Context(x0, x1, torch.full((2,), whole), path)
    found = sample(sampler, to_its_items_mean, start, path, context=context).x
    wanted = sample(sampler, to_its_items_mean, start, path).x if whole else x1
    assert torch.equal(found, wanted)


@every_sampler
def test_kept_states_have_the_context_on_its_path(sampler: str) -> None:
    x0, x1, mask, path = drawn(1), drawn(2), spans(), PATHS[0]
    grid = torch.tensor([0.1, 0.3, 0.45, 0.7, 0.9, 1.0], dtype=torch.float64)
    context = Context(x0, x1, mask, path)
    solution = sample(sampler, to_its_items_mean, drawn(3), path, grid, context, keep_states=True)
    assert solution.states is not None
    assert torch.equal(solution.states[-1], solution.x)
    for t, state in zip(grid[:-1], solution.states[:-1], strict=True):
        assert torch.equal(state[~mask], path.sample(x0, x1, t)[~mask])


@every_sampler
def test_a_velocity_need_not_be_finite_on_context(sampler: str) -> None:
    """Nobody trained it there, and nobody looks."""
    x0, x1, mask, path = drawn(1), drawn(2), spans(), PATHS[0]

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        return torch.where(full(mask), to_its_items_mean(t, x), torch.nan)

    context = Context(x0, x1, mask, path)
    found = sample(sampler, velocity, drawn(3), path, context=context).x
    assert bool(torch.isfinite(found).all())
    assert torch.equal(found[~mask], x1[~mask])


# dopri5 chooses its steps, and the random walk draws its noise, for a whole batch.
@pytest.mark.parametrize("sampler", [method for method in SOLVERS if method != "dopri5"])
def test_context_is_the_same_in_a_batch_and_alone(sampler: str) -> None:
    x0, x1, start, mask, path = drawn(1), drawn(2), drawn(3), spans(), PATHS[1]
    context = Context(x0, x1, mask, path)
    together = sample(sampler, to_its_items_mean, start, path, context=context).x
    for item in (0, 1):
        one = slice(item, item + 1)
        context = Context(x0[one], x1[one], mask[one], path)
        alone = sample(sampler, to_its_items_mean, start[one], path, context=context).x
        torch.testing.assert_close(alone, together[one], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(2, 7),
        torch.ones(2, 7, dtype=torch.int64),
        torch.ones(2, 8, dtype=torch.bool),
        torch.ones(7, 2, dtype=torch.bool),
        torch.ones(3, dtype=torch.bool),
        torch.ones(2, 7, 1, dtype=torch.bool),
        torch.ones(2, 7, 3, 1, dtype=torch.bool),
    ],
    ids=lambda mask: f"{mask.dtype} {tuple(mask.shape)}",
)
def test_a_bad_mask_is_refused(mask: Tensor) -> None:
    with pytest.raises(ValueError, match=r"boolean, of the first axes of \(2, 7, 3\); found"):
        Context(drawn(1), drawn(2), mask, PATHS[0])


def test_noise_and_data_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have one shape, found \(2, 7, 1\) and \(2, 7, 3\)"):
        Context(drawn(1)[..., :1], drawn(2), spans(), PATHS[0])


REFUSED: list[Callable[[Tensor], Tensor]] = [
    lambda x: x[:, :6],
    lambda x: x[:1],
    lambda x: x[..., :1],
]


@every_sampler
@pytest.mark.parametrize("other", REFUSED, ids=["frames", "items", "bands"])
def test_a_context_of_another_shape_than_x_is_refused(
    sampler: str, other: Callable[[Tensor], Tensor]
) -> None:
    context = Context(drawn(1), drawn(2), spans(), PATHS[0])
    with pytest.raises(ValueError, match="must have one shape"):
        sample(sampler, lambda t, x: x, other(drawn(3)), PATHS[0], context=context)
