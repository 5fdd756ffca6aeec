"""What a step is, for each network that can be trained."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import DurationConfig, RunConfig, UserError, VelocityConfig
from voiceflow.data.batching import Batch
from voiceflow.flow.objective import ConditionalFlowMatching, masked_count
from voiceflow.flow.paths import OptimalTransport
from voiceflow.model_folder import build_duration, build_velocity
from voiceflow.text.phones import PhoneTable


class Task(Protocol):
    """A network and its loss, as a sum and a count that can be added over batches."""

    name: str

    @property
    def network_config(self) -> VelocityConfig | DurationConfig:
        """The network's size."""
        ...

    def build(self, phones: PhoneTable, features: FeatureSpec) -> nn.Module:
        """The untrained network."""
        ...

    def loss_sum(self, network: nn.Module, batch: Batch) -> Tensor:
        """Sum of the loss over all masked elements."""
        ...

    def count(self, batch: Batch) -> int:
        """Number of masked elements."""
        ...


class VelocityTask:
    """Masked conditional flow matching on the optimal-transport path (Le et al. 2023, eq. 5)."""

    name = "velocity"

    def __init__(self, config: RunConfig) -> None:
        self.network_config: VelocityConfig = config.model
        self.objective = ConditionalFlowMatching(OptimalTransport(config.task.sigma_min))

    def build(self, phones: PhoneTable, features: FeatureSpec) -> nn.Module:
        """The untrained velocity network."""
        return build_velocity(self.network_config, phones, features)

    def loss_sum(self, network: nn.Module, batch: Batch) -> Tensor:
        """Squared error of the velocity, summed over masked frames and bands.

        x_t on context frames lies on its known path, as it does at inference.
        """
        context = batch.mel.masked_fill(batch.frame_mask.unsqueeze(-1), 0.0)
        context = context.masked_fill(batch.unconditional[:, None, None], 0.0)

        def velocity(t: Tensor, xt: Tensor) -> Tensor:
            return network(xt, context, batch.frame_phones, t, batch.frame_lengths)

        return self.objective(velocity, batch.noise, batch.mel, batch.t, batch.frame_mask).total

    def count(self, batch: Batch) -> int:
        """Masked frames times bands."""
        return masked_count(batch.frame_mask, batch.mel.shape[-1])


class DurationTask:
    """L1 regression of log(1 + d) on masked phones (Le et al. 2023, section 3.1)."""

    name = "duration"

    def __init__(self, config: RunConfig) -> None:
        self.network_config = config.duration

    def build(self, phones: PhoneTable, features: FeatureSpec) -> nn.Module:
        """The untrained duration network."""
        return build_duration(self.network_config, phones)

    def loss_sum(self, network: nn.Module, batch: Batch) -> Tensor:
        """|predicted - log(1 + d)|, summed over masked phones."""
        phones = batch.phones.masked_fill(batch.unconditional[:, None], 0)
        predicted = network(phones, batch.durations, batch.mask, batch.phone_lengths)
        error = (predicted - torch.log1p(batch.durations.float())).abs()
        return (error * batch.mask).sum()

    def count(self, batch: Batch) -> int:
        """Masked phones."""
        return int(batch.mask.sum())


def make_task(config: RunConfig) -> Task:
    """The task that the configuration names; UserError when there is none."""
    tasks: dict[str, type[VelocityTask] | type[DurationTask]] = {
        "velocity": VelocityTask,
        "duration": DurationTask,
    }
    if config.task.name not in tasks:
        raise UserError(f"task.name '{config.task.name}' is not one of {', '.join(tasks)}")
    return tasks[config.task.name](config)
