"""Time and position embeddings."""

import cmath
import math

import pytest
import torch

from voiceflow.nn.embeddings import (
    ConvolutionalPosition,
    TimeToken,
    rotate,
    rotation_of,
    sinusoidal,
)


def test_sinusoidal_closed_form() -> None:
    t = torch.tensor([0.0, 0.25, 1.0])
    found = sinusoidal(t, 8)
    for row, time in zip(found.tolist(), t.tolist(), strict=True):
        angles = [1000 * time * 10000 ** (-i / 4) for i in range(4)]
        wanted = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert row == pytest.approx(wanted, abs=2e-4)  # 1000 rad in float32


def test_close_times_are_told_apart() -> None:
    t = torch.linspace(0, 1, 101)
    distance = torch.cdist(sinusoidal(t, 64), sinusoidal(t, 64)) + 10 * torch.eye(101)
    assert float(distance.min()) > 0.5


def test_time_stays_in_full_precision() -> None:
    assert sinusoidal(torch.tensor([0.5]).bfloat16(), 8).dtype == torch.float32
    torch.manual_seed(0)
    assert TimeToken(8)(torch.tensor([0.1, 0.9])).shape == (2, 1, 8)


def test_a_rotation_is_a_product_of_complex_numbers() -> None:
    x = torch.randn(2, 3, 50, 8)
    turn = torch.tensor(
        [[cmath.exp(1j * i * 10000 ** (-c / 4)) for c in range(4)] for i in range(50)]
    )
    wanted = torch.complex(x[..., :4], x[..., 4:]) * turn
    found = rotate(x, rotation_of(50, 8))
    wanted_real = torch.cat([wanted.real, wanted.imag], dim=-1)
    torch.testing.assert_close(found, wanted_real, rtol=1e-4, atol=1e-4)


def test_after_a_rotation_products_depend_on_the_distance_alone() -> None:
    rotation = rotation_of(40, 16)
    q, k = torch.randn(16).expand(1, 1, 40, 16), torch.randn(16).expand(1, 1, 40, 16)
    products = (rotate(q, rotation) @ rotate(k, rotation).mT)[0, 0]
    for distance in range(-39, 40):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-4)
    assert products[0].std() > 0.1


def test_exempt_tokens_are_not_turned_and_not_counted() -> None:
    exempt = rotation_of(7, 8, n_exempt=2)
    assert torch.equal(exempt[:, 2:], rotation_of(5, 8))
    x = torch.randn(1, 1, 7, 8)
    assert torch.equal(rotate(x, exempt)[:, :, :2], x[:, :, :2])
    assert rotate(x.bfloat16(), exempt).dtype == torch.float32


def made(groups: int = 2) -> ConvolutionalPosition:
    torch.manual_seed(0)
    return ConvolutionalPosition(width=8, kernel=5, groups=groups, layers=2)


def test_padding_changes_no_token() -> None:
    layer = made()
    x = torch.randn(1, 9, 8)
    padded = torch.cat([x, 100 * torch.randn(1, 6, 8)], dim=1)
    valid = torch.arange(15)[None] < 9
    torch.testing.assert_close(layer(padded, valid)[:, :9], layer(x, None), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(layer(padded, None)[:, :9], layer(x, None), atol=1e-2)


def test_groups_do_not_mix_and_the_reach_is_the_kernels() -> None:
    layer = made(groups=2)
    x = torch.randn(1, 21, 8)
    moved = x.clone()
    moved[0, 10, :4] += 1.0
    changed = (layer(moved, None) - layer(x, None)).abs() > 1e-9
    assert not changed[..., 4:].any()
    assert changed[0].any(-1).nonzero().flatten().tolist() == list(range(6, 15))


def test_a_constant_sequence_shows_where_its_ends_are() -> None:
    out = made()(torch.ones(1, 21, 8), None)
    torch.testing.assert_close(out[0, 8], out[0, 12])
    assert not torch.allclose(out[0, 0], out[0, 10], atol=1e-3)
