"""LJSpeech 1.1 (Ito and Johnson 2017, public domain): one speaker, 24 hours.

The layout: `<root>/metadata.csv` with lines `ID|TEXT|NORMALISED TEXT` beside `<root>/wavs/ID.wav`.
It has no parts: the subset is left out, or is `all`.

    python -m data_prep.ljspeech ROOT              prints the manifest
    python -m data_prep.ljspeech ROOT --download   fetches the corpus first
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from data_prep.archive import install
from data_prep.command import run
from data_prep.entries import Line, pair_lines, sounds, text_lines
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

SPEAKER = "LJ"

_URL = "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2"
_CHECKSUM = "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5"


def read(root: Path, subset: str = "") -> Iterator[Utterance | Rejected]:
    """The utterances in the order of their ids; the text is the normalised one, where there is one.

    Rejected are lines without text or sound, lines that are not UTF-8 or have not two or three
    columns, sounds without a line, and each further line of an id. Raises UserError for a subset
    that is not `all` and for a folder of another layout.
    """
    _check(subset)
    metadata, wavs = root / "metadata.csv", root / "wavs"
    if not metadata.is_file() or not wavs.is_dir():
        raise UserError(
            f"{root} holds no metadata.csv beside wavs/, as LJSpeech-1.1 does; name its folder, or "
            f"fetch it: python -m data_prep.ljspeech {root} --download"
        )
    yield from pair_lines(sounds(wavs), _lines(metadata), SPEAKER, metadata.name)


def _lines(metadata: Path) -> Iterator[Line]:
    for text, where, fault in text_lines(metadata):
        id, *texts = text.split("|")
        if not fault and len(texts) not in (1, 2):
            fault = f"{where}: expected ID|TEXT|NORMALISED TEXT, found {len(texts) + 1} columns"
        told = [words for words in reversed(texts) if words.strip()]
        yield Line(id.strip(), told[0] if told else "", where, fault)


def _check(subset: str) -> None:
    if subset not in ("", "all"):
        raise UserError(f"LJSpeech has no subset {subset!r}; it has no parts: leave it out, or all")


def download(root: Path, subset: str = "") -> None:
    """Fetch the corpus and unpack it into `root`, whole or not at all.

    Does nothing where it is there. Raises UserError as `archive.install` does.
    """
    _check(subset)
    install(_URL, _CHECKSUM, root, ["wavs", "metadata.csv"])


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest, having fetched the corpus where that is asked for."""
    return run("ljspeech", download, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
