"""`voiceflow benchmark speed, sampling, scaling, ablation`: what training and sampling take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.options import VoiceOption


class Dtype(StrEnum):
    """What networks are trained in."""

    bf16 = "bf16"
    fp32 = "fp32"


class Device(StrEnum):
    """Where."""

    cpu = "cpu"
    cuda = "cuda"


SIZES = ["256/6/4/1024", "512/8/8/2048"]
DTYPES = list(Dtype)
HOURS = [100.0, 960.0, 60_000.0]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")]


def speed(
    size: Annotated[
        list[str],
        typer.Option(metavar="WIDTH/LAYERS/HEADS/FEED_FORWARD", help="May be given several times."),
    ] = SIZES,
    dtype: Annotated[list[Dtype], typer.Option(help="May be given several times.")] = DTYPES,
    items: Annotated[int, typer.Option(min=1, help="Recordings in a batch.")] = 16,
    frames: Annotated[int, typer.Option(min=2, help="Frames of each.")] = 400,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each network.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.0, help="Of a turn; at least one update.")] = 3.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch; its own choice if not given.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.cpu,
    compile: Annotated[
        bool, typer.Option("--compile", help="Both networks by torch.compile.")
    ] = False,
    neighbour_path: Annotated[
        Path | None,
        typer.Option(help="The folder that F5-TTS was put into, if it is not installed."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Train our network and F5-TTS's DiT in turns: frames a second, ratio, share of the peak.

    [bold]Example:[/bold]

    voiceflow benchmark speed --threads 1 --neighbour-path runs/f5-tts
    """
    from voiceflow.benchmark.flops import Size
    from voiceflow.benchmark.speed import measure_speed

    measure_speed(
        [Size.parse(text) for text in size],
        [str(one) for one in dtype],
        items=items,
        frames=frames,
        rounds=rounds,
        seconds=seconds,
        threads=threads,
        device=device,
        compiled=compile,
        neighbour_path=neighbour_path,
        out=json,
    )


def sampling(
    size: Annotated[
        str, typer.Option(metavar="WIDTH/LAYERS/HEADS/FEED_FORWARD", help="Of both networks.")
    ] = SIZES[0],
    dtype: Annotated[list[Dtype], typer.Option(help="May be given several times.")] = DTYPES,
    frames: Annotated[int, typer.Option(min=1, help="To be filled.")] = 1000,
    context: Annotated[int, typer.Option(min=1, help="Given frames before them.")] = 300,
    evaluations: Annotated[
        int, typer.Option(min=1, help="Of each network, guided: Euler steps.")
    ] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each sampler.")] = 5,
    voice: VoiceOption = "mini",
    preset: Annotated[
        list[str],
        typer.Option(help="own, paper, best or fast; may be given several times."),
    ] = ["own", "fast"],  # noqa: B006
    text: Annotated[
        list[str] | None,
        typer.Option(help="What the voice says, instead of three sentences; several times."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The LibriSpeech folder; without it the voice speaks without prompts."),
    ] = None,
    subset: Annotated[str, typer.Option(help="The subset of the prompts.")] = "test-clean",
    speeches: Annotated[int, typer.Option(min=1, help="Turns of each preset.")] = 3,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch; its own choice if not given.")
    ] = None,
    neighbour_path: Annotated[
        Path | None,
        typer.Option(help="The folder that F5-TTS was put into, if it is not installed."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Sample beside F5-TTS's sampler in turns, and take a voice's real-time factor, part by part.

    [bold]Example:[/bold]

    voiceflow benchmark sampling --threads 2 --neighbour-path runs/f5-tts --data LibriSpeech
    """
    from voiceflow.benchmark.flops import Size
    from voiceflow.benchmark.realtime import (
        SENTENCES,
        check_presets,
        choose_prompts,
        measure_real_time,
    )
    from voiceflow.benchmark.sampling import Workload, measure_sampling
    from voiceflow.cli.prepare import read_utterances
    from voiceflow.files import write_json

    texts = text or list(SENTENCES)
    check_presets(preset)
    found = [] if data is None else choose_prompts(read_utterances(data, subset), len(texts))
    beside = measure_sampling(
        Size.parse(size),
        [str(one) for one in dtype],
        Workload(frames, context, evaluations),
        rounds=rounds,
        threads=threads,
        neighbour_path=neighbour_path,
    )
    print()
    spoken = measure_real_time(
        voice, preset, texts=texts, prompts=found, rounds=speeches, threads=threads
    )
    if json is not None:
        write_json(json, {"sampling": beside, "real_time": spoken})


def scaling(
    hours: Annotated[
        list[float], typer.Option(min=0.1, help="Of speech; may be given several times.")
    ] = HOURS,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs.")] = 8,
    peak_tflops: Annotated[
        float, typer.Option(min=0.001, help="Of one GPU in bf16, dense: H100 989, A100 312.")
    ] = 989.0,
    utilisation: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The share of the peak that training reaches.")
    ] = 0.26,
    frames_per_second: Annotated[
        float | None,
        typer.Option(min=0.001, help="Instead: what one GPU was seen to train the audio model at."),
    ] = None,
    bandwidth: Annotated[
        float, typer.Option(min=0.001, help="Of an all-reduce, GB/s of each GPU.")
    ] = 50.0,
    read_bandwidth: Annotated[
        float, typer.Option(min=0.001, help="Of storage, MB/s for each GPU.")
    ] = 500.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes a GPU that make examples.")] = 8,
    cores: Annotated[int, typer.Option(min=1, help="CPU cores for preparation.")] = 64,
    memory: Annotated[float, typer.Option(min=0.0, help="Of a node, GB.")] = 1000.0,
    disk: Annotated[float, typer.Option(min=0.0, help="Of a node, TB.")] = 30.0,
    stream: Annotated[
        bool, typer.Option("--stream", help="Shards read over the network (train.stream=true).")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Prepared data to measure bytes and examples on.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Reckon what the paper's two trainings take: hours, disk, network, and what is narrowest.

    [bold]Example:[/bold]

    voiceflow benchmark scaling --gpus 8 --peak-tflops 989 --utilisation 0.26
    """
    from voiceflow.benchmark.scaling import Machine, measure_scaling

    machine = Machine(
        gpus=gpus,
        peak=peak_tflops * 1e12,
        utilisation=utilisation,
        bandwidth=bandwidth * 1e9,
        read_bandwidth=read_bandwidth * 1e6,
        workers=workers,
        cores=cores,
        memory=memory * 1e9,
        disk=disk * 1e12,
        stream=stream,
    )
    measure_scaling(
        hours, machine=machine, frames_per_second=frames_per_second, folder=data, out=json
    )


def ablation(
    data: Annotated[str, typer.Option(help="Prepared data; utterances held out are measured.")],
    out: Annotated[Path, typer.Option(help="Where the runs go; given again, they go on.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE...]", help="As `voiceflow train` takes them."),
    ] = None,
    utterances: Annotated[int, typer.Option(min=1, help="Held-out utterances.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Midpoint steps of a sample.")] = 16,
    judge: Annotated[
        str, typer.Option(help="The voice whose aligner says which phones are heard.")
    ] = "mini",
    variant: Annotated[
        list[str] | None,
        typer.Option(help="A row of the table; may be given several times. All if not given."),
    ] = None,
) -> None:
    """Train small networks each with one choice changed, and compare them.

    [bold]Example:[/bold]

    voiceflow benchmark ablation --data data/train --out runs/ablation \\
        train.mixed_precision=bf16
    """
    from voiceflow.benchmark.ablation import run
    from voiceflow.cli.train import check_overrides

    check_overrides(overrides or [])
    print("| trained with | parameters | guidance | log-mel error | variance | phones right |")
    print("|---|---|---|---|---|---|", flush=True)
    for row in run(data, out, overrides or [], utterances, steps, judge, variant or []):
        size = f"{row.parameters / 1e6:.2f} M" if row.parameters else ""
        print(
            f"| {row.name} | {size} | {row.guidance:g} | {row.error:.2f} | {row.variance:.2f} "
            f"| {100 * row.phones:.1f} % |",
            flush=True,
        )
