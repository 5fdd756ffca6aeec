"""Training speed beside F5-TTS's DiT, and the share of the machine's matrix product peak it is.

One update is forward, backward and a step of Adam, on one batch that fits in memory. The two
networks have the same width, layers, heads, feed-forward, dropout (none), loss and optimiser, and
take turns in one run: what else the machine does meets both. No frame is padding and neither is
given a mask; compiled, ours makes itself one. Floating-point operations are counted as
`flops.py` says: linear layers and attention, 3 x forward.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from voiceflow.benchmark.flops import Size, forward_flops, neighbour_flops
from voiceflow.benchmark.machine import load_average, processor
from voiceflow.config import TrainConfig, UserError
from voiceflow.files import write_json
from voiceflow.models.velocity import VelocityNetwork
from voiceflow.text.phones import PhoneTable
from voiceflow.training.optim import make_optimizer

N_MELS = 80
OURS, NEIGHBOUR = "voiceflow", "F5-TTS DiT"
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
INSTALL = (
    "pip install --no-deps --target FOLDER f5-tts==1.1.22 x-transformers==2.31.10 "
    "torch-einops-utils einx loguru frozendict pypinyin rjieba"
)
HEADER = (
    "| size | dtype | network | parameters | frames/s | ratio | flop a frame | of the peak |",
    "|---|---|---|---|---|---|---|---|",
)
_CHARACTERS_A_FRAME = 0.15  # 15 a second: the neighbour reads text, padded to the frames


@dataclass(frozen=True)
class Load:
    """The batch of every update: xt, ut, context (B, T, M), phones (B, T), text (B, N), t (B,).

    mask: (B, T) True where the loss is taken, 70 to 100 % of an item.
    """

    xt: Tensor
    ut: Tensor
    context: Tensor
    phones: Tensor
    text: Tensor
    t: Tensor
    mask: Tensor

    @staticmethod
    def draw(items: int, frames: int, device: torch.device) -> Load:
        """The same for every size and precision."""
        generator = torch.Generator().manual_seed(0)
        x0, x1 = torch.randn(2, items, frames, N_MELS, generator=generator)
        t = torch.rand(items, generator=generator)
        share = 0.7 + 0.3 * torch.rand(items, 1, generator=generator)
        mask = torch.arange(frames) < share * frames
        n_phones, at = len(PhoneTable.english()), t[:, None, None]
        text = (items, max(1, round(_CHARACTERS_A_FRAME * frames)))
        drawn = (
            (1 - at) * x0 + at * x1,
            x1 - x0,
            x1.masked_fill(mask.unsqueeze(-1), 0.0),
            torch.randint(n_phones, (items, frames), generator=generator),
            torch.randint(n_phones, text, generator=generator),
            t,
            mask,
        )
        return Load(*(x.to(device) for x in drawn))


Built = tuple[nn.Module, Callable[[], Tensor]]  # a network, and its velocity of the load


def build_ours(size: Size, load: Load, compiled: bool) -> Built:
    """Our network, and its velocity of the load."""
    network = VelocityNetwork(size.config, len(PhoneTable.english()), N_MELS).to(load.xt.device)
    call = torch.compile(network) if compiled else network
    lengths = torch.full((len(load.t),), load.xt.shape[1])
    return network, lambda: call(load.xt, load.context, load.phones, load.t, lengths)


def neighbour_class(folder: Path | None = None) -> Callable[..., nn.Module]:
    """F5-TTS's DiT, out of `folder` or where it can be imported; UserError says how to get it.

    Its package brings a trainer and the services that one reports to when it is imported: the one
    module with the network is taken out past it.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: no such folder; put F5-TTS into one by: {INSTALL}")
    with _on_the_path(folder):
        spec = importlib.util.find_spec("f5_tts")
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f"{NEIGHBOUR} is not installed: {INSTALL}; then --neighbour-path FOLDER"
            )
        package = ModuleType("f5_tts.model")
        package.__path__ = [str(Path(p) / "model") for p in spec.submodule_search_locations]
        sys.modules.setdefault("f5_tts.model", package)
        try:
            found = importlib.import_module("f5_tts.model.backbones.dit").DiT
        except ImportError as error:
            raise UserError(f"{NEIGHBOUR} lacks something ({error}): {INSTALL}") from error
    return cast(Callable[..., nn.Module], found)


@contextmanager
def _on_the_path(folder: Path | None) -> Iterator[None]:
    """Modules are looked for in `folder` too, last."""
    added = [] if folder is None else [str(folder)]
    sys.path.extend(added)
    try:
        yield
    finally:
        for path in added:
            sys.path.remove(path)


def build_neighbour(dit: Callable[..., nn.Module], size: Size, load: Load, compiled: bool) -> Built:
    """F5-TTS's DiT in its own settings but for the size, and its velocity of the load.

    It is called as its CFM module does in training; that always makes a mask, here there is none.
    """
    network = dit(
        dim=size.width,
        depth=size.layers,
        heads=size.heads,
        dim_head=size.width // size.heads,
        ff_mult=size.feed_forward / size.width,
        dropout=0.0,
        mel_dim=N_MELS,
        text_num_embeds=len(PhoneTable.english()),
        text_dim=size.width,
        conv_layers=0,
        checkpoint_activations=False,
    ).to(load.xt.device)
    call = torch.compile(network) if compiled else network
    return network, lambda: call(
        x=load.xt,
        cond=load.context,
        text=load.text,
        time=load.t,
        drop_audio_cond=False,
        drop_text=False,
        mask=None,
    )


class Contestant:
    """A network in training on one load."""

    def __init__(
        self,
        name: str,
        flops: int,
        load: Load,
        dtype: str,
        build: Callable[[], Built],
    ) -> None:
        self.name, self.load, self.dtype = name, load, dtype
        self.device, self.flops_per_frame = load.xt.device, 3 * flops / load.mask.numel()
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            before = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        network, self.velocity = build()
        self.parameters = sum(p.numel() for p in network.parameters())
        self.optimizer = make_optimizer(network.train(), TrainConfig())
        self.rates: list[float] = []  # frames a second, one each round
        self.peak_memory_bytes: int | None = None
        for _ in range(2):  # kernels are made or compiled, memory is found
            self.update()
        if on_gpu:
            self.peak_memory_bytes = torch.cuda.max_memory_allocated(self.device) - before

    def update(self) -> None:
        """Forward, backward, step."""
        bf16 = self.dtype == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            vt = self.velocity()
        loss = (vt.float() - self.load.ut)[self.load.mask].square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def round(self, seconds: float) -> None:
        """Updates for `seconds`, at least one."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self.device)
        done, start = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - start < seconds:
            self.update()
            if on_gpu:
                torch.cuda.synchronize(self.device)
            done += 1
        self.rates.append(done * self.load.mask.numel() / (time.perf_counter() - start))


def matmul_rate(device: torch.device, dtype: str, seconds: float) -> float:
    """Operations a second of a product of square matrices, as a linear layer multiplies them.

    The best of some sizes that fill the machine, each tried for a share of `seconds`.
    """
    cuda, best = device.type == "cuda", 0.0
    sizes = (2048, 4096, 8192) if cuda else (512, 1024, 1536, 2048)
    for n in sizes:
        a, b = torch.randn(2, n, n, device=device).to(DTYPES[dtype])
        linear(a, b)
        done, start = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - start < seconds / len(sizes):
            for _ in range(10 if cuda else 1):  # the GPU has work before it is waited for
                linear(a, b)
                done += 1
            if cuda:
                torch.cuda.synchronize(device)
        best = max(best, 2 * n**3 * done / (time.perf_counter() - start))
    return best


@dataclass(frozen=True)
class Row:
    """What one network did in one size and precision; rates are medians over the rounds.

    ratio, lowest_ratio, highest_ratio: frames a second over the neighbour's in the same round.
    """

    size: str
    dtype: str
    network: str
    parameters: int
    frames_per_second: float
    flops_per_frame: float
    ratio: float | None
    lowest_ratio: float | None
    highest_ratio: float | None
    peak_memory_bytes: int | None

    @staticmethod
    def of(one: Contestant, other: Contestant | None, size: Size) -> Row:
        """other: what `one` is held against."""
        ratios = [a / b for a, b in zip(one.rates, other.rates, strict=True)] if other else []
        return Row(
            str(size),
            one.dtype,
            one.name,
            one.parameters,
            statistics.median(one.rates),
            one.flops_per_frame,
            statistics.median(ratios) if ratios else None,
            min(ratios, default=None),
            max(ratios, default=None),
            one.peak_memory_bytes,
        )

    def utilisation(self, peaks: Mapping[str, float]) -> float:
        """Operations a second over those of the best matrix products of the same run."""
        return self.frames_per_second * self.flops_per_frame / peaks[self.dtype]

    def as_text(self, peaks: Mapping[str, float]) -> str:
        """A row of the table."""
        ratio = "1" if self.network == NEIGHBOUR else "-"
        if self.ratio is not None:
            ratio = f"**{self.ratio:.2f}** ({self.lowest_ratio:.2f} to {self.highest_ratio:.2f})"
        memory = self.peak_memory_bytes
        return (
            f"| {self.size} | {self.dtype} | {self.network} | {self.parameters / 1e6:.2f} M "
            f"| {self.frames_per_second:,.0f} | {ratio} | {self.flops_per_frame / 1e6:.1f} M "
            f"| {self.utilisation(peaks):.1%} |"
            + ("" if memory is None else f" {memory / 2**30:.2f} GiB |")
        )


def compare(
    size: Size,
    dtype: str,
    load: Load,
    dit: Callable[..., nn.Module] | None,
    compiled: bool,
    rounds: int,
    seconds: float,
) -> tuple[list[Row], float]:
    """The rows of one size and precision, ours first, and the peak found in between."""
    shape, device = load.mask.shape, load.xt.device
    flops = forward_flops(size.config, 2 * N_MELS, *shape)
    ours = Contestant(OURS, flops, load, dtype, partial(build_ours, size, load, compiled))
    other = None
    if dit is not None:
        flops = neighbour_flops(size, N_MELS, *shape)
        build = partial(build_neighbour, dit, size, load, compiled)
        other = Contestant(NEIGHBOUR, flops, load, dtype, build)
    running = [one for one in (ours, other) if one is not None]
    peak = 0.0
    for number in range(rounds):
        peak = max(peak, matmul_rate(device, dtype, seconds / 2))
        for one in running[:: -1 if number % 2 else 1]:
            one.round(seconds)
    for one in running:
        told = f"{size} {dtype}: {one.name} {statistics.median(one.rates):,.0f} frames/s"
        print(told, file=sys.stderr, flush=True)
    against = {OURS: other}
    return [Row.of(one, against.get(one.name), size) for one in running], peak


def measure_speed(
    sizes: Sequence[Size],
    dtypes: Sequence[str],
    *,
    items: int = 16,
    frames: int = 400,
    rounds: int = 5,
    seconds: float = 3.0,
    threads: int | None = None,
    device: str = "cpu",
    compiled: bool = False,
    neighbour_path: Path | None = None,
    out: Path | None = None,
) -> list[Row]:
    """Train both networks in turns and print one table; `out`: also as JSON.

    items, frames: the batch; rounds: turns of each, of `seconds` each; threads: of torch on the
    CPU, its own choice where None; device: cpu or cuda; neighbour_path: `neighbour_class`'s.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"no CUDA device here (torch {torch.__version__}): use --device cpu")
    try:
        dit = neighbour_class(neighbour_path)
    except UserError as missing:
        dit = None
        print(f"skipped: {missing}")
    before, loads = torch.get_num_threads(), [load_average()]
    rows: list[Row] = []
    peaks = dict.fromkeys(dtypes, 0.0)
    torch.set_num_threads(threads or before)
    start, worked = time.perf_counter(), time.process_time()
    try:
        load = Load.draw(items, frames, torch.device(device))
        for size in sizes:
            for dtype in dtypes:
                new, peak = compare(size, dtype, load, dit, compiled, rounds, seconds)
                rows += new
                peaks[dtype] = max(peaks[dtype], peak)
        threads = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    loads.append(load_average())
    busy = (time.process_time() - worked) / (time.perf_counter() - start) / threads
    machine = torch.cuda.get_device_name() if device == "cuda" else processor()
    memory = " peak memory |" if device == "cuda" else ""
    print(
        f"{machine}, {threads} threads, torch {torch.__version__}"
        f"{', compiled' if compiled else ''}; {items} x {frames} frames, {rounds} rounds of "
        f"{seconds:g} s; load average {loads[0]:.1f} before and {loads[1]:.1f} after, {busy:.0%} "
        "of the threads' time was had; matrix products at their best: "
        + ", ".join(f"{dtype} {peak / 1e12:#.3g} TFLOP/s" for dtype, peak in peaks.items()),
        "",
        HEADER[0] + memory,
        HEADER[1] + ("---|" if memory else ""),
        *(row.as_text(peaks) for row in rows),
        "",
        "flop: 3 x forward, linear layers and attention alone; of the peak: their rate over that "
        "of matrix products",
        sep="\n",
    )
    if out is not None:
        figures = [asdict(row) | {"utilisation": row.utilisation(peaks)} for row in rows]
        conditions = {"device": device, "machine": machine, "torch": str(torch.__version__),
                      "threads": threads, "compiled": compiled, "items": items, "frames": frames,
                      "rounds": rounds, "seconds_a_round": seconds, "load_average": loads,
                      "share_of_cpu_time": busy, "matmul_flops_per_second": peaks}  # fmt: skip
        write_json(out, {**conditions, "rows": figures})
    return rows
