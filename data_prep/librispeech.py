"""LibriSpeech (Panayotov et al. 2015, CC BY 4.0), and mini-LibriSpeech, which has its layout.

The layout: `<root>/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac` beside
`<speaker>-<chapter>.trans.txt`; the sound may also be .wav, .opus, .ogg or .mp3.

    python -m data_prep.librispeech ROOT SUBSET              prints the manifest
    python -m data_prep.librispeech ROOT SUBSET --download   fetches the subset first
"""

import argparse
import hashlib
import logging
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import soundfile

from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance

EXTENSIONS = (".flac", ".wav", ".opus", ".ogg", ".mp3")

_LARGE = "https://www.openslr.org/resources/12"
_MINI = "https://www.openslr.org/resources/31"
# Each subset's archive and its SHA-256 (as torchaudio has it; none is known for the mini ones).
_ARCHIVES: dict[str, tuple[str, str | None]] = {
    "dev-clean": (
        f"{_LARGE}/dev-clean.tar.gz",
        "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    ),
    "dev-other": (
        f"{_LARGE}/dev-other.tar.gz",
        "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    ),
    "test-clean": (
        f"{_LARGE}/test-clean.tar.gz",
        "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    ),
    "test-other": (
        f"{_LARGE}/test-other.tar.gz",
        "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    ),
    "train-clean-100": (
        f"{_LARGE}/train-clean-100.tar.gz",
        "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    ),
    "train-clean-360": (
        f"{_LARGE}/train-clean-360.tar.gz",
        "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    ),
    "train-other-500": (
        f"{_LARGE}/train-other-500.tar.gz",
        "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    ),
    "train-clean-5": (f"{_MINI}/train-clean-5.tar.gz", None),
    "dev-clean-2": (f"{_MINI}/dev-clean-2.tar.gz", None),
}

_log = logging.getLogger(__name__)


def read(root: Path, subset: str) -> Iterator[Utterance]:
    """The utterances of one subset, in the order of their ids.

    Transcripts whose sound is absent are left out, with a warning that counts them. Raises
    UserError for a missing subset (saying which are there), a missing or faulty transcript, and
    sound that no transcript tells of.
    """
    folder = root / subset
    if not subset or not folder.is_dir():
        raise UserError(
            f"LibriSpeech subset {subset!r} is not in {root}: {_what_is_there(root)}; name "
            "another, or fetch it: "
            f"python -m data_prep.librispeech {root} {subset or 'SUBSET'} --download"
        )
    chapters = sorted(path for path in folder.glob("*/*") if path.is_dir())
    if not chapters:
        raise UserError(f"{folder} holds no <speaker>/<chapter> folders, as LibriSpeech does")
    for chapter in chapters:
        yield from _read_chapter(chapter)


def _what_is_there(root: Path) -> str:
    if not root.is_dir():
        return "there is no such folder"
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    return "it holds " + (", ".join(there) or "no folder at all")


def _read_chapter(chapter: Path) -> Iterator[Utterance]:
    sounds: dict[str, Path] = {}
    for path in sorted(chapter.iterdir()):
        if path.suffix.lower() in EXTENSIONS:
            sounds.setdefault(path.stem, path)
    speaker = chapter.parent.name
    transcript = chapter / f"{speaker}-{chapter.name}.trans.txt"
    if not sounds and not transcript.exists():
        return
    texts = _read_transcript(transcript)
    if untold := sorted(sounds.keys() - texts.keys()):
        raise UserError(
            f"{sounds[untold[0]]} has no line in {transcript.name} ({len(untold)} such in this "
            f"folder): add the line '{untold[0]} ITS TEXT', or take the sound away"
        )
    if silent := sorted(texts.keys() - sounds.keys()):
        _log.warning(
            "%s: %d of %d transcripts have no sound file (%s) and are left out",
            transcript,
            len(silent),
            len(texts),
            ", ".join(silent[:3]) + (", ..." if len(silent) > 3 else ""),
        )
    for id, path in sorted(sounds.items()):
        yield Utterance(id, os.path.abspath(path), texts[id], speaker, seconds=_seconds(path))


def _read_transcript(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(
            f"{path.parent} holds sound but not its transcript {path.name}: put it there (a line "
            "for each file: its name without the ending, a space, the text), or take the sound away"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason}): convert it") from error
    texts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        id, _, text = line.strip().partition(" ")
        if not text.strip():
            raise UserError(f"{path}, line {number}: expected 'ID TEXT', found {line!r}")
        if id in texts:
            raise UserError(f"{path}, line {number}: the utterance {id} comes a second time")
        texts[id] = text.strip()
    return texts


def _seconds(path: Path) -> float | None:
    # A file that cannot be opened is named by whoever reads its samples, with the utterance.
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError:
        return None
    return info.frames / info.samplerate


def download(root: Path, subset: str) -> None:
    """Fetch a subset from openslr.org and unpack it as `root/subset`, whole or not at all.

    Does nothing where it is there. Raises UserError for an unknown subset, a failed transfer, a
    wrong checksum, and an archive that would write outside its folder.
    """
    if subset not in _ARCHIVES:
        raise UserError(
            f"LibriSpeech has no subset {subset!r}; it has {', '.join(sorted(_ARCHIVES))}"
        )
    if (root / subset).is_dir():
        return
    url, checksum = _ARCHIVES[subset]
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
        archive = Path(temporary) / "archive.tar.gz"
        _fetch(url, archive, checksum)
        unpacked = Path(temporary) / "unpacked"
        _unpack(archive, unpacked)
        if not (unpacked / subset).is_dir():
            raise UserError(f"{url} does not hold LibriSpeech/{subset}")
        for path in unpacked.iterdir():
            if not (root / path.name).exists():
                os.replace(path, root / path.name)


def _fetch(url: str, path: Path, checksum: str | None) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as source, path.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (urllib.error.URLError, OSError) as error:
        raise UserError(
            f"{url} could not be fetched: {error}; fetch and unpack it by other means, or try again"
        ) from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if checksum is not None and found != checksum:
        raise UserError(f"{url} came damaged: SHA-256 {found}, expected {checksum}; try again")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack plain files and folders alone, without the archive's first folder, inside `folder`."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts
                plain = member.isfile() or member.isdir()
                if not plain or member.name.startswith("/") or ".." in parts:
                    raise UserError(f"the archive holds {member.name!r}: not safe to unpack")
                target = folder.joinpath(*parts[1:])
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                elif source := tar.extractfile(member):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as file:
                        shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"the archive cannot be unpacked: {error}; try again") from error


def main(arguments: list[str] | None = None) -> int:
    """Print the manifest of a subset, having fetched it where that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.librispeech", description="Print a subset's manifest."
    )
    parser.add_argument("root", type=Path, help="the LibriSpeech folder, which holds the subsets")
    parser.add_argument("subset", help="as train-clean-5")
    parser.add_argument("--download", action="store_true", help="fetch the subset where absent")
    wanted = parser.parse_args(arguments)
    try:
        if wanted.download:
            download(wanted.root, wanted.subset)
        for utterance in read(wanted.root, wanted.subset):
            print(utterance.to_json())
    except UserError as error:
        print(f"data_prep.librispeech: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
