"""`voiceflow toy`: flow matching on eleven Gaussians in the plane."""

from pathlib import Path
from typing import Annotated

import typer

from voiceflow.cli.train import check_overrides


def toy(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE...]",
            help="Settings of conf/toy, such as updates=4000 or ways=[optimal_transport,reflow].",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The optimal-transport path alone.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where weights, figures and pictures go.")] = Path(
        "runs/toy"
    ),
    pictures: Annotated[bool, typer.Option(help="Draw pictures.")] = True,
) -> None:
    """Train small flows on a mixture of Gaussians each way there is, and compare them.

    What stands in --out already is not trained again.

    [bold]Example:[/bold]

    voiceflow toy --quick --out runs/toy-quick
    """
    check_overrides(overrides or [], "toy")
    from voiceflow.config import ToyConfig, load_group
    from voiceflow.toy.compare import compare

    config = load_group(ToyConfig, "toy", "quick" if quick else "full", overrides or [])
    compare(config, out, pictures)
