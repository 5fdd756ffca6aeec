"""What a benchmark ran on, and what else ran there."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def load_average() -> float:
    """Programs that ran or waited for a core in the last minute; nan where that is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def processor() -> str:
    """The CPU's name."""
    path = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", path.read_text() if path.is_file() else "", re.M)
    return named[1] if named else platform.processor() or platform.machine()
