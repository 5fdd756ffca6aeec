"""ConvNeXt blocks: what padding may not change, and what a frame hears."""

import torch

from voiceflow.nn.convnext import ConvNeXtBlock


def block(kernel: int = 5) -> ConvNeXtBlock:
    torch.manual_seed(0)
    made = ConvNeXtBlock(6, 12, kernel).eval()
    torch.nn.init.ones_(made.scale)
    return made


def test_padding_changes_no_valid_frame() -> None:
    x = torch.randn(1, 7, 6, generator=torch.Generator().manual_seed(0))
    alone = block()(x)
    padded = torch.cat([x, torch.full((1, 4, 6), 9.0)], 1)
    valid = torch.arange(11)[None] < 7
    torch.testing.assert_close(block()(padded, valid)[:, :7], alone, rtol=0, atol=1e-6)
    assert not torch.allclose(block()(padded)[:, :7], alone)


def test_a_frame_hears_as_far_as_the_kernel_reaches() -> None:
    x = torch.randn(1, 20, 6, generator=torch.Generator().manual_seed(1))
    other = x.clone()
    other[0, 10] += 1
    changed = (block(7)(x) - block(7)(other)).abs().sum(2)[0] > 0
    assert changed.nonzero().flatten().tolist() == list(range(7, 14))
