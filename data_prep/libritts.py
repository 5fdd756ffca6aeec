"""LibriTTS (Zen et al. 2019, CC BY 4.0): LibriSpeech's books at 24 kHz, cut at sentences.

The layout: `<root>/<subset>/<speaker>/<chapter>/ID.wav` beside `ID.normalized.txt` and
`ID.original.txt`. LibriTTS-R has the same one: see `data_prep.libritts_r`.

    python -m data_prep.libritts ROOT SUBSET              prints the manifest
    python -m data_prep.libritts ROOT SUBSET --download   fetches the subset first
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_prep.archive import install
from data_prep.command import run
from data_prep.entries import pair_files, sounds, what_is_there
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

# In this order: the second stands in where the first is missing.
TEXTS = (".normalized.txt", ".original.txt")

_FOLDER = "https://www.openslr.org/resources/60"
# Each subset's MD5, as openslr.org lists it (and torchaudio and others have it).
_CHECKSUMS = {
    "dev-clean": "0c3076c1e5245bb3f0af7d82087ee207",
    "dev-other": "815555d8d75995782ac3ccd7f047213d",
    "test-clean": "7bed3bdb047c4c197f1ad3bc412db59f",
    "test-other": "ae3258249472a13b5abef2a816f733e4",
    "train-clean-100": "4a8c202b78fe1bc0c47916a98f3a2ea8",
    "train-clean-360": "a84ef10ddade5fd25df69596a2767b2d",
    "train-other-500": "7b181dd5ace343a5f38427999684aa6f",
}
_ARCHIVES = {
    subset: (f"{_FOLDER}/{subset}.tar.gz", f"md5:{digits}") for subset, digits in _CHECKSUMS.items()
}


def read(root: Path, subset: str) -> Iterator[Utterance | Rejected]:
    """The utterances of one subset, in the order of their ids.

    Rejected are sounds without a text, texts without a sound, and texts that are empty or not
    UTF-8. Raises UserError for a missing subset (saying which are there) and for a folder of
    another layout.
    """
    folder = root / subset
    if not subset or not folder.is_dir():
        raise UserError(
            f"the subset {subset!r} is not in {root}: {what_is_there(root)}; name another, or "
            f"fetch it: python -m data_prep.libritts {root} {subset or 'SUBSET'} --download"
        )
    chapters = sorted(path for path in folder.glob("*/*") if path.is_dir())
    if not chapters:
        raise UserError(f"{folder} holds no <speaker>/<chapter> folders, as LibriTTS does")
    heard: dict[str, Path] = {}
    texts: dict[str, Path] = {}
    speakers: dict[str, str] = {}
    for chapter in chapters:
        found = sounds(chapter)
        heard.update(found)
        speakers.update(dict.fromkeys(found, chapter.parent.name))
        for ending in reversed(TEXTS):
            for path in chapter.glob(f"[!.]*{ending}"):
                texts[path.name.removesuffix(ending)] = path
    yield from pair_files(heard, texts, speakers, TEXTS[0])


def download(root: Path, subset: str) -> None:
    """Fetch a subset of LibriTTS from openslr.org and unpack it as `root/subset`.

    Whole or not at all; does nothing where it is there. Raises UserError for an unknown subset,
    and as `archive.install` does.
    """
    fetch_subset("LibriTTS", _ARCHIVES, root, subset)


def fetch_subset(
    corpus: str, archives: Mapping[str, tuple[str, str | None]], root: Path, subset: str
) -> None:
    """Install one of the archives (subset -> URL and checksum); UserError names those there are."""
    if subset not in archives:
        raise UserError(f"{corpus} has no subset {subset!r}; it has {', '.join(sorted(archives))}")
    url, checksum = archives[subset]
    install(url, checksum, root, [subset])


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest of a subset, having fetched it where that is asked for."""
    return run("libritts", download, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
