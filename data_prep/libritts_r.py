"""LibriTTS-R (Koizumi et al. 2023, CC BY 4.0): LibriTTS with its sound restored, same layout.

python -m data_prep.libritts_r ROOT SUBSET              prints the manifest
python -m data_prep.libritts_r ROOT SUBSET --download   fetches the subset first
"""

import sys
from pathlib import Path

from data_prep.command import run
from data_prep.libritts import fetch_subset, read

__all__ = ["download", "main", "read"]

_FOLDER = "https://www.openslr.org/resources/141"
# Each subset's MD5, as openslr.org lists it. The archives' names have _ where the subsets have -.
_CHECKSUMS = {
    "dev-clean": "2c1f5312914890634cc2d15783032ff3",
    "dev-other": "62d3a80ad8a282b6f31b3904f0507e4f",
    "test-clean": "4d373d453eb96c0691e598061bbafab7",
    "test-other": "dbc0959d8bdb6d52200595cabc9995ae",
    "train-clean-100": "6df668d8f5f33e70876bfa33862ad02b",
    "train-clean-360": "382eb3e64394b3da6a559f864339b22c",
    "train-other-500": "a37a8e9f4fe79d20601639bf23d1add8",
}
_ARCHIVES = {
    subset: (f"{_FOLDER}/{subset.replace('-', '_')}.tar.gz", f"md5:{digits}")
    for subset, digits in _CHECKSUMS.items()
}


def download(root: Path, subset: str) -> None:
    """Fetch a subset of LibriTTS-R from openslr.org and unpack it as `root/subset`.

    Whole or not at all; does nothing where it is there. Raises UserError for an unknown subset,
    and as `archive.install` does.
    """
    fetch_subset("LibriTTS-R", _ARCHIVES, root, subset)


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest of a subset, having fetched it where that is asked for."""
    return run("libritts_r", download, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
