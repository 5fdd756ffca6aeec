"""`voiceflow train`: a model, from prepared data."""

import re
from typing import Annotated

import typer

from voiceflow.config import UserError

_OVERRIDE = re.compile(r"(?:\+{0,2}[\w./@-]+=.*|~[\w./@-]+(?:=.*)?)", re.DOTALL)
_EXAMPLES = {
    "train": "task=velocity data=data/train train.updates=1000",
    "toy": "updates=4000 seed=1",
}


def train(
    overrides: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Hydra overrides: task=velocity or task=duration, data=FOLDER, out=FOLDER, "
            "model=mini, train=cpu, train.updates=N, train.seed=N, train.checkpoint_every=N, ...",
            show_default=False,
        ),
    ],
) -> None:
    """Train a model; the same command given again goes on where the run stopped.

    [bold]Example:[/bold]

    voiceflow train task=velocity data=data/train model=mini train=cpu \\
        out=runs/mini
    """
    check_overrides(overrides)
    from voiceflow.training.loop import main

    main(overrides)


def check_overrides(overrides: list[str], verb: str = "train") -> None:
    """Refuse, with UserError, what is no Hydra override (`key=value`, `+key=value`, `~key`)."""
    for override in overrides:
        if not _OVERRIDE.fullmatch(override):
            raise UserError(
                f"{verb} takes settings as key=value, found {override!r}; write for example "
                f"{_EXAMPLES[verb]} (no spaces around the =)"
            )
