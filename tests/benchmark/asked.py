"""How tests of whole benchmarks ask for them, and read their results."""

from collections.abc import Callable
from typing import Any

SCORERS = "fsd-log-mel,pocketsphinx"
SPEAKERS = ("1089", "1995")
Ask = Callable[..., list[dict[str, Any]]]


def rows(results: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["task"], row["system"]): row for row in results["rows"]}
