"""Guidance: both forms, its two ends."""

import pytest
import torch

from voiceflow.flow.guidance import guide

CONDITIONAL = torch.tensor([1.0, -2.0, 0.5])
UNCONDITIONAL = torch.tensor([0.5, 3.0, 0.5])


@pytest.mark.parametrize("a", [0.0, 0.7, 2.0, -0.5])
def test_the_tutorials_form_has_w_one_larger(a: float) -> None:
    w = 1 + a
    tutorials = (1 - w) * UNCONDITIONAL + w * CONDITIONAL
    torch.testing.assert_close(guide(CONDITIONAL, UNCONDITIONAL, a), tutorials)


def test_none_is_the_conditional_and_minus_one_the_unconditional() -> None:
    assert torch.equal(guide(CONDITIONAL, UNCONDITIONAL, 0.0), CONDITIONAL)
    assert torch.equal(guide(CONDITIONAL, UNCONDITIONAL, -1.0), UNCONDITIONAL)


def test_guidance_leads_away_from_the_unconditional() -> None:
    guided = guide(CONDITIONAL, UNCONDITIONAL, 0.7)
    torch.testing.assert_close(guided - CONDITIONAL, 0.7 * (CONDITIONAL - UNCONDITIONAL))
