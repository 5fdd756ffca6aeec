"""LibriSpeech (Panayotov et al. 2015, CC BY 4.0), and mini-LibriSpeech, which has its layout.

The layout: `<root>/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac` beside
`<speaker>-<chapter>.trans.txt`; the sound may also be .wav, .opus, .ogg or .mp3.

    python -m data_prep.librispeech ROOT SUBSET              prints the manifest
    python -m data_prep.librispeech ROOT SUBSET --download   fetches the subset first
"""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from data_prep.archive import install
from data_prep.command import run
from data_prep.entries import (
    EXTENSIONS,
    Line,
    Unreadable,
    pair_lines,
    read_text,
    sounds,
    text_lines,
    what_is_there,
)
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

__all__ = ["EXTENSIONS", "download", "main", "read"]

_LARGE = "https://www.openslr.org/resources/12"
_MINI = "https://www.openslr.org/resources/31"
# Each subset's archive and its SHA-256 (as torchaudio has it; none is known for the mini ones).
_ARCHIVES: dict[str, tuple[str, str | None]] = {
    "dev-clean": (
        f"{_LARGE}/dev-clean.tar.gz",
        "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    ),
    "dev-other": (
        f"{_LARGE}/dev-other.tar.gz",
        "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    ),
    "test-clean": (
        f"{_LARGE}/test-clean.tar.gz",
        "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    ),
    "test-other": (
        f"{_LARGE}/test-other.tar.gz",
        "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    ),
    "train-clean-100": (
        f"{_LARGE}/train-clean-100.tar.gz",
        "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    ),
    "train-clean-360": (
        f"{_LARGE}/train-clean-360.tar.gz",
        "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    ),
    "train-other-500": (
        f"{_LARGE}/train-other-500.tar.gz",
        "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    ),
    "train-clean-5": (f"{_MINI}/train-clean-5.tar.gz", None),
    "dev-clean-2": (f"{_MINI}/dev-clean-2.tar.gz", None),
}


def read(root: Path, subset: str) -> Iterator[Utterance | Rejected]:
    """The utterances of one subset, in the order of their ids.

    Rejected are sounds without text, texts without a sound, each further line of an id, and all
    of a chapter whose transcript is missing or not UTF-8. Raises UserError for a missing subset
    (saying which are there) and for a folder of another layout.
    """
    folder = root / subset
    if not subset:
        raise UserError(
            f"{root}: say which part of LibriSpeech by its subset, as train-clean-5: "
            f"{what_is_there(root)}"
        )
    if not folder.is_dir():
        raise UserError(
            f"LibriSpeech subset {subset!r} is not in {root}: {what_is_there(root)}; name "
            "another, or fetch it: "
            f"python -m data_prep.librispeech {root} {subset} --download"
        )
    chapters = sorted(path for path in folder.glob("*/*") if path.is_dir())
    if not chapters:
        raise UserError(f"{folder} holds no <speaker>/<chapter> folders, as LibriSpeech does")
    for chapter in chapters:
        yield from _read_chapter(chapter)


def _read_chapter(chapter: Path) -> Iterator[Utterance | Rejected]:
    there = sounds(chapter)
    speaker = chapter.parent.name
    transcript = chapter / f"{speaker}-{chapter.name}.trans.txt"
    if not there and not transcript.exists():
        return
    try:
        read_text(transcript)
    except Unreadable as error:
        ids = set(there)
        with suppress(OSError):
            ids.update(line.id for line in _lines(transcript))
        for id in sorted(ids):
            yield Rejected(id, os.path.abspath(there[id]) if id in there else "", str(error))
        return
    yield from pair_lines(there, _lines(transcript), speaker, transcript.name)


def _lines(transcript: Path) -> Iterator[Line]:
    for text, where, fault in text_lines(transcript):
        id, *rest = text.split(maxsplit=1)
        yield Line(id, "".join(rest), where, fault)


def download(root: Path, subset: str) -> None:
    """Fetch a subset from openslr.org and unpack it as `root/subset`, whole or not at all.

    Does nothing where it is there. Raises UserError for an unknown subset, a failed transfer, a
    wrong checksum, and an archive that would write outside its folder.
    """
    if subset not in _ARCHIVES:
        raise UserError(
            f"LibriSpeech has no subset {subset!r}; it has {', '.join(sorted(_ARCHIVES))}"
        )
    url, checksum = _ARCHIVES[subset]
    install(url, checksum, root, [subset])


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest of a subset, having fetched it where that is asked for."""
    return run("librispeech", download, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
