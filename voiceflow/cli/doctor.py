"""`voiceflow doctor`: what this installation has, and how to get what it lacks."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

_LIBRARIES = (
    "torch",
    "torchaudio",
    "torchdiffeq",
    "librosa",
    "soundfile",
    "accelerate",
    "datasets",
    "hydra-core",
    "omegaconf",
    "safetensors",
    "pocketsphinx",
    "praatio",
    "jiwer",
)

_EXTRAS = {
    "eval": ("resemblyzer", "speechmos", "onnxruntime", "pystoi", "pesq", "transformers"),
    "finetune": ("peft",),
    "ray": ("ray",),
    "pretrained": ("transformers",),
    "dev": ("pytest", "hypothesis", "ruff", "mypy"),
}


def doctor(
    mend_torchaudio: Annotated[
        bool,
        typer.Option(
            "--mend-torchaudio",
            help="Only this: where torch has no CUDA and torchaudio fails at import, take away "
            "torchaudio's compiled files, which want CUDA's libraries. Its transforms stay.",
        ),
    ] = False,
) -> None:
    """Show versions, devices, optional parts and the bundled voices.

    [bold]Example:[/bold]

    voiceflow doctor
    """
    if mend_torchaudio:
        typer.echo("torchaudio: " + mend())
        return
    for title, lines in (
        ("voiceflow", _here()),
        ("libraries", _libraries()),
        ("devices", _devices()),
        ("optional parts", _optional_parts()),
        ("bundled voices", _bundled_voices()),
    ):
        typer.echo(typer.style(title, bold=True))
        for line in lines:
            typer.echo("  " + line)


def mend() -> str:
    """Make torchaudio importable beside a torch without CUDA; returns what was done, in words.

    Touches nothing unless torch has no CUDA and `import torchaudio` fails.
    """
    failure = _torchaudio_failure()
    if not failure:
        return "imports as it is, nothing to mend"
    import torch

    if torch.version.cuda is not None:
        return (
            f"fails at import ({failure}); torch {torch.__version__} has CUDA, so nothing was "
            "changed: install the torchaudio made for this torch"
        )
    spec = find_spec("torchaudio")
    if spec is None or not spec.submodule_search_locations:
        return "is not installed: " + _install_line("torchaudio")
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    compiled = sorted(folder.glob("*torchaudio*.so"))
    for file in compiled:
        file.unlink()
    still = _torchaudio_failure()
    return (
        f"failed at import ({failure}) beside torch {torch.__version__}, which has no CUDA; took "
        f"away {', '.join(file.name for file in compiled) or 'nothing'} from {folder}; "
        + (f"it still fails: {still}" if still else "it imports now")
    )


def _torchaudio_failure() -> str:
    """The last line of what `import torchaudio` says in a fresh interpreter; empty if it works."""
    done = subprocess.run(
        [sys.executable, "-c", "import torchaudio"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _install_line(requirement: str) -> str:
    return f"{sys.executable} -m pip install '{requirement}'"


def _here() -> Iterator[str]:
    from voiceflow import __version__

    yield f"{__version__} in {Path(__file__).parents[1]}"
    yield f"Python {platform.python_version()} on {platform.platform()}"


def _libraries() -> Iterator[str]:
    for name in _LIBRARIES:
        yield f"{name:<14} {_version(name) or 'missing: ' + _install_line(name)}"
    failure = _torchaudio_failure()
    if failure:
        yield f"torchaudio fails at import ({failure}); try: voiceflow doctor --mend-torchaudio"


def _devices() -> Iterator[str]:
    if find_spec("torch") is None:
        yield "unknown without torch"
        return
    import torch

    yield f"cpu: {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if not torch.cuda.is_available():
        yield f"cuda: none (torch {torch.__version__}, built for CUDA {torch.version.cuda})"
    if torch.backends.mps.is_available():
        yield "mps: available"


def _optional_parts() -> Iterator[str]:
    for extra, names in _EXTRAS.items():
        missing = [name for name in names if _version(name) is None]
        if missing:
            checkout = Path(__file__).parents[2]
            line = _install_line(f"voiceflow[{extra}]")
            if (checkout / "pyproject.toml").exists():
                line = f"{sys.executable} -m pip install -e '{checkout}[{extra}]'"
            yield f"{extra:<11} lacks {', '.join(missing)}; to get it: {line}"
        else:
            yield f"{extra:<11} {', '.join(f'{name} {_version(name)}' for name in names)}"


def _bundled_voices() -> Iterator[str]:
    folder = Path(__file__).parents[1] / "voices"
    voices = sorted(path.parent for path in folder.glob("*/config.yaml"))
    for voice in voices:
        size = sum(file.stat().st_size for file in voice.rglob("*") if file.is_file())
        yield f"{voice.name:<11} {size / 1e6:.1f} MB in {voice}"
    if not voices:
        yield f"none in {folder}: this copy was packed without its voices"
