"""What the verbs that make sound have in common: options, standard input and output, reports."""

from __future__ import annotations

import functools
import inspect
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voiceflow.cli.options import (
    ContextGuidanceOption,
    DeviceOption,
    DtypeOption,
    GridOption,
    GuidanceOption,
    PictureOption,
    PresetOption,
    SeedOption,
    SolverOption,
    StepsOption,
    VoiceOption,
)

if TYPE_CHECKING:
    from voiceflow.audio.io import Recording
    from voiceflow.generated import Generated
    from voiceflow.jobs import SampleOptions
    from voiceflow.voice import Voice

STREAM = "-"

InputArgument = Annotated[
    Path, typer.Argument(metavar="INPUT", help="The recording; - reads it from standard input.")
]
OutOption = Annotated[
    Path, typer.Option("--out", help="The sound, .wav or .flac; - writes WAV to standard output.")
]
CandidatesOption = Annotated[
    int,
    typer.Option(
        "--candidates", min=1, help="Make so many, and keep the one whose words are heard best."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print what was done as JSON: spans, phones, cost.")
]
VocoderOption = Annotated[
    str | None, typer.Option("--vocoder", help="Another vocoder, as `voiceflow vocode` takes it.")
]


@dataclass(frozen=True)
class Task:
    """The options of every verb that makes sound, as they were given."""

    voice: VoiceOption = "mini"
    vocoder: VocoderOption = None
    seed: SeedOption = 0
    preset: PresetOption = None
    steps: StepsOption = None
    guidance: GuidanceOption = None
    context_guidance: ContextGuidanceOption = None
    solver: SolverOption = None
    grid: GridOption = None
    dtype: DtypeOption = None
    device: DeviceOption = "cpu"
    candidates: CandidatesOption = 1
    picture: PictureOption = None
    as_json: JsonOption = False

    def load(self) -> Voice:
        """The voice, with the vocoder that was asked for."""
        from voiceflow.voice import Voice

        return Voice.load(self.voice, self.vocoder, self.device)

    @property
    def asked(self) -> SampleOptions:
        """What `Voice`'s tasks are told."""
        return {"seed": self.seed, "preset": self.preset, "steps": self.steps,
                "guidance": self.guidance, "context_guidance": self.context_guidance,
                "solver": self.solver, "grid": self.grid, "dtype": self.dtype,
                "candidates": self.candidates}  # fmt: skip

    def finish(self, made: Generated, out: Path, done: str, title: str) -> None:
        """Write sound and picture, and say so: on standard error where the sound goes to output."""
        put(made, out)
        if self.picture:
            made.draw(self.picture, title)
        if self.as_json:
            typer.echo(json.dumps({"out": str(out), **made.report()}), err=is_stream(out))
        else:
            picture = f", picture: {self.picture}" if self.picture else ""
            typer.echo(f"{done}: {out}{picture}", err=is_stream(out))


def makes_sound(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb whose parameter `task` stands for all options of `Task`."""

    @functools.wraps(verb)
    def called(**given: Any) -> None:
        task = Task(**{field.name: given.pop(field.name) for field in fields(Task)})
        if task.picture:
            check_file(task.picture, ".png")
        verb(task=task, **given)

    own = inspect.signature(verb, eval_str=True).parameters.values()
    shared = inspect.signature(Task, eval_str=True).parameters.values()
    every = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for p in (*(p for p in own if p.name != "task"), *shared)
    ]
    called.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in every}
    return called


def is_stream(path: Path) -> bool:
    """Whether a path stands for standard input or output."""
    return str(path) == STREAM


def check_out(path: Path) -> None:
    """UserError where the sound cannot be put; worth asking before minutes of work."""
    from voiceflow.audio.io import check_output

    if not is_stream(path):
        check_output(path)


def check_file(path: Path, suffix: str) -> None:
    """UserError where a file that goes beside the sound cannot be put."""
    from voiceflow.audio.io import check_output

    check_output(path, (suffix,))


def get(path: Path) -> Recording:
    """The recording in a file or from standard input; raises as `audio.io.read` does."""
    from voiceflow.audio.io import read
    from voiceflow.config import UserError

    if not is_stream(path):
        return read(path)
    with tempfile.NamedTemporaryFile(suffix=".audio") as file:
        file.write(sys.stdin.buffer.read())
        file.flush()
        try:
            recording = read(file.name)
        except UserError as error:
            raise UserError(str(error).replace(file.name, "standard input")) from error
    return type(recording)(recording.samples, recording.sample_rate, recording.subtype, None)


def put(made: Generated, path: Path) -> None:
    """Write to a file, or as WAV to standard output."""
    if not is_stream(path):
        made.save(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out.wav"
        made.save(file)
        sys.stdout.buffer.write(file.read_bytes())
        sys.stdout.buffer.flush()
