"""Sampling speed beside F5-TTS's sampler, with networks of one size and random weights.

Both fill as many frames after as many given ones by as many Euler steps, each an evaluation of the
network with and without conditions in one batch (F5-TTS: `CFM.sample`, nfe 32, is its default).
They take turns in one run: what else the machine does meets both.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from voiceflow.benchmark.flops import Size
from voiceflow.benchmark.machine import load_average, processor
from voiceflow.benchmark.speed import (
    DTYPES,
    INSTALL,
    N_MELS,
    OURS,
    Load,
    build_neighbour,
    neighbour_class,
)
from voiceflow.config import SampleConfig, UserError
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import PRECISIONS, sample
from voiceflow.models.velocity import VelocityNetwork
from voiceflow.text.phones import PhoneTable

WEIGHTS, AUTOCAST, WHOLE = "F5-TTS, weights in bf16", "F5-TTS, autocast", "F5-TTS"
OUR_RATE, NEIGHBOUR_RATE = 100.0, 24_000 / 256  # frames a second
HEADER = (
    "| dtype | sampler | evaluations | seconds | CPU seconds | ours is so many times as fast "
    "| seconds of new sound | real-time factor |",
    "|---|---|---|---|---|---|---|---|",
)
_FRAMES_A_PHONE = 10
_CHARACTERS_A_FRAME = 0.15  # 15 a second


@dataclass(frozen=True)
class Workload:
    """What every sampler does: frames to be filled after `context` given ones, in so many steps."""

    frames: int = 1000
    context: int = 300
    evaluations: int = 32

    @property
    def all_frames(self) -> int:
        """New and given."""
        return self.context + self.frames


Draw = Callable[[], int]  # draws one sample; the evaluations that it took


def our_sampler(size: Size, asked: Workload, dtype: str) -> Draw:
    """Our network under `sample`, Euler, guided."""
    phones = PhoneTable.english()
    network = VelocityNetwork(size.config, len(phones), N_MELS).eval()
    _draw_weights(network)
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(asked.all_frames) >= asked.context
    context = torch.randn(asked.all_frames, N_MELS, generator=generator)
    durations = [_FRAMES_A_PHONE] * (asked.all_frames // _FRAMES_A_PHONE)
    durations += [asked.all_frames - sum(durations)] if asked.all_frames % _FRAMES_A_PHONE else []
    plan = Plan(
        (phones.symbols[1],) * len(durations),
        tuple(durations),
        context.masked_fill(mask[:, None], 0.0),
        mask,
        ((asked.context, asked.all_frames),),
    )
    settings = SampleConfig(
        steps=asked.evaluations,
        solver="euler",
        context_frames=asked.all_frames,
        precision=next(name for name, kind in PRECISIONS.items() if kind == DTYPES[dtype]),
    )
    assert settings.guidance != 0
    return lambda: sample(network, plan, phones, settings, seed=0).nfe


def neighbour_samplers(
    folder: Path | None, size: Size, asked: Workload, dtype: str
) -> dict[str, Draw]:
    """F5-TTS's sampler around its network, by name; UserError says how to get it.

    bf16 in the two ways there are: weights and state in bf16, as F5-TTS loads a network for half
    precision (its sway grid cannot be had so: in bf16 its first times are equal, and it stops), and
    float32 weights under autocast. Times are evenly spaced in all.
    """
    dit = neighbour_class(folder)
    try:
        cfm = importlib.import_module("f5_tts.model.cfm").CFM
    except ImportError as error:
        raise UserError(f"F5-TTS's sampler lacks something ({error}): {INSTALL}") from error

    def made(weights: torch.dtype, autocast: bool) -> Draw:
        network, _ = build_neighbour(dit, size, Load.draw(1, 8, torch.device("cpu")), False)
        _draw_weights(network)
        sampler = cfm(network, mel_spec_kwargs={"n_mel_channels": N_MELS}).to(weights)
        return partial(_neighbour_draw, sampler, network, asked, autocast)

    if dtype == "fp32":
        return {WHOLE: made(torch.float32, False)}
    return {WEIGHTS: made(torch.bfloat16, False), AUTOCAST: made(torch.float32, True)}


def _neighbour_draw(sampler: Any, network: nn.Module, asked: Workload, autocast: bool) -> int:
    """One `CFM.sample`, called as F5-TTS's inference calls it, without a vocoder."""
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(1, asked.context, N_MELS, generator=generator)
    n_characters = max(1, round(_CHARACTERS_A_FRAME * asked.all_frames))
    text = torch.randint(len(PhoneTable.english()), (1, n_characters), generator=generator)
    calls: list[int] = []
    counting = network.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        made, _ = sampler.sample(
            cond=given,
            text=text,
            duration=asked.all_frames,
            steps=asked.evaluations,
            cfg_strength=2.0,
            sway_sampling_coef=None,
            use_epss=False,  # which prunes a few low numbers of steps
            seed=0,
        )
    counting.remove()
    if made.shape[1] != asked.all_frames:
        raise RuntimeError(f"F5-TTS made {made.shape[1]} frames, not {asked.all_frames}")
    return len(calls)


def _draw_weights(network: nn.Module) -> None:
    """Small random weights where a network begins with zeros, and so would do nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.normal_(std=0.02, generator=generator)


@dataclass
class Sampler:
    """One that takes turns with others: wall and CPU seconds of each turn."""

    name: str
    dtype: str
    draw: Draw
    evaluations: int = 0
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        """One sample that is not timed: kernels are made, memory is found."""
        self.evaluations = self.draw()

    def turn(self) -> None:
        """One sample."""
        begun, worked = time.perf_counter(), time.process_time()
        self.draw()
        self.seconds.append(time.perf_counter() - begun)
        self.cpu_seconds.append(time.process_time() - worked)


@dataclass(frozen=True)
class Row:
    """What one sampler took for one sample, medians over rounds.

    ratio, lowest_ratio, highest_ratio: its seconds over ours in the same round; None for ours.
    """

    dtype: str
    sampler: str
    evaluations: int
    seconds: float
    cpu_seconds: float
    ratio: float | None
    lowest_ratio: float | None
    highest_ratio: float | None
    new_sound_seconds: float

    @staticmethod
    def of(one: Sampler, ours: Sampler, frames: int) -> Row:
        """ours: what `one` is held against, or itself; frames: new ones."""
        ratios = [a / b for a, b in zip(one.seconds, ours.seconds, strict=True)]
        ratios = [] if one is ours else ratios
        return Row(
            one.dtype,
            one.name,
            one.evaluations,
            statistics.median(one.seconds),
            statistics.median(one.cpu_seconds),
            statistics.median(ratios) if ratios else None,
            min(ratios, default=None),
            max(ratios, default=None),
            frames / (OUR_RATE if one is ours else NEIGHBOUR_RATE),
        )

    def as_text(self) -> str:
        """A row of the table."""
        ratio = "1"
        if self.ratio is not None:
            ratio = f"**{self.ratio:.2f}** ({self.lowest_ratio:.2f} to {self.highest_ratio:.2f})"
        return (
            f"| {self.dtype} | {self.sampler} | {self.evaluations} | {self.seconds:.2f} "
            f"| {self.cpu_seconds:.2f} | {ratio} | {self.new_sound_seconds:.1f} "
            f"| {self.seconds / self.new_sound_seconds:.2f} |"
        )


def compare(samplers: Sequence[Sampler], rounds: int, frames: int) -> list[Row]:
    """A row of each, the first of which is ours; who begins changes with each round."""
    for one in samplers:
        one.warm_up()
    asked = {one.evaluations for one in samplers}
    if len(asked) > 1:
        told = ", ".join(f"{one.name} {one.evaluations}" for one in samplers)
        raise RuntimeError(f"the samplers do not evaluate their networks equally often: {told}")
    for number in range(rounds):
        for one in samplers[:: -1 if number % 2 else 1]:
            one.turn()
    return [Row.of(one, samplers[0], frames) for one in samplers]


@contextmanager
def threads_of(number: int | None) -> Iterator[int]:
    """So many threads of torch inside, its own choice where None; gives their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def measure_sampling(
    size: Size,
    dtypes: Sequence[str],
    asked: Workload,
    *,
    rounds: int = 5,
    threads: int | None = None,
    neighbour_path: Path | None = None,
) -> dict[str, Any]:
    """Sample by ours and F5-TTS's in turns, print one table, and give the same for JSON.

    Without F5-TTS ours alone is measured, and a line says so.
    """
    rows: list[Row] = []
    loads = [load_average()]
    with threads_of(threads) as had:
        begun, worked = time.perf_counter(), time.process_time()
        for dtype in dtypes:
            samplers = [Sampler(OURS, dtype, our_sampler(size, asked, dtype))]
            try:
                others = neighbour_samplers(neighbour_path, size, asked, dtype)
            except UserError as missing:
                others = {}
                if dtype == dtypes[0]:
                    print(f"skipped: {missing}")
            samplers += [Sampler(name, dtype, draw) for name, draw in others.items()]
            rows += compare(samplers, rounds, asked.frames)
        busy = (time.process_time() - worked) / (time.perf_counter() - begun) / had
    loads.append(load_average())
    print(
        f"{processor()}, {had} threads, torch {torch.__version__}; {size}, {asked.frames} frames "
        f"after {asked.context}, {rounds} rounds; load average {loads[0]:.1f} before and "
        f"{loads[1]:.1f} after, {busy:.0%} of the threads' time was had",
        "",
        *HEADER,
        *(row.as_text() for row in rows),
        "",
        f"the same number of frames: {OUR_RATE:g} a second of sound in ours, "
        f"{NEIGHBOUR_RATE:g} in F5-TTS",
        sep="\n",
        flush=True,
    )
    return {
        "machine": processor(),
        "torch": str(torch.__version__),
        "threads": had,
        "size": str(size),
        **asdict(asked),
        "rounds": rounds,
        "load_average": loads,
        "share_of_cpu_time": busy,
        "rows": [asdict(row) for row in rows],
    }
