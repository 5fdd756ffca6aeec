"""The command `voiceflow`: its verbs, and what becomes of errors.

Exit codes: 0 done; 2 the person's input is wrong (one line on stderr); 130 stopped with Ctrl-C;
1 anything else (with a traceback: it is ours to mend). The verbs import torch inside their
functions, so that help answers at once.
"""

import sys
from typing import Annotated

import typer

from voiceflow import __version__
from voiceflow.cli import (
    batch,
    benchmark,
    continue_,
    data,
    demo,
    denoise,
    doctor,
    edit,
    infill,
    measure,
    pack,
    prepare,
    sample,
    score,
    speak,
    style,
    toy,
    train,
    vocode,
)
from voiceflow.config import UserError
from voiceflow.notes import tell_notes

app = typer.Typer(
    name="voiceflow",
    help="Speech filled in, edited and spoken by flow matching, given text and audio.",
    epilog="Start with: voiceflow demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _voiceflow(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    pass


app.command("infill")(infill.infill)
app.command("edit")(edit.edit)
app.command("speak")(speak.speak)
app.command("continue")(continue_.continue_)
app.command("denoise")(denoise.denoise)
app.command("style")(style.style)
app.command("sample")(sample.sample)
app.command("score")(score.score)
app.command("batch")(batch.batch)
app.command("vocode")(vocode.vocode)
app.command("demo")(demo.demo)
app.command("prepare")(prepare.prepare)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("pack")(pack.pack)
app.add_typer(measure.app, name="measure")
app.add_typer(benchmark.app, name="benchmark")
app.command("toy")(toy.toy)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line and leave with the exit codes above."""
    tell_notes()
    try:
        app()
    except UserError as error:
        typer.echo(f"voiceflow: {error}", err=True)
        sys.exit(2)
