"""Mixtures against torch.distributions, autograd, Bayes by hand, Monte Carlo and quadrature."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.path import Path
from voiceflow.flow.paths import PATHS, OptimalTransport, make_path

MEANS = torch.tensor([[1.0, -0.5], [-1.5, 0.3], [0.2, 1.8]], dtype=torch.float64)
STD = torch.tensor([[0.5, 0.8], [0.7, 0.4], [1.1, 0.6]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
MIXTURE = GaussianMixture(MEANS, STD, WEIGHTS)
PLACES = torch.tensor([[0.0, 0.0], [1.0, -1.0], [-1.2, 0.7], [2.0, 2.0]], dtype=torch.float64)
SHAPES = [(1,), (2,), (5,), (4, 3)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_mixture(shape: tuple[int, ...], seed: int = 0) -> GaussianMixture:
    generator = seeded(seed)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    std = 0.3 + torch.rand(4, *shape, **options)
    return GaussianMixture(torch.randn(4, *shape, **options), std, torch.rand(4, **options))


def by_torch(weights: Tensor, means: Tensor, std: Tensor) -> MixtureSameFamily:
    """The same mixture (K, D), flattened, of torch's own making."""
    parts = Independent(Normal(means.flatten(1), std.flatten(1)), 1)
    return MixtureSameFamily(Categorical(weights), parts)


def grid(reach: float, points: int) -> tuple[Tensor, float]:
    """Places (points^2, 2) and the area that each stands for."""
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), float(axis[1] - axis[0]) ** 2


def gradient(density: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(density.sum(), x)[0]


def assert_mean(draws: Tensor, wanted: Tensor | float) -> None:
    """The mean of draws (N, ...) is as wanted, within four standard errors."""
    error = draws.std(0) / math.sqrt(len(draws))
    assert bool(((draws.mean(0) - wanted).abs() <= 4 * error).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_density_is_that_of_torchs_mixture(shape: tuple[int, ...]) -> None:
    mixture = random_mixture(shape)
    x = 2 * torch.randn(20, *shape, generator=seeded(1), dtype=torch.float64)
    wanted = by_torch(mixture.weights, mixture.means, mixture.std).log_prob(x.flatten(1))
    torch.testing.assert_close(mixture.log_prob(x), wanted)


@pytest.mark.parametrize("std", [0.7, torch.tensor([0.7, 0.2, 1.5]), STD.float()])
def test_deviations_are_for_all_for_each_component_or_for_each_element(std: Any) -> None:
    mixture = GaussianMixture(MEANS.float(), std)
    full = torch.as_tensor(std).reshape(-1, 1) if torch.as_tensor(std).dim() < 2 else std
    wanted = by_torch(torch.ones(3), MEANS.float(), full.expand(3, 2)).log_prob(PLACES.float())
    torch.testing.assert_close(mixture.log_prob(PLACES.float()), wanted)
    assert mixture.modes == 3


def test_weights_are_normalised() -> None:
    torch.testing.assert_close(GaussianMixture(MEANS, STD, 7 * WEIGHTS).weights, WEIGHTS)
    none = GaussianMixture(MEANS, STD, torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64))
    alone = GaussianMixture(MEANS[1:2], STD[1:2])
    torch.testing.assert_close(none.log_prob(PLACES), alone.log_prob(PLACES))
    torch.testing.assert_close(none.score(PLACES), alone.score(PLACES))


@pytest.mark.parametrize("shape", SHAPES)
def test_score_is_the_densitys_gradient(shape: tuple[int, ...]) -> None:
    mixture = random_mixture(shape)
    x = torch.randn(20, *shape, generator=seeded(1), dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(mixture.score(x.detach()), gradient(mixture.log_prob(x), x))


@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_samples_have_the_mixtures_moments(shape: tuple[int, ...]) -> None:
    mixture = random_mixture(shape)
    draws = mixture.sample(60_000, seeded(2)).flatten(1)
    mean = mixture.mean.flatten()
    assert_mean(draws, mean)
    centred = draws - mean
    assert_mean(centred[:, :, None] * centred[:, None], mixture.covariance)
    assert mixture.mean.shape == shape
    assert torch.equal(draws[:7], mixture.sample(60_000, seeded(2)).flatten(1)[:7])


def test_mean_and_covariance_by_quadrature() -> None:
    x, area = grid(9.0, 181)
    mass = MIXTURE.log_prob(x).exp() * area
    mean = mass @ x
    torch.testing.assert_close(MIXTURE.mean, mean, rtol=0, atol=1e-8)
    covariance = torch.einsum("n,ni,nj->ij", mass, x - mean, x - mean)
    torch.testing.assert_close(MIXTURE.covariance, covariance, rtol=0, atol=1e-7)


def test_samples_fall_on_the_modes_by_their_weights() -> None:
    mixture = GaussianMixture(20 * MEANS, STD, WEIGHTS)
    chosen = mixture.nearest_mode(mixture.sample(20_000, seeded()))
    shares = torch.nn.functional.one_hot(chosen, 3).double()
    assert_mean(shares, WEIGHTS)


def test_nearest_mode_is_the_likeliest_component() -> None:
    x = 2 * torch.randn(50, 2, generator=seeded(), dtype=torch.float64)
    parts = Independent(Normal(MEANS, STD), 1).log_prob(x[:, None]) + WEIGHTS.log()
    assert torch.equal(MIXTURE.nearest_mode(x), parts.argmax(1))
    euclidean = torch.cdist(x, MEANS).argmin(1)
    assert bool((MIXTURE.nearest_mode(x) != euclidean).any())


def test_symmetric_2d_is_the_tutorials() -> None:
    mixture = GaussianMixture.symmetric_2d()
    assert mixture.means.shape == (11, 2)
    assert mixture.means.dtype == torch.float32
    torch.testing.assert_close(mixture.means.norm(dim=1), torch.full((11,), 10.0))
    torch.testing.assert_close(mixture.means[0], torch.tensor([10.0, 0.0]))
    beside = (mixture.means - mixture.means.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(beside, torch.full((11,), 20 * math.sin(math.pi / 11)))
    torch.testing.assert_close(mixture.std, torch.ones(11, 2))
    torch.testing.assert_close(mixture.weights, torch.full((11,), 1 / 11))
    torch.testing.assert_close(mixture.mean, torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(mixture.covariance, 51 * torch.eye(2), rtol=0, atol=1e-3)
    assert torch.equal(mixture.nearest_mode(mixture.means), torch.arange(11))
    other = GaussianMixture.symmetric_2d(4, 0.5, 3.0, torch.float64)
    corners = torch.tensor([[3, 0], [0, 3], [-3, 0], [0, -3]], dtype=torch.float64)
    torch.testing.assert_close(other.means, corners, rtol=0, atol=1e-12)
    assert bool((other.std == 0.5).all())


@pytest.mark.parametrize("s", [0.3, 1.0, 4.0])
def test_entropy_of_one_gaussian(s: float) -> None:
    one = GaussianMixture(torch.tensor([[2.0, -1.0]], dtype=torch.float64), s)
    assert one.entropy() == pytest.approx(math.log(2 * math.pi * math.e * s * s), abs=1e-6)


def test_entropy_of_modes_far_apart_adds_that_of_the_choice() -> None:
    far = GaussianMixture.symmetric_2d(5, 0.5, 20.0, torch.float64)
    wanted = math.log(5) + math.log(2 * math.pi * math.e * 0.25)
    assert far.entropy() == pytest.approx(wanted, abs=1e-6)
    uneven = GaussianMixture(far.means[:3], 0.5, WEIGHTS)
    choice = -float((WEIGHTS * WEIGHTS.log()).sum())
    assert uneven.entropy() == pytest.approx(wanted - math.log(5) + choice, abs=1e-6)


def test_entropy_of_the_tutorials_mixture() -> None:
    mixture = GaussianMixture.symmetric_2d()
    entropy = mixture.entropy()
    assert entropy == pytest.approx(5.2221, abs=1e-4)
    surprise = -mixture.log_prob(mixture.sample(100_000, seeded()))
    error = float(surprise.std()) / math.sqrt(len(surprise))
    assert float(surprise.mean()) == pytest.approx(entropy, abs=3 * error)
    assert error < 0.01
    assert mixture.entropy(9.0, 0.1) == pytest.approx(entropy, abs=1e-9)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_marginal_is_a_mixture_of_the_components_on_their_paths(name: str, t: float) -> None:
    path, time = make_path(name), torch.tensor(t, dtype=torch.float64)
    alpha, sigma = path.alpha(time), path.sigma(time)
    std = (alpha.square() * STD.square() + sigma.square()).sqrt()
    wanted = by_torch(WEIGHTS, alpha * MEANS, std).log_prob(PLACES)
    torch.testing.assert_close(MIXTURE.marginal_log_prob(PLACES, time, path), wanted)
    x = PLACES.clone().requires_grad_()
    score = gradient(MIXTURE.marginal_log_prob(x, time, path), x)
    torch.testing.assert_close(MIXTURE.marginal_score(PLACES, time, path), score)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.9, 1.0])
def test_marginal_integrates_to_one(t: float) -> None:
    x, area = grid(9.0, 241)
    density = MIXTURE.marginal_log_prob(x, torch.tensor(t).double(), OptimalTransport()).exp()
    assert float(density.sum()) * area == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", PATHS)
def test_marginal_and_velocity_are_averages_over_the_data(name: str) -> None:
    """p_t(x) = E p(x | x_1), and u_t(x) the mean of u_t under the weights p(x | x_1)."""
    path, time = make_path(name), torch.tensor(0.5, dtype=torch.float64)
    data = MIXTURE.sample(200_000, seeded(3))
    alpha, sigma = path.alpha(time), path.sigma(time)
    for x in alpha * PLACES:
        noise = (x - alpha * data) / sigma
        likelihood = (Normal(0.0, 1.0).log_prob(noise) - sigma.log()).sum(1).exp()
        found = MIXTURE.marginal_log_prob(x[None], time, path).exp()
        assert_mean(likelihood, found)
        velocity = MIXTURE.marginal_velocity(x[None], time, path)
        residual = likelihood[:, None] * (path.velocity(noise, data, time) - velocity)
        assert_mean(residual, 0.0)
        assert float((residual.std(0) / math.sqrt(len(data)) / found).max()) < 0.1


@pytest.mark.parametrize("name", PATHS)
def test_marginals_obey_the_continuity_equation(name: str) -> None:
    """d log p_t / dt = -div u_t - u_t . score."""
    path = make_path(name)
    x, t = PLACES.clone().requires_grad_(), torch.full((4,), 0.6, dtype=torch.float64)
    t.requires_grad_()
    rate = gradient(MIXTURE.marginal_log_prob(x, t, path), t)
    velocity = MIXTURE.marginal_velocity(x, t.detach(), path)
    divergence = sum(
        torch.autograd.grad(velocity[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2)
    )
    along = (velocity * MIXTURE.marginal_score(PLACES, t.detach(), path)).sum(1)
    torch.testing.assert_close(rate, -divergence - along)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("shape", [(2,), (3, 2)])
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_float32_is_finite_at_both_ends(name: str, shape: tuple[int, ...], t: float) -> None:
    path, time = make_path(name), torch.tensor(t)
    mixture = random_mixture(shape).to(torch.zeros(0))
    x = torch.cat([torch.randn(6, *shape, generator=seeded()), torch.full((1, *shape), 40.0)])
    for found in (
        mixture.marginal_log_prob(x, time, path),
        mixture.marginal_score(x, time, path),
        mixture.marginal_velocity(x, time, path),
        *mixture.posterior(x, time, path),
        *mixture.posterior_sample(x, time, path, seeded()),
    ):
        assert found.dtype == torch.float32
        assert bool(torch.isfinite(found).all())
    if t == 1.0 and float(path.sigma(time)) == 0.0:
        torch.testing.assert_close(mixture.marginal_log_prob(x, time, path), mixture.log_prob(x))
        torch.testing.assert_close(mixture.marginal_score(x, time, path), mixture.score(x))


def test_each_item_has_its_own_time() -> None:
    path, mixture = make_path("trigonometric"), random_mixture((4, 3))
    x = torch.randn(3, 4, 3, generator=seeded(), dtype=torch.float64)
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    for method in (mixture.marginal_log_prob, mixture.marginal_velocity, mixture.marginal_score):
        alone = torch.cat([method(x[i : i + 1], t[i], path) for i in range(3)])
        torch.testing.assert_close(method(x, t, path), alone)


@pytest.mark.parametrize("name", PATHS)
def test_pairs_of_the_posterior_reproduce_their_place(name: str) -> None:
    path = make_path(name)
    x = random_mixture((4, 3)).sample(30, seeded()) * 0.7
    t = 0.05 + 0.9 * torch.rand(30, generator=seeded(1), dtype=torch.float64)
    x0, x1 = random_mixture((4, 3)).posterior_sample(x, t, path, seeded(2))
    torch.testing.assert_close(path.sample(x0, x1, t), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["optimal_transport", "variance_exploding"])
def test_draws_of_the_posterior_average_to_its_means(name: str) -> None:
    path, time = make_path(name), torch.tensor(0.6, dtype=torch.float64)
    for x in PLACES[:2]:
        draws = x.expand(40_000, 2)
        x0, x1 = MIXTURE.posterior_sample(draws, time, path, seeded(4))
        found = MIXTURE.posterior(x[None], time, path)
        weight = found.weight[..., None]
        mean = (weight * found.x1).sum(1)[0]
        assert_mean(x1, mean)
        assert_mean(x0, path.sigma(time) * (weight * found.x0_rate).sum(1)[0])
        assert_mean(path.velocity(x0, x1, time), MIXTURE.marginal_velocity(x[None], time, path)[0])
        data, alpha, sigma = MIXTURE.sample(200_000, seeded(3)), path.alpha(time), path.sigma(time)
        likelihood = Normal(alpha * data, sigma).log_prob(x).sum(1).exp()[:, None]
        assert_mean(likelihood * (data - mean), 0.0)
        second = x1.square().mean(0)
        assert_mean(likelihood * (data.square() - second), 0.0)


def test_data_noised_and_drawn_back_are_data() -> None:
    path, time = OptimalTransport(), torch.tensor(0.4, dtype=torch.float64)
    data = MIXTURE.sample(40_000, seeded(5))
    noise = torch.randn(data.shape, generator=seeded(6), dtype=torch.float64)
    x0, x1 = MIXTURE.posterior_sample(path.sample(noise, data, time), time, path, seeded(7))
    centred = x1 - MIXTURE.mean
    assert_mean(x1, MIXTURE.mean)
    assert_mean(centred[:, :, None] * centred[:, None], MIXTURE.covariance)
    assert_mean(x0, 0.0)
    assert_mean(x0[:, :, None] * x0[:, None], torch.eye(2, dtype=torch.float64))
    assert_mean(x0[:, :, None] * centred[:, None], 0.0)  # independent of the data again
    assert float((x1 - data).abs().mean()) > 0.1


@pytest.mark.parametrize("mask_axes", [2, 3])
def test_given_is_bayes_by_hand(mask_axes: int) -> None:
    mixture = random_mixture((4, 3))
    x = mixture.sample(6, seeded(1))
    mask = torch.rand((6, 4, 3)[:mask_axes], generator=seeded(2)) < 0.5
    conditional = mixture.given(x, mask)
    assert conditional.weights.shape == (6, 4)
    densities = Normal(mixture.means, mixture.std).log_prob(x[:, None]).exp()
    for i in range(6):
        full = mask[i][..., None].expand(4, 3) if mask_axes == 2 else mask[i]
        known = mixture.weights * densities[i][:, ~full].prod(1)
        torch.testing.assert_close(conditional.weights[i], known / known.sum())
        both = mixture.weights * densities[i].flatten(1).prod(1)
        wanted = (both.sum() / known.sum()).log()
        torch.testing.assert_close(conditional.log_prob(x, mask)[i], wanted)


def test_a_mask_leaves_the_density_of_the_elements_it_has() -> None:
    path, mixture = OptimalTransport(), random_mixture((5,))
    x = mixture.sample(6, seeded(1))
    mask = torch.rand(6, 5, generator=seeded(2)) < 0.6
    t = torch.rand(6, generator=seeded(3), dtype=torch.float64)
    elsewhere = torch.where(mask, x, 1e3 * torch.ones_like(x))
    density, velocity, score = (
        method(elsewhere, t, path, mask)
        for method in (
            mixture.marginal_log_prob, mixture.marginal_velocity, mixture.marginal_score
        )
    )  # fmt: skip
    for i in range(6):
        has = mask[i]
        alone = GaussianMixture(mixture.means[:, has], mixture.std[:, has], mixture.weights)
        part = x[i : i + 1, has]
        torch.testing.assert_close(mixture.log_prob(elsewhere, mask)[i], alone.log_prob(part)[0])
        for found, method in (
            (density[i], alone.marginal_log_prob),
            (velocity[i, has], alone.marginal_velocity),
            (score[i, has], alone.marginal_score),
        ):
            torch.testing.assert_close(found, method(part, t[i], path)[0])


def test_each_item_may_have_its_own_weights() -> None:
    path: Path = OptimalTransport()
    weights = torch.rand(4, 3, generator=seeded(), dtype=torch.float64)
    mixture = GaussianMixture(MEANS, STD, weights)
    t = torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    for i in range(4):
        alone, x, j = GaussianMixture(MEANS, STD, weights[i]), PLACES[i : i + 1], slice(i, i + 1)
        torch.testing.assert_close(mixture.log_prob(PLACES)[j], alone.log_prob(x))
        torch.testing.assert_close(mixture.score(PLACES)[j], alone.score(x))
        torch.testing.assert_close(mixture.mean[i], alone.mean)
        found = mixture.marginal_velocity(PLACES, t, path)[j]
        torch.testing.assert_close(found, alone.marginal_velocity(x, t[i], path))


def test_draws_and_covariance_where_each_item_has_its_own_weights() -> None:
    mixture = GaussianMixture(MEANS[:1].repeat(3, 1), STD[:1].repeat(3, 1), WEIGHTS.expand(2, 3))
    first, second = (mixture.sample(5_000, seeded()) - MEANS[0]).unbind(0)
    assert_mean(first * second, 0.0)
    wanted = torch.diag(STD[0].square()).expand(2, 2, 2)
    torch.testing.assert_close(mixture.covariance, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"means": torch.zeros(3)}, r"means must be \(K, \.\.\.\), found \(3,\)"),
        ({"std": 0.0}, "deviations must be positive, found 0"),
        ({"std": torch.tensor([1.0, -1.0, 1.0])}, "deviations must be positive, found -1"),
        ({"std": float("nan")}, "deviations must be positive"),
        ({"std": torch.ones(3, 2, 1)}, "std must be a number"),
        ({"std": torch.ones(2)}, "std must be a number"),
        ({"std": torch.ones(3, 4)}, "std must be a number"),
        ({"weights": torch.ones(2)}, r"weights must be \(3,\) or \(B, 3\), found \(2,\)"),
        ({"weights": torch.ones(1, 1, 3)}, r"weights must be"),
        ({"weights": torch.tensor([1.0, -0.1, 1.0])}, "must not be negative, nor all zero"),
        ({"weights": torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])}, "nor all zero"),
    ],
)
def test_what_does_not_make_a_mixture_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**{"means": torch.zeros(3, 2), **options})


def test_items_of_another_shape_are_refused() -> None:
    time, path = torch.tensor(0.5), OptimalTransport()
    for call in (MIXTURE.log_prob, MIXTURE.score, MIXTURE.nearest_mode):
        with pytest.raises(ValueError, match=r"\(2,\) expected, found x of \(4, 3\)"):
            call(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"\(2,\) expected, found x of \(4, 1\)"):
        MIXTURE.marginal_velocity(torch.zeros(4, 1), time, path)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        MIXTURE.marginal_velocity(torch.zeros(4, 2), time + 1, path)
    with pytest.raises(ValueError, match=r"entropy is known for items \(2,\), found \(5,\)"):
        random_mixture((5,)).entropy()
    with pytest.raises(ValueError, match="modes must be at least 1, found 0"):
        GaussianMixture.symmetric_2d(0)
