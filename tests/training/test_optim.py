"""The learning rate's schedule, and Adam as the paper has it."""

import pytest
import torch

from voiceflow.config import TrainConfig
from voiceflow.training.optim import learning_rate, make_optimizer

CONFIG = TrainConfig(updates=100, warmup_updates=20, learning_rate=2e-3)


def test_warm_up_then_decay_each_linear() -> None:
    rates = [learning_rate(u, CONFIG) for u in range(100)]
    assert rates[:20] == pytest.approx([2e-3 * (u + 1) / 20 for u in range(20)])
    assert rates[20:] == pytest.approx([2e-3 * (100 - u) / 80 for u in range(20, 100)])
    assert max(rates) == rates[19] == rates[20] == 2e-3
    assert rates[99] == pytest.approx(2e-3 / 80)
    assert learning_rate(100, CONFIG) == 0
    assert learning_rate(150, CONFIG) == 0


def test_no_warm_up() -> None:
    config = TrainConfig(updates=10, warmup_updates=0, learning_rate=1.0)
    assert [learning_rate(u, config) for u in range(10)] == pytest.approx(
        [1 - u / 10 for u in range(10)]
    )


def test_a_run_shorter_than_its_warm_up_never_leaves_it() -> None:
    config = TrainConfig(updates=5, warmup_updates=20, learning_rate=1.0)
    assert [learning_rate(u, config) for u in range(5)] == pytest.approx(
        [(u + 1) / 20 for u in range(5)]
    )


def test_the_papers_budget() -> None:
    config = TrainConfig(updates=500_000, warmup_updates=5000, learning_rate=1e-4)
    assert learning_rate(4999, config) == learning_rate(5000, config) == 1e-4
    assert learning_rate(252_500, config) == pytest.approx(0.5e-4)


def test_one_step_of_adam() -> None:
    """The first step has the length of the rate, whatever the gradient."""
    layer = torch.nn.Linear(3, 1, bias=False)
    before = layer.weight.detach().clone()
    optimizer = make_optimizer(layer, TrainConfig(learning_rate=0.01, betas=(0.8, 0.95)))
    layer.weight.grad = torch.tensor([[1e-3, -5.0, 40.0]])
    optimizer.step()
    step = torch.tensor([[-0.01, 0.01, -0.01]])
    torch.testing.assert_close(layer.weight - before, step, rtol=1e-3, atol=0)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.95)
