"""The optimal-transport path: its ends, its derivative, its broadcasting."""

import pytest
import torch
from torch import Tensor

from voiceflow.flow.paths import OptimalTransport, expand_time


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return noise, torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sigma_min", [0.0, 1e-5, 0.1])
def test_ends(sigma_min: float) -> None:
    path = OptimalTransport(sigma_min)
    x0, x1 = pair(3, 5, 2)
    start, end = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(path.sample(x0, x1, start), x0, rtol=0, atol=0)
    torch.testing.assert_close(path.sample(x0, x1, end), x1 + sigma_min * x0, rtol=0, atol=1e-15)


@pytest.mark.parametrize("sigma_min", [1e-5, 0.1])
def test_velocity_is_the_derivative(sigma_min: float) -> None:
    path = OptimalTransport(sigma_min)
    x0, x1 = pair(4)
    for t in (0.0, 0.3, 1.0):
        derivative = torch.autograd.functional.jvp(
            lambda s: path.sample(x0, x1, s),
            torch.tensor(t, dtype=torch.float64),
            torch.tensor(1.0, dtype=torch.float64),
        )[1]
        torch.testing.assert_close(derivative, path.velocity(x0, x1), rtol=1e-12, atol=1e-12)


def test_each_item_has_its_own_time() -> None:
    path = OptimalTransport()
    x0, x1 = pair(3, 5, 2)
    t = torch.tensor([0.0, 0.25, 0.9], dtype=torch.float64)
    together = path.sample(x0, x1, t)
    for i in range(3):
        torch.testing.assert_close(together[i], path.sample(x0[i], x1[i], t[i]))
        torch.testing.assert_close(together[i], path.alpha(t[i]) * x1[i] + path.sigma(t[i]) * x0[i])


def test_expand_time_adds_axes_on_the_right() -> None:
    assert expand_time(torch.zeros(4), torch.zeros(4, 3, 2)).shape == (4, 1, 1)
    assert expand_time(torch.zeros(4, 3), torch.zeros(4, 3, 2)).shape == (4, 3, 1)
    assert expand_time(torch.zeros(()), torch.zeros(4, 3)).shape == (1, 1)
