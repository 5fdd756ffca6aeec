"""The velocity network of points: shapes, times, and a start from which it learns."""

import torch

from voiceflow.models.point_velocity import PointVelocity


def test_one_time_for_all_is_the_same_as_one_for_each() -> None:
    network = PointVelocity(2, 16, 2)
    torch.nn.init.normal_(network.layers[-1].weight)
    x = torch.randn(5, 2)
    one = network(torch.tensor(0.3), x)
    assert one.shape == (5, 2)
    torch.testing.assert_close(network(torch.full((5,), 0.3), x), one)
    torch.testing.assert_close(network(torch.tensor(0.3), x[:2]), one[:2])
    assert not torch.allclose(network(torch.tensor(0.6), x), one)


def test_the_start_is_zero_and_yet_sees_the_point() -> None:
    """A Gaussian's flow at first; what the last layer is given varies with the point."""
    torch.manual_seed(0)
    network = PointVelocity(2, 64, 4)
    x = torch.randn(500, 2)
    assert not network(torch.tensor(0.5), x).any()
    seen: list[torch.Tensor] = []
    network.layers[-1].register_forward_hook(lambda module, given, out: seen.append(given[0]))
    network(torch.tensor(0.5), x)
    assert 0.2 < float(seen[0].detach().std(0).mean()) < 3
