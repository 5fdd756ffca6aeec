"""Notes to a person at the command line, a plain line each."""

from __future__ import annotations

import sys
import warnings
from typing import TextIO

from voiceflow.config import UserNote


def tell_notes() -> None:
    """From now on this process tells a `UserNote` as `voiceflow: note: ...` on standard error.

    Other warnings are shown as before.
    """
    show_others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category is UserNote:
            print(f"voiceflow: note: {message}", file=sys.stderr, flush=True)
        else:
            show_others(message, category, filename, lineno, file, line)

    warnings.showwarning = show
