"""What each corpus's module does when it is run: print the manifest of a subset."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

Download = Callable[..., None]  # (root, subset, **options)
Read = Callable[[Path, str], Iterator[Utterance | Rejected]]


def run(
    corpus: str,
    download: Download,
    read: Read,
    arguments: Sequence[str] | None = None,
    options: Sequence[str] = (),
) -> int:
    """Print the manifest of a subset, having fetched it where that is asked for.

    Utterances go to standard output, one JSON object a line; rejected ones to standard error.
    `options` are names that `download` takes besides. Returns the exit code.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m data_prep.{corpus}", description="Print a subset's manifest."
    )
    parser.add_argument("root", type=Path, help="the corpus's folder")
    parser.add_argument("subset", nargs="?", default="", help="which part of the corpus")
    parser.add_argument("--download", action="store_true", help="fetch the subset where absent")
    for name in options:
        parser.add_argument(f"--{name}", help=f"with --download: the {name}, if not found by name")
    wanted = parser.parse_args(arguments)
    given = {name: getattr(wanted, name) for name in options if getattr(wanted, name) is not None}
    try:
        if wanted.download:
            download(wanted.root, wanted.subset, **given)
        _print(read(wanted.root, wanted.subset))
    except UserError as error:
        print(f"data_prep.{corpus}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as by `| head`; what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _print(found: Iterator[Utterance | Rejected]) -> None:
    rejected = 0
    for one in found:
        if isinstance(one, Utterance):
            print(one.to_json())
        else:
            rejected += 1
            print(f"rejected {one.id}: {one.reason}", file=sys.stderr)
    if rejected:
        print(f"{rejected} rejected in all", file=sys.stderr)
    sys.stdout.flush()
