"""What a training of the paper's size would take: hours, disk and network, and what is narrowest.

Nothing here was run: it is arithmetic on figures that were measured elsewhere (bytes a frame,
examples a second) and on figures that are assumed (`Machine`). How much of a GPU's peak is
reached is an input. docs/scaling.md names every assumption.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from voiceflow.benchmark.flops import forward_flops
from voiceflow.config import DurationConfig, TaskConfig, UserError, VelocityConfig, load_group
from voiceflow.data.batching import collate
from voiceflow.data.dataset import ExampleMaker
from voiceflow.data.shards import open_prepared
from voiceflow.files import write_json
from voiceflow.models.duration import DurationNetwork
from voiceflow.models.velocity import VelocityNetwork
from voiceflow.text.phones import PhoneTable

HOURS = (100.0, 960.0, 60_000.0)
N_MELS, FRAMES_AN_HOUR, CROP_FRAMES = 80, 360_000, 1600
FP32_BYTES, CHECKPOINTS = 4, 3  # two are kept, one is being written
HEADER = (
    "| model | speech, h | passes | GPU-h | training, h | compute, ms | reading, ms | examples, ms "
    "| all-reduce, ms | all-reduce, GB | streamed, MB/s | preparation, core-h | disk, TB "
    "| narrowest |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Data:
    """What speech costs once prepared; the defaults were measured (docs/scaling.md says how).

    shard_bytes: of a frame in the Parquet shards (float16 x 80 mels, phones, words, compressed);
    mapped_bytes: of a frame in the Arrow copy that is memory-mapped; recording_bytes: of a second
    of 16 kHz FLAC; examples_per_second: frames a second that one worker makes batches of;
    features_speed, alignment_speed: times real time of one core.
    """

    shard_bytes: float = 134.2
    mapped_bytes: float = 162.1
    phones_per_frame: float = 0.1253
    recording_bytes: float = 18_931.0
    examples_per_second: float = 450_000.0
    features_speed: float = 300.0
    alignment_speed: float = 100.0

    @staticmethod
    def of(folder: Path) -> Data:
        """The first three and the examples a second as a prepared local folder has them."""
        prepared = open_prepared(folder)
        n_frames, n_rows = int(prepared.info["frames"]), len(prepared.dataset)
        make = ExampleMaker(prepared.features, TaskConfig(), CROP_FRAMES, seed=0)
        start, made = time.perf_counter(), 0
        for first in range(0, n_rows, 8):
            rows = range(first, min(first + 8, n_rows))
            made += int(collate([make(0, prepared.framed(i)) for i in rows]).frame_lengths.sum())
        seconds = time.perf_counter() - start
        n_phones = sum(len(phones) for phones in prepared.dataset["phones"])

        def a_frame(pattern: str) -> float:
            return sum(p.stat().st_size for p in folder.glob(pattern)) / n_frames

        return Data(
            shard_bytes=a_frame("shards/*.parquet"),
            mapped_bytes=a_frame(".cache/**/*.arrow"),
            phones_per_frame=n_phones / n_frames,
            examples_per_second=made / seconds,
        )


@dataclass(frozen=True)
class Machine:
    """The machine, as it is assumed to be.

    peak: operations a second of one GPU in bf16; utilisation: the share of it that training
    reaches; bandwidth: bytes a second a GPU sends in an all-reduce; read_bandwidth: bytes a second
    of storage for each GPU; workers: processes a GPU that make examples; cores: for preparation;
    memory, disk: bytes a node, which holds all the data, unless `stream`: then shards are read
    over the network, every time.
    """

    gpus: int = 8
    peak: float = 989e12
    utilisation: float = 0.26
    bandwidth: float = 50e9
    read_bandwidth: float = 500e6
    workers: int = 8
    cores: int = 64
    memory: float = 1e12
    disk: float = 30e12
    stream: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise UserError(
                f"the utilisation must lie above 0 and be at most 1, found {self.utilisation:.3g} "
                "(frames a second times operations a frame over the peak)"
            )


@dataclass(frozen=True)
class Model:
    """One of the paper's models and its training (Le et al. 2023, section 5.1).

    flops_per_frame: of forward and backward, for crops of 1600 frames.
    """

    name: str
    parameters: int
    flops_per_frame: float
    updates: int
    batch_frames: int


def papers_models(data: Data) -> list[Model]:
    """The audio model and the duration model; the latter sees phones, so many a frame.

    flops_per_frame = 3 x forward_flops(crop) / 1600, the crop being 1600 frames or their phones.
    """
    n_phones = len(PhoneTable.english())
    audio = load_group(VelocityConfig, "model", "voicebox330m")
    duration = load_group(DurationConfig, "duration", "base")
    with torch.device("meta"):
        networks = VelocityNetwork(audio, n_phones, N_MELS), DurationNetwork(duration, n_phones)
    sizes = [sum(p.numel() for p in network.parameters()) for network in networks]
    frames = forward_flops(audio, 2 * N_MELS, 1, CROP_FRAMES)
    phones = forward_flops(duration, 2, 1, round(CROP_FRAMES * data.phones_per_frame))
    return [
        Model("audio", sizes[0], 3 * frames / CROP_FRAMES, 500_000, 240_000),
        Model("duration", sizes[1], 3 * phones / CROP_FRAMES, 600_000, 60_000),
    ]


@dataclass(frozen=True)
class Need:
    """What one training on so many hours of speech takes. Seconds are of one update on one GPU."""

    model: Model = field(repr=False)
    machine: Machine = field(repr=False)
    data: Data = field(repr=False)
    hours: float

    @property
    def frames(self) -> float:
        """Of the data: hours x 360 000."""
        return self.hours * FRAMES_AN_HOUR

    @property
    def passes(self) -> float:
        """updates x batch / frames."""
        return self.model.updates * self.model.batch_frames / self.frames

    @property
    def share(self) -> float:
        """Frames of one GPU in an update: batch / GPUs."""
        return self.model.batch_frames / self.machine.gpus

    @property
    def compute_seconds(self) -> float:
        """share x operations a frame / (peak x utilisation)."""
        reached = self.machine.peak * self.machine.utilisation
        return self.share * self.model.flops_per_frame / reached

    @property
    def reading_seconds(self) -> float:
        """share x bytes a frame / storage's bytes a second.

        Mapped data that fit into a node's memory are read once and cost nothing from then on.
        """
        fits = self.frames * self.data.mapped_bytes <= self.machine.memory
        if fits and not self.machine.stream:
            return 0.0
        a_frame = self.data.shard_bytes if self.machine.stream else self.data.mapped_bytes
        return self.share * a_frame / self.machine.read_bandwidth

    @property
    def examples_seconds(self) -> float:
        """share / (workers x frames a second of a worker)."""
        return self.share / (self.machine.workers * self.data.examples_per_second)

    @property
    def reduced_bytes(self) -> float:
        """What a GPU sends in an update, in a ring: 2 (n - 1) / n x 4 bytes x parameters."""
        n = self.machine.gpus
        return 2 * (n - 1) / n * FP32_BYTES * self.model.parameters

    @property
    def reduce_seconds(self) -> float:
        """reduced_bytes / bandwidth."""
        return self.reduced_bytes / self.machine.bandwidth

    @property
    def update_seconds(self) -> float:
        """max(compute, reading, examples) + all-reduce.

        Data are read ahead. The all-reduce is counted in full, though most of it goes on beside
        the backward pass.
        """
        ahead = max(self.compute_seconds, self.reading_seconds, self.examples_seconds)
        return ahead + self.reduce_seconds

    @property
    def training_hours(self) -> float:
        """updates x update_seconds / 3600."""
        return self.model.updates * self.update_seconds / 3600

    @property
    def streamed_bytes_per_second(self) -> float:
        """Of all GPUs together, where shards are streamed: batch x bytes a frame / update."""
        streamed = self.model.batch_frames * self.data.shard_bytes / self.update_seconds
        return streamed if self.machine.stream else 0.0

    @property
    def preparation_core_hours(self) -> float:
        """hours x (1 / speed of features + 1 / speed of alignment)."""
        return self.hours * (1 / self.data.features_speed + 1 / self.data.alignment_speed)

    @property
    def disk_bytes(self) -> float:
        """Recordings, shards, and the Arrow copy, or no data at all with `stream`; checkpoints.

        A checkpoint: weights, their average, Adam's two moments, 4 bytes each.
        """
        kept = CHECKPOINTS * 4 * FP32_BYTES * self.model.parameters
        if self.machine.stream:
            return kept
        a_frame = self.data.shard_bytes + self.data.mapped_bytes
        return kept + self.frames * a_frame + self.hours * 3600 * self.data.recording_bytes

    @property
    def narrowest(self) -> str:
        """Disk, where the data do not fit; else what takes the longest, from start to end."""
        if self.disk_bytes > self.machine.disk:
            return f"disk ({self.machine.disk / 1e12:.3g} TB)"
        hours = {
            "compute": self.model.updates * self.compute_seconds / 3600,
            "reading": self.model.updates * self.reading_seconds / 3600,
            "examples": self.model.updates * self.examples_seconds / 3600,
            "all-reduce": self.model.updates * self.reduce_seconds / 3600,
            "preparation": self.preparation_core_hours / self.machine.cores,
        }
        return max(hours, key=lambda name: hours[name])

    def __str__(self) -> str:
        cells = (
            self.model.name,
            f"{self.hours:,.0f}",
            f"{self.passes:,.1f}",
            f"{self.training_hours * self.machine.gpus:,.1f}",
            f"{self.training_hours:,.1f}",
            f"{1e3 * self.compute_seconds:.2f}",
            f"{1e3 * self.reading_seconds:.2f}",
            f"{1e3 * self.examples_seconds:.2f}",
            f"{1e3 * self.reduce_seconds:.2f}",
            f"{self.reduced_bytes / 1e9:.2f}",
            f"{self.streamed_bytes_per_second / 1e6:,.0f}",
            f"{self.preparation_core_hours:,.1f}",
            f"{self.disk_bytes / 1e12:.2f}",
            self.narrowest,
        )
        return f"| {' | '.join(cells)} |"

    def as_dict(self) -> dict[str, float | str]:
        """Every figure by its name."""
        names = [name for name, value in vars(Need).items() if isinstance(value, property)]
        figures = {name: getattr(self, name) for name in names}
        return {"model": self.model.name, "hours": self.hours, **figures}


def measure_scaling(
    hours: Sequence[float] = HOURS,
    *,
    machine: Machine,
    frames_per_second: float | None = None,
    folder: Path | None = None,
    out: Path | None = None,
) -> list[Need]:
    """Print what the paper's two trainings take on so many hours of speech; `out`: as JSON too.

    frames_per_second: that one GPU was seen to train the audio model at; it gives the utilisation,
    frames a second x operations a frame / peak. folder: prepared data to measure `Data` on.
    """
    data = Data() if folder is None else Data.of(folder)
    models = papers_models(data)
    if frames_per_second is not None:
        reached = frames_per_second * models[0].flops_per_frame / machine.peak
        machine = replace(machine, utilisation=reached)
    needs = [Need(model, machine, data, one) for model in models for one in hours]
    print(
        f"{machine.gpus} GPUs of {machine.peak / 1e12:g} TFLOP/s, {machine.utilisation:.1%} of it "
        "reached (given, not measured here)",
        f"{data.shard_bytes:.1f} bytes a frame in shards, {data.mapped_bytes:.1f} memory-mapped; "
        f"{data.phones_per_frame:.4f} phones a frame; {data.examples_per_second:,.0f} frames/s of "
        "examples a worker",
        *(
            f"{model.name}: {model.parameters / 1e6:.1f} M parameters, "
            f"{model.flops_per_frame / 1e9:.3f} Gflop a frame, {model.updates:,} updates of "
            f"{model.batch_frames:,} frames"
            for model in models
        ),
        "",
        HEADER,
        *needs,
        sep="\n",
    )
    if out is not None:
        given = {"machine": asdict(machine), "data": asdict(data)}
        given |= {"models": {model.name: asdict(model) for model in models}}
        write_json(out, {**given, "rows": [need.as_dict() for need in needs]})
    return needs
