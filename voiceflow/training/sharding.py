"""A network whose parameters are dealt out to the processes (FSDP2: torch's `fully_shard`).

Everywhere else in training a tensor may be a DTensor, of which this process holds a part; the
functions here are the only ones that look. On the whole they are the tensors they are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from voiceflow.nn.transformer import Block


def shard(network: nn.Module) -> nn.Module:
    """Deal the parameters out, block by block; needs a process group. Returns the network."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    kind = next(network.parameters()).device.type
    mesh = init_device_mesh(kind, (torch.distributed.get_world_size(),))
    for module in network.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    # Dealt out again after each forward pass: what stayed whole after a validation, which has no
    # backward pass, would go into the next update with the averaged weights.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    return network


def is_sharded(network: nn.Module) -> bool:
    """Whether its parameters are dealt out."""
    return any(isinstance(p, DTensor) for p in network.parameters())


@contextmanager
def without_sync(network: nn.Module) -> Iterator[None]:
    """Gradients of a sharded network stay in their process until a later backward."""
    network.set_requires_gradient_sync(False)  # type: ignore[operator]
    try:
        yield
    finally:
        network.set_requires_gradient_sync(True)  # type: ignore[operator]


def mine(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor; changes of it are changes of the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process calls it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor dealt out as `like` is; one that is dealt out already as it is."""
    if isinstance(tensor, DTensor):
        return tensor
    if not isinstance(like, DTensor):
        return tensor.to(like.device)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def empty_as(like: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """A tensor to be filled, dealt out as `like` is if that has the same shape."""
    if not isinstance(like, DTensor) or like.shape != shape:
        return torch.empty(shape, dtype=dtype)
    return torch.empty_like(like, dtype=dtype)


def dealt_as(local: Tensor, like: Tensor) -> Tensor:
    """The tensor of which each process holds a `local` as it holds of `like`."""
    if not isinstance(like, DTensor):
        return local
    return DTensor.from_local(
        local, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
