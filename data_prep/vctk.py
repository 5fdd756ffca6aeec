"""VCTK (Yamagishi et al. 2019, CC BY 4.0): 110 speakers of English, two microphones.

The layout of 0.92: `<root>/wav48_silence_trimmed/p225/p225_001_mic1.flac` beside
`<root>/txt/p225/p225_001.txt`; the subset is `mic1` or `mic2`. The older layout has one
microphone, which is `mic1` here: `<root>/wav48/p225/p225_001.wav`. Speaker p315 has no texts and
p280 no second microphone: theirs are rejected.

    python -m data_prep.vctk ROOT mic1              prints the manifest
    python -m data_prep.vctk ROOT mic1 --download   fetches the corpus first (both microphones)
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from data_prep.archive import install
from data_prep.command import run
from data_prep.entries import pair_files, sounds
from voiceflow.config import UserError
from voiceflow.data.manifest import Rejected, Utterance

SUBSETS = ("mic1", "mic2")

_URL = "https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip"
_CHECKSUM = "md5:8a6ba2946b36fcbef0212cad601f4bfa"
_TRIMMED, _OLD = "wav48_silence_trimmed", "wav48"


def read(root: Path, subset: str) -> Iterator[Utterance | Rejected]:
    """The utterances that one microphone heard, in the order of their ids (`p225_001_mic1`).

    Rejected are sounds without a text, texts without a sound, and texts that are empty or not
    UTF-8. Raises UserError for another subset and for a folder of another layout.
    """
    _check(subset)
    trimmed = (root / _TRIMMED).is_dir()
    folder = root / (_TRIMMED if trimmed else _OLD)
    if not folder.is_dir() or not (root / "txt").is_dir():
        raise UserError(
            f"{root} holds no {_TRIMMED}/ (or {_OLD}/) beside txt/, as VCTK does; name its folder, "
            f"or fetch it: python -m data_prep.vctk {root} {subset} --download"
        )
    if not trimmed and subset != "mic1":
        raise UserError(f"{folder} has one microphone alone; name the subset mic1")
    heard: dict[str, Path] = {}
    texts: dict[str, Path] = {}
    speakers: dict[str, str] = {}
    ending = f"_{subset}" if trimmed else ""
    for speaker in _folders(folder):
        found = sounds(speaker)
        heard.update({id: path for id, path in found.items() if id.endswith(ending)})
        speakers.update(dict.fromkeys(found, speaker.name))
    for speaker in _folders(root / "txt"):
        texts.update({path.stem + ending: path for path in speaker.glob("[!.]*.txt")})
    yield from pair_files(heard, texts, speakers, ".txt")


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir())


def _check(subset: str) -> None:
    if subset not in SUBSETS:
        raise UserError(f"VCTK has no subset {subset!r}; it has {' and '.join(SUBSETS)}")


def download(root: Path, subset: str) -> None:
    """Fetch VCTK 0.92, both microphones, and unpack it into `root`, whole or not at all.

    Does nothing where it is there. Raises UserError as `archive.install` does.
    """
    _check(subset)
    install(_URL, _CHECKSUM, root, ["txt", _TRIMMED])


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest of a microphone, having fetched the corpus where that is asked for."""
    return run("vctk", download, read, arguments)


if __name__ == "__main__":
    sys.exit(main())
