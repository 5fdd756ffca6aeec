"""The masked objective: a sum and a count that add over any division of a batch."""

import pytest
import torch
from torch import Tensor

from voiceflow.flow.objective import masked_count, masked_squared_error

WIDTH = 3


@pytest.fixture()
def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(6, 10, WIDTH, generator=generator, dtype=torch.float64)
    target = torch.randn(6, 10, WIDTH, generator=generator, dtype=torch.float64)
    mask = torch.rand(6, 10, generator=generator) < 0.4
    mask[2] = False
    return prediction, target, mask


def test_closed_form() -> None:
    prediction = torch.tensor([[[1.0, 2.0], [5.0, 5.0], [0.0, 1.0]]])
    mask = torch.tensor([[True, False, True]])
    total = masked_squared_error(prediction, torch.zeros_like(prediction), mask)
    assert float(total) == 1 + 4 + 0 + 1
    assert masked_count(mask, 2) == 4


def test_context_frames_count_nothing(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    prediction, target, mask = batch
    prediction = prediction.requires_grad_()
    masked_squared_error(prediction, target, mask).backward()
    gradient = prediction.grad
    assert gradient is not None
    assert not gradient[~mask].any()
    assert (gradient[mask] != 0).all()


@pytest.mark.parametrize("at", [1, 3, 5])
def test_sum_and_count_add_over_a_split(batch: tuple[Tensor, Tensor, Tensor], at: int) -> None:
    parts = [[x[:at] for x in batch], [x[at:] for x in batch]]
    whole = float(masked_squared_error(*batch))
    assert sum(float(masked_squared_error(*p)) for p in parts) == pytest.approx(whole, rel=1e-6)
    assert sum(masked_count(p[2], WIDTH) for p in parts) == masked_count(batch[2], WIDTH)


def test_half_precision_is_summed_in_full(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    prediction, target, mask = batch
    ones = torch.ones(1, 70000, 1, dtype=torch.bfloat16)
    total = masked_squared_error(ones, torch.zeros_like(ones), torch.ones(1, 70000).bool())
    assert total.dtype == torch.float32
    assert float(total) == 70000
    assert masked_squared_error(prediction, target, mask).dtype == torch.float32
