"""A small velocity network for points, such as the samples of a mixture."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from voiceflow.nn.embeddings import sinusoidal

_TIME_WIDTH = 32
_TIME_SCALE = 20.0  # a point's velocity changes over tenths of the time, not thousandths
_POINT_SCALE = 3.0  # of the first weights: points of unit variance have detail far below 1


class PointVelocity(nn.Module):
    """Fully connected layers on a point and its time."""

    def __init__(self, dimensions: int, width: int, layers: int) -> None:
        super().__init__()
        sizes = [dimensions + _TIME_WIDTH, *[width] * layers]
        hidden = [
            part
            for before, after in pairwise(sizes)
            for part in (nn.Linear(before, after), nn.SiLU())
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dimensions))
        # torch's own start shrinks the signal at each layer, so that a deep network of points sees
        # little but its biases and learns nothing for thousands of updates. The last layer starts
        # at zero: the flow is then that of a Gaussian, from which maximum likelihood can go on.
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        for layer in linear:
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
        nn.init.normal_(linear[0].weight[:, :dimensions], std=_POINT_SCALE)
        nn.init.zeros_(linear[-1].weight)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """t () or (B,), x (B, D) -> (B, D)."""
        time = sinusoidal(t.reshape(-1), _TIME_WIDTH, _TIME_SCALE)
        return self.layers(torch.cat([x, time.expand(len(x), -1)], 1))
