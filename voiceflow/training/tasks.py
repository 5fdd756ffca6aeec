"""What a step is, for each network that can be trained."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import (
    AlignerConfig,
    DurationConfig,
    RunConfig,
    UserError,
    VelocityConfig,
    VocoderConfig,
)
from voiceflow.data.batching import Batch
from voiceflow.flow.objective import ConditionalFlowMatching, masked_count
from voiceflow.flow.paths import PATHS, OptimalTransport
from voiceflow.model_folder import (
    build_aligner,
    build_duration,
    build_duration_flow,
    build_velocity,
)
from voiceflow.models.adversary import VocoderGame
from voiceflow.models.aligner import BLANK, PhoneRecogniser
from voiceflow.models.duration import normalised_logs
from voiceflow.models.phases import PhaseLosses
from voiceflow.text.phones import NONE, SILENCE, PhoneTable, base_of


class Task(Protocol):
    """A network and its loss, as a sum and a count that can be added over batches."""

    name: str

    @property
    def network_config(self) -> VelocityConfig | DurationConfig | AlignerConfig | VocoderConfig:
        """The network's size."""
        ...

    @property
    def part(self) -> str:
        """The module of the network that a voice keeps; empty: all of it."""
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

    def tokens(self, batch: Batch) -> Tensor:
        """(B,) positions of each item that the network works on."""
        ...

    def figure_sums(self, network: nn.Module, batch: Batch) -> dict[str, float]:
        """What else validation tells, summed over masked elements, by names with their units."""
        ...


class VelocityTask:
    """Masked conditional flow matching (Le et al. 2023, eq. 5), on the optimal-transport path.

    task.path names another path, and task.loss_frames=all counts context frames too; the paper
    compares both with its own choices (table 5 and appendix).
    """

    name = "velocity"
    part = ""

    def __init__(self, config: RunConfig) -> None:
        self.network_config: VelocityConfig = config.model
        options = config.task
        if options.path not in PATHS:
            raise UserError(f"task.path '{options.path}' is not one of {', '.join(PATHS)}")
        if options.loss_frames not in ("masked", "all"):
            raise UserError(f"task.loss_frames must be masked or all, found {options.loss_frames}")
        straight = options.path == "optimal_transport"
        path = OptimalTransport(options.sigma_min) if straight else PATHS[options.path]()
        self.objective = ConditionalFlowMatching(path)
        self.all_frames = options.loss_frames == "all"

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

        return self.objective(velocity, batch.noise, batch.mel, batch.t, self._counted(batch)).total

    def _counted(self, batch: Batch) -> Tensor:
        """(B, T) True on the frames whose error counts."""
        if not self.all_frames:
            return batch.frame_mask
        place = torch.arange(batch.mel.shape[1], device=batch.mel.device)
        return place < batch.frame_lengths.unsqueeze(1)

    def count(self, batch: Batch) -> int:
        """Frames that count, times bands."""
        return masked_count(self._counted(batch), batch.mel.shape[-1])

    def tokens(self, batch: Batch) -> Tensor:
        """Frames, and the flow step."""
        return batch.frame_lengths + 1

    def figure_sums(self, network: nn.Module, batch: Batch) -> dict[str, float]:
        """Nothing."""
        return {}


class DurationTask:
    """L1 regression of log(1 + d) on masked phones (Le et al. 2023, section 3.1)."""

    name = "duration"
    part = ""

    def __init__(self, config: RunConfig) -> None:
        self.network_config = config.duration

    def build(self, phones: PhoneTable, features: FeatureSpec) -> nn.Module:
        """The untrained duration network."""
        return build_duration(self.network_config, phones)

    def loss_sum(self, network: nn.Module, batch: Batch) -> Tensor:
        """|predicted - log(1 + d)|, summed over masked phones."""
        error = (self._predict(network, batch) - torch.log1p(batch.durations.float())).abs()
        return (error * batch.mask).sum()

    def _predict(self, network: nn.Module, batch: Batch) -> Tensor:
        phones = batch.phones.masked_fill(batch.unconditional[:, None], 0)
        predicted: Tensor = network(phones, batch.durations, batch.mask, batch.phone_lengths)
        return predicted

    def count(self, batch: Batch) -> int:
        """Masked phones."""
        return int(batch.mask.sum())

    def tokens(self, batch: Batch) -> Tensor:
        """Phones."""
        return batch.phone_lengths

    def figure_sums(self, network: nn.Module, batch: Batch) -> dict[str, float]:
        """The absolute error of a masked phone's duration."""
        error = (torch.expm1(self._predict(network, batch)) - batch.durations).abs()
        return {"duration_error_frames": float((error * batch.mask).sum())}


class DurationFlowTask:
    """Masked conditional flow matching of durations (Le et al. 2023, section 3.3).

    Data are x1 = log(1 + d), normalised. A masked duration is dequantised first: d + u - 1/2 with
    u ~ U[0, 1) (appendix A.3), so at least -1/2, where the logarithm is defined. A known one stays
    whole, as it is at inference.
    """

    name = "duration_flow"
    part = ""

    def __init__(self, config: RunConfig) -> None:
        self.network_config = config.duration
        self.objective = ConditionalFlowMatching(OptimalTransport(config.task.sigma_min))

    def build(self, phones: PhoneTable, features: FeatureSpec) -> nn.Module:
        """The untrained flow duration network."""
        return build_duration_flow(self.network_config, phones)

    def loss_sum(self, network: nn.Module, batch: Batch) -> Tensor:
        """Squared error of the velocity, summed over masked phones.

        x_t on context phones lies on its known path, as it does at inference.
        """
        phones = batch.phones.masked_fill(batch.unconditional[:, None], 0)
        hidden = batch.mask | batch.unconditional[:, None]
        x0, u = (phone_draws(batch, number) for number in (0, 1))
        within = (torch.special.ndtr(u) - 0.5) * batch.mask
        x1 = normalised_logs(batch.durations + within, self.network_config)

        def velocity(t: Tensor, xt: Tensor) -> Tensor:
            return network(xt, phones, batch.durations, hidden, t, batch.phone_lengths)

        return self.objective(velocity, x0, x1, batch.t, batch.mask).total

    def count(self, batch: Batch) -> int:
        """Masked phones."""
        return int(batch.mask.sum())

    def tokens(self, batch: Batch) -> Tensor:
        """Phones, and the flow step."""
        return batch.phone_lengths + 1

    def figure_sums(self, network: nn.Module, batch: Batch) -> dict[str, float]:
        """Nothing."""
        return {}


class AlignerTask:
    """Phones of frames: by the data's own borders, by CTC with label priors, or by both."""

    name = "aligner"
    part = ""

    def __init__(self, config: RunConfig) -> None:
        self.network_config = config.aligner
        self.ctc_weight = config.task.ctc_weight
        self.prior_scale = config.task.prior_scale
        if not 0 <= self.ctc_weight <= 1:
            raise UserError(f"task.ctc_weight must lie in [0, 1], found {self.ctc_weight}")

    def build(self, phones: PhoneTable, features: FeatureSpec) -> nn.Module:
        """The untrained recogniser; remembers which class each phone of the table is."""
        bases = phones.bases()
        self.classes = torch.tensor(
            [BLANK if s in (NONE, SILENCE) else bases.index(base_of(s)) for s in phones.symbols]
        )
        return build_aligner(self.network_config, phones, features)

    def loss_sum(self, network: nn.Module, batch: Batch) -> Tensor:
        """Negative log posteriors, summed over outputs."""
        lengths = self._outputs(batch)
        log_probs = network(batch.mel, batch.frame_lengths)[:, : int(lengths.max())]
        labels = self.classes.to(batch.phones.device)[batch.phones]
        loss = log_probs.new_zeros(())
        if self.ctc_weight < 1:
            target = labels_of_outputs(labels, batch.durations, lengths, self.network_config.stride)
            by_border = F.nll_loss(
                log_probs.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="sum"
            )
            loss = loss + (1 - self.ctc_weight) * by_border
        if self.ctc_weight > 0:
            recogniser = getattr(network, "module", network)
            assert isinstance(recogniser, PhoneRecogniser)
            prior = recogniser.log_prior
            spoken = labels != BLANK  # silence is what blank says
            loss = loss + self.ctc_weight * F.ctc_loss(
                (log_probs - self.prior_scale * prior).transpose(0, 1),
                labels[spoken],
                lengths,
                spoken.sum(1),
                blank=BLANK,
                reduction="sum",
                zero_infinity=True,
            )
        return loss

    def count(self, batch: Batch) -> int:
        """Outputs of the recogniser."""
        return int(self._outputs(batch).sum())

    def tokens(self, batch: Batch) -> Tensor:
        """Outputs of the recogniser."""
        return self._outputs(batch)

    def figure_sums(self, network: nn.Module, batch: Batch) -> dict[str, float]:
        """Nothing."""
        return {}

    def _outputs(self, batch: Batch) -> Tensor:
        stride = self.network_config.stride
        return (batch.frame_lengths + stride - 1) // stride


def labels_of_outputs(labels: Tensor, durations: Tensor, lengths: Tensor, stride: int) -> Tensor:
    """The label (B, T') of the frame that each output stands on; -1 at padding.

    labels, durations: (B, N), in frames; lengths: (B,) outputs.
    """
    frames = stride * torch.arange(int(lengths.max()), device=labels.device)
    ends = durations.cumsum(1)
    phone = torch.searchsorted(ends, frames.expand(len(ends), -1).contiguous(), right=True)
    found = labels.gather(1, phone.clamp_max(labels.shape[1] - 1))
    return found.masked_fill(frames >= (stride * lengths).unsqueeze(1), -1)


def phone_draws(batch: Batch, number: int) -> Tensor:
    """Standard normal draws (B, N), two for each phone: `number` is 0 or 1.

    They are elements of the example's own noise (T, 8), which this task uses for nothing else, so
    they depend on neither batch nor padding. No two phones share one while 2 N <= 8 T, which holds
    of all speech: beside each phone of no frames, a silence, stands one that has some.
    """
    place = 2 * torch.arange(batch.phones.shape[1], device=batch.noise.device) + number
    n_frames = batch.frame_lengths.to(batch.noise.device).unsqueeze(1)
    band = torch.div(place, n_frames, rounding_mode="floor") % batch.noise.shape[-1]
    item = torch.arange(len(n_frames), device=batch.noise.device).unsqueeze(1)
    return batch.noise[item, place % n_frames, band]


class VocoderTask:
    """Log-mel to waveform: by phase differences, or by spectral losses and, if it has any, against
    discriminators."""

    name = "vocoder"
    part = "vocoder"

    def __init__(self, config: RunConfig) -> None:
        self.network_config = config.vocoder
        if config.train.fsdp:
            raise UserError("train.fsdp is for Transformers: train a vocoder without it")

    def build(self, phones: PhoneTable, features: FeatureSpec) -> nn.Module:
        """The untrained vocoder with what it learns from."""
        if self.network_config.differences:
            return PhaseLosses(self.network_config, features)
        return VocoderGame(self.network_config, features)

    def loss_sum(self, network: nn.Module, batch: Batch) -> Tensor:
        """The loss of each crop, summed."""
        loss: Tensor = network(batch.mel, batch.wave)["loss"].sum()
        return loss

    def count(self, batch: Batch) -> int:
        """Crops."""
        return len(batch.ids)

    def tokens(self, batch: Batch) -> Tensor:
        """Frames."""
        return batch.frame_lengths

    def figure_sums(self, network: nn.Module, batch: Batch) -> dict[str, float]:
        """Each of its losses by name."""
        told = network(batch.mel, batch.wave)
        return {name: float(value.sum()) for name, value in told.items() if name != "loss"}


def make_task(config: RunConfig) -> Task:
    """The task that the configuration names; UserError when there is none."""
    tasks: dict[
        str,
        type[VelocityTask] | type[DurationTask] | type[DurationFlowTask] | type[AlignerTask]
        | type[VocoderTask],
    ] = {
        "velocity": VelocityTask,
        "duration": DurationTask,
        "duration_flow": DurationFlowTask,
        "aligner": AlignerTask,
        "vocoder": VocoderTask,
    }
    if config.task.name not in tasks:
        raise UserError(f"task.name '{config.task.name}' is not one of {', '.join(tasks)}")
    return tasks[config.task.name](config)
