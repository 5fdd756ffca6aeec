"""Floating-point operations of the networks: those of linear layers and attention, and no others.

Convolutions, norms, softmax and the optimiser are left out. A training update is 3 x a forward
pass: each product of the forward pass has two in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from voiceflow.config import DurationConfig, UserError, VelocityConfig

NEIGHBOUR_TIME_WIDTH = 256  # of the sines and cosines that the flow step becomes in F5-TTS


@dataclass(frozen=True)
class Size:
    """A size that both networks are built in."""

    width: int
    layers: int
    heads: int
    feed_forward: int

    @staticmethod
    def parse(text: str) -> Size:
        """From `WIDTH/LAYERS/HEADS/FEED_FORWARD`; UserError for anything else."""
        parts = text.split("/")
        if len(parts) != 4 or not all(p.isascii() and p.isdigit() and int(p) for p in parts):
            raise UserError(
                f"a size is WIDTH/LAYERS/HEADS/FEED_FORWARD such as 256/6/4/1024, found '{text}'"
            )
        size = Size(*map(int, parts))
        if size.width % size.heads or size.width % 16:
            raise UserError(
                f"size {text}: the width must be a multiple of 16 and of the {size.heads} heads"
            )
        return size

    def __str__(self) -> str:
        return f"{self.width}/{self.layers}/{self.heads}/{self.feed_forward}"

    @property
    def config(self) -> VelocityConfig:
        """Our network's."""
        return VelocityConfig(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            feed_forward=self.feed_forward,
            phone_width=self.width,
        )


def forward_flops(
    config: VelocityConfig | DurationConfig, n_numbers: int, n_items: int, n_tokens: int
) -> int:
    """Operations (2 a product and sum) of a forward pass's linear layers and attention.

    n_numbers: what a frame or phone comes as beside its phone, 2 M for (B, T, M) mels, 2 for the
    duration network by regression; n_items, n_tokens: the batch, B x T. With D width, F feed-
    forward, L layers, P phone width, T' = T and the token of the flow step, a pass over an item is

        2 T D (n_numbers + P) + 2 T D n_outputs           input, output
        + L (2 T' (4 D^2 + 2 D F) + 4 T'^2 D)             linear layers, attention
        + floor(L / 2) 4 T' D^2                           UNet skips
        + 4 D^2 (+ 2 (6 L + 2) D^2 with `time: adaln`)    flow step
    """
    d, f, layers = config.width, config.feed_forward, config.layers
    flow = isinstance(config, VelocityConfig)
    modulated = isinstance(config, VelocityConfig) and config.time == "adaln"
    n_outputs = n_numbers // 2
    inside = n_tokens + (flow and not modulated)
    item = 2 * n_tokens * d * (n_numbers + config.phone_width + n_outputs)
    item += layers * (2 * inside * (4 * d * d + 2 * d * f) + 4 * inside**2 * d)
    item += layers // 2 * 4 * inside * d * d
    item += 4 * d * d * flow + 2 * (6 * layers + 2) * d * d * modulated
    return n_items * item


def neighbour_flops(size: Size, n_mels: int, n_items: int, n_frames: int) -> int:
    """The same of F5-TTS's DiT: no skips, no token, but each block modulated by the flow step."""
    d, f, layers = size.width, size.feed_forward, size.layers
    item = 2 * n_frames * d * (3 * n_mels + d)
    item += layers * (2 * n_frames * (4 * d * d + 2 * d * f) + 4 * n_frames**2 * d)
    item += 2 * d * (NEIGHBOUR_TIME_WIDTH + d) + 2 * (6 * layers + 2) * d * d
    return n_items * item
