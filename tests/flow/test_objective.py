"""The objectives: the theorem they rest on, conversions, masks; sums and counts that add."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.objective import (
    ConditionalFlowMatching,
    FlowMatching,
    Loss,
    masked_count,
    masked_squared_error,
    one_minus_t,
)
from voiceflow.flow.path import QUANTITIES, Ends, Path, Quantity
from voiceflow.flow.paths import PATHS, OptimalTransport, SquareRootVariance, make_path

WIDTH = 3
Batch = tuple[Tensor, Tensor, Tensor]
every_path = pytest.mark.parametrize("name", PATHS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = seeded(1)
    x0 = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return x0, torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.fixture()
def batch() -> Batch:
    generator = seeded(0)
    prediction = torch.randn(6, 10, WIDTH, generator=generator, dtype=torch.float64)
    target = torch.randn(6, 10, WIDTH, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 10, generator=generator) < 0.4
    mask[2] = False
    return prediction, target, mask


# The masked sum and count


def test_closed_form() -> None:
    prediction = torch.tensor([[[1.0, 2.0], [5.0, 5.0], [0.0, 1.0]], [[3.0, 0.0]] * 3])
    mask = torch.tensor([[True, False, True], [False, True, False]])
    zero = torch.zeros_like(prediction)
    assert float(masked_squared_error(prediction, zero, mask)) == 1 + 4 + 0 + 1 + 9
    assert masked_count(mask, 2) == 6
    weight = torch.tensor([2.0, 0.5])
    assert float(masked_squared_error(prediction, zero, mask, weight)) == 2 * 6 + 0.5 * 9
    assert float(masked_squared_error(prediction, zero, weight=weight)) == 2 * 56 + 0.5 * 27


def test_context_frames_count_nothing(batch: Batch) -> None:
    prediction, target, mask = batch
    prediction = prediction.requires_grad_()
    masked_squared_error(prediction, target, mask).backward()
    gradient = prediction.grad
    assert gradient is not None
    assert not gradient[~mask].any()
    torch.testing.assert_close(gradient[mask], 2 * (prediction - target)[mask])


@pytest.mark.parametrize("at", [1, 3, 5])
def test_sum_and_count_add_over_a_split(batch: Batch, at: int) -> None:
    parts = [[x[:at] for x in batch], [x[at:] for x in batch]]
    whole = float(masked_squared_error(*batch))
    assert sum(float(masked_squared_error(*p)) for p in parts) == pytest.approx(whole, rel=1e-12)
    assert sum(masked_count(p[2], WIDTH) for p in parts) == masked_count(batch[2], WIDTH)


def test_half_precision_is_summed_in_full_and_double_stays_double(batch: Batch) -> None:
    for half in (torch.bfloat16, torch.float16):
        ones = torch.ones(1, 70000, 1, dtype=half)
        total = masked_squared_error(ones, torch.zeros_like(ones), torch.ones(1, 70000).bool())
        assert total.dtype == torch.float32
        assert float(total) == 70000
    large = torch.full((1, 1, 1), 300.0, dtype=torch.float16)  # its square is past float16
    assert float(masked_squared_error(large, torch.zeros_like(large))) == 90000
    assert masked_squared_error(*batch).dtype == torch.float64


def test_shapes_of_prediction_and_target_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"one shape, found \(4, 1\) and \(4, 3\)"):
        masked_squared_error(torch.zeros(4, 3), torch.zeros(4, 1))


def test_the_mean_of_nothing_is_zero() -> None:
    assert float(Loss(torch.tensor(0.0), torch.tensor(0)).mean) == 0
    assert float(Loss(torch.tensor(6.0), torch.tensor(4)).mean) == 1.5


# Conditional flow matching


@every_path
@pytest.mark.parametrize("predicts", QUANTITIES)
def test_a_network_that_says_the_true_quantity_has_no_loss(name: str, predicts: Quantity) -> None:
    path = make_path(name)
    x0, x1 = pair(16, 5)
    t = torch.linspace(0.1, 0.9, 16, dtype=torch.float64)
    true = path.quantity(predicts, x0, x1, t)
    for measured in QUANTITIES:
        loss = ConditionalFlowMatching(path, predicts, measured)
        size = float(path.quantity(measured, x0, x1, t).square().sum())
        assert float(loss(lambda t, x: true, x0, x1, t).total) < 1e-16 * size, measured
        wrong = float(loss(lambda t, x: true + 0.1, x0, x1, t).total)
        assert wrong > 1e-6 * size, measured
        assert wrong > 0.01 or predicts != measured


@every_path
def test_the_loss_is_the_squared_error_of_what_is_measured(name: str) -> None:
    """A network that says x_1 is off by 1 is off in the velocity by alpha' - sigma' alpha/sigma."""
    path = make_path(name)
    x0, x1 = pair(16, 5)
    t = torch.linspace(0.1, 0.9, 16, dtype=torch.float64)
    loss = ConditionalFlowMatching(path, "x1", "velocity")(lambda t, x: x1 + 1, x0, x1, t)
    off = path.alpha_dot(t) - path.sigma_dot(t) * path.alpha(t) / path.sigma(t)
    torch.testing.assert_close(loss.total, 5 * off.square().sum())
    assert int(loss.count) == 80


def test_the_network_is_shown_x_t_and_its_time() -> None:
    x0, x1 = pair(6, 10, WIDTH)
    t = torch.linspace(0, 1, 6, dtype=torch.float64)
    shown: list[tuple[Tensor, Tensor]] = []

    def network(time: Tensor, x: Tensor) -> Tensor:
        shown.append((time, x))
        return torch.zeros_like(x)

    mask = torch.zeros(6, 10).bool()
    mask[:, 3:] = True
    path = OptimalTransport(0.1)
    loss = ConditionalFlowMatching(path)(network, x0, x1, t, mask)
    assert shown[0][0] is t
    at = t[:, None, None]
    torch.testing.assert_close(shown[0][1], at * x1 + (1 - 0.9 * at) * x0)  # context too
    torch.testing.assert_close(loss.total, (x1 - 0.9 * x0)[:, 3:].square().sum())
    assert int(loss.count) == 6 * 7 * WIDTH
    torch.testing.assert_close(loss.mean, (x1 - 0.9 * x0)[:, 3:].square().mean())


@pytest.mark.parametrize("masked", [False, True])
def test_total_and_count_are_tensors_that_add_over_a_split(masked: bool, batch: Batch) -> None:
    x0, x1, mask = batch
    t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    objective = ConditionalFlowMatching(OptimalTransport(), weight=one_minus_t)

    def loss(rows: slice) -> Loss:
        part = mask[rows] if masked else None
        return objective(lambda t, x: 0.5 * x, x0[rows], x1[rows], t[rows], part)

    whole, parts = loss(slice(None)), [loss(slice(0, 2)), loss(slice(2, 3)), loss(slice(3, 6))]
    for item in (whole, *parts):
        assert isinstance(item.total, Tensor)
        assert isinstance(item.count, Tensor)
        assert item.total.shape == item.count.shape == ()
    assert sum(float(p.total) for p in parts) == pytest.approx(float(whole.total), rel=1e-12)
    wanted = masked_count(mask, WIDTH) if masked else 6 * 10 * WIDTH
    assert sum(int(p.count) for p in parts) == int(whole.count) == wanted
    if masked:  # the item without a masked frame
        assert float(parts[1].total) == float(parts[1].mean) == int(parts[1].count) == 0


def test_a_mask_may_be_of_elements_or_of_items(batch: Batch) -> None:
    x0, x1, _ = batch
    t = torch.full((6,), 0.5, dtype=torch.float64)
    objective = ConditionalFlowMatching(OptimalTransport())
    for shape in ((6,), (6, 10), (6, 10, WIDTH)):
        mask = torch.rand(shape, generator=seeded(3)) < 0.5
        loss = objective(lambda t, x: torch.zeros_like(x), x0, x1, t, mask)
        target = (x1 - (1 - 1e-5) * x0)[mask]
        torch.testing.assert_close(loss.total, target.square().sum())
        assert int(loss.count) == target.numel()


def test_the_weight_is_by_time() -> None:
    x0, x1 = pair(4, 5)
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    objective = ConditionalFlowMatching(OptimalTransport(0.0), weight=lambda t: 1 + 7 * t**2)
    loss = objective(lambda t, x: torch.zeros_like(x), x0, x1, t)
    each = (x1 - x0).square().sum(1)
    torch.testing.assert_close(loss.total, ((1 + 7 * t**2) * each).sum())
    assert int(loss.count) == 20  # the weight does not count
    torch.testing.assert_close(one_minus_t(t), torch.tensor([1, 0.75, 0.5, 0]).double())


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_is_measured_in_float32(half: torch.dtype) -> None:
    x0, x1 = pair(8, 3000, 4, dtype=torch.float32)
    t = torch.linspace(0.1, 0.9, 8)
    objective = ConditionalFlowMatching(OptimalTransport())
    found = objective(lambda t, x: torch.zeros_like(x, dtype=half), x0, x1, t)
    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.total, (x1 - x0).square().sum(), rtol=1e-4, atol=0)
    found = objective(lambda t, x: torch.zeros_like(x), x0.to(half), x1.to(half), t.to(half))
    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.total, (x1 - x0).square().sum(), rtol=1e-2, atol=0)


def test_the_square_root_path_trains_with_one_minus_t() -> None:
    """E (1 - t) sigma'^2 is 1/4 at all times; without the weight the loss grows towards t = 1."""
    count = 20_000
    x0, x1 = pair(count, 1)
    plain = ConditionalFlowMatching(SquareRootVariance())
    weighted = ConditionalFlowMatching(SquareRootVariance(), weight=one_minus_t)
    for left in (1e-1, 1e-3, 1e-5):
        t = torch.full((count,), 1 - left, dtype=torch.float64)
        # a network that says E[u_t | x_1] = x_1 leaves sigma' x_0
        found = float(weighted(lambda t, x: x1, x0, x1, t).mean)
        assert found == pytest.approx(0.25, rel=4 * math.sqrt(2 / count))
        assert float(plain(lambda t, x: x1, x0, x1, t).mean) == pytest.approx(found / left)
    t = torch.ones(count)
    assert torch.isfinite(weighted(lambda t, x: x1.float(), x0.float(), x1.float(), t).total)


@pytest.mark.parametrize("at", ["predicts", "measured"])
def test_an_unknown_quantity_is_an_error(at: str) -> None:
    with pytest.raises(ValueError, match="'noise' is not one of velocity, x1, x0, v, score"):
        ConditionalFlowMatching(OptimalTransport(), **{at: "noise"})  # type: ignore[arg-type]


class Amiss(OptimalTransport):
    """Says that it ends at sigma 0.5."""

    @property
    def ends(self) -> Ends:
        return Ends(sigma_1=0.5)


def test_a_path_that_does_not_meet_its_declared_ends_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"Amiss: sigma is .* at t = 1, but the path declares 0\.5"
    ):
        ConditionalFlowMatching(Amiss())


def test_bad_shapes_and_times_are_errors() -> None:
    x, y = torch.zeros(4, 3), torch.zeros(3, 4)
    objective = ConditionalFlowMatching(OptimalTransport())
    with pytest.raises(ValueError, match=r"one shape, found \(4, 3\) and \(3, 4\)"):
        objective(lambda t, x: x, x, y, torch.full((4,), 0.5))
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        objective(lambda t, x: x, x, x, torch.full((4,), 1.5))
    with pytest.raises(ValueError, match=r"one shape, found \(4, 1\) and \(4, 3\)"):
        objective(lambda t, x: x[:, :1], x, x, torch.full((4,), 0.5))
    exact = FlowMatching(lambda t, x: x)
    with pytest.raises(ValueError, match=r"t has the shape \(3,\)"):
        exact(lambda t, x: x, x, torch.full((3,), 0.5))


# Flow matching, and the theorem


def test_flow_matching_is_the_squared_error_to_the_marginal_velocity() -> None:
    xt = pair(6, 2)[0]
    t = torch.linspace(0, 1, 6, dtype=torch.float64)
    exact = FlowMatching(lambda t, x: t[:, None] * x)
    assert float(exact(lambda t, x: t[:, None] * x, xt, t).total) == 0
    loss = exact(lambda t, x: t[:, None] * x + 2, xt, t)
    assert float(loss.total) == pytest.approx(4 * 12)
    assert float(loss.mean) == pytest.approx(4)
    assert isinstance(loss.count, Tensor)
    assert int(loss.count) == 12
    weighted = FlowMatching(exact.marginal_velocity, one_minus_t)
    loss = weighted(lambda t, x: t[:, None] * x + 2, xt, t)
    assert float(loss.total) == pytest.approx(float(8 * (1 - t).sum()))


class Network(nn.Module):
    """A velocity of t and a place (B, 2), of 98 random parameters."""

    def __init__(self, seed: int, size: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).double()
        generator = seeded(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=size, generator=generator)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.layers(torch.cat([t[:, None], x / 5], 1))


@dataclass(frozen=True)
class Flipped(OptimalTransport):
    """The straight path's samples with a velocity whose noise has the wrong sign."""

    def sigma_dot(self, t: Tensor) -> Tensor:
        return -super().sigma_dot(t)


BATCHES = 200


def both(path: Path, target: Path, networks: list[Network]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """FM and CFM losses (BATCHES, networks) on common draws; a gradient's difference for each."""
    data, generator = GaussianMixture.symmetric_2d(dtype=torch.float64), seeded(6)
    exact = FlowMatching(lambda t, x: data.marginal_velocity(x, t, path))
    conditional = ConditionalFlowMatching(target)
    losses, gradients = [], []
    for _ in range(BATCHES):
        x1 = data.sample(128, generator)
        x0 = torch.randn(128, 2, generator=generator, dtype=torch.float64)
        t = 0.02 + 0.96 * torch.rand(128, generator=generator, dtype=torch.float64)
        xt = path.sample(x0, x1, t)
        for network in networks:
            pairs = exact(network, xt, t).mean, conditional(network, x0, x1, t).mean
            losses.append(torch.stack(pairs).detach())
            by = torch.autograd.grad(pairs[1] - pairs[0], list(network.parameters()))
            gradients.append(torch.cat([g.flatten() for g in by]))
    table = torch.stack(losses).unflatten(0, (BATCHES, len(networks)))
    each = torch.stack(gradients).unflatten(0, (BATCHES, len(networks))).unbind(1)
    return table[..., 0], table[..., 1], list(each)


def standard_errors(values: Tensor) -> Tensor:
    """How many standard errors the mean over batches (BATCHES, ...) lies from 0."""
    return values.mean(0).abs() / (values.std(0) / math.sqrt(len(values)))


def projected(gradient: Tensor) -> Tensor:
    """Along 8 fixed random directions, (BATCHES, 8)."""
    directions = torch.randn(gradient.shape[1], 8, generator=seeded(7), dtype=gradient.dtype)
    return gradient @ directions


@every_path
def test_both_objectives_have_one_gradient_and_differ_by_a_constant(name: str) -> None:
    """The difference of gradients has mean 0; that of losses is the same at other parameters."""
    path = make_path(name)
    networks = [Network(0, 0.5), Network(1, 3.0)]
    exact, conditional, gradients = both(path, path, networks)
    for gradient in gradients:
        assert float(standard_errors(projected(gradient)).max()) < 3
    constant = conditional - exact
    assert float(standard_errors(constant)[0]) > 10  # they do differ
    assert float(standard_errors(constant[:, 0] - constant[:, 1])) < 3
    assert float(standard_errors(exact[:, 0] - exact[:, 1])) > 10  # at unlike parameters


def test_a_wrong_target_breaks_the_theorem() -> None:
    """The control: with the sign of the noise flipped in the target, neither statement holds."""
    networks = [Network(0, 0.5), Network(1, 3.0)]
    exact, conditional, gradients = both(OptimalTransport(), Flipped(), networks)
    for gradient in gradients:
        assert float(standard_errors(projected(gradient)).max()) > 6
    constant = conditional - exact
    assert float(standard_errors(constant[:, 0] - constant[:, 1])) > 6
