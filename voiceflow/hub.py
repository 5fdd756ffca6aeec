"""Files of public models: in a folder, or on the Hugging Face Hub.

Weights are safetensors; pickles are not opened, since they can run code. A name may hold a
revision: `facebook/hubert-large-ls960-ft@refs/pr/1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from voiceflow.config import UserError

# Not model*.safetensors: Whisper's repository holds a second copy, model.fp32-*.
FILES = ("*.json", "*.txt", "model.safetensors", "model-*.safetensors")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Source:
    """A model's files. name: as it was asked for; commit: of the Hub, None for a folder."""

    name: str
    folder: Path
    commit: str | None

    def pickles(self) -> list[str]:
        """Names of the folder's files that look like pickled weights."""
        return sorted(path.name for p in PICKLES for path in self.folder.glob(p))


def library(name: str, needed_by: str, extra: str) -> Any:
    """An optional library, or UserError with the install line."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{needed_by} need {name}: pip install -e '.[{extra}]'") from error


def find(model: str, files: Sequence[str] = FILES) -> Source:
    """A model in a folder, or from the Hub's cache or the Hub; UserError where it is in neither."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Source(model, folder, None)
    name, _, revision = model.partition("@")
    import huggingface_hub

    try:
        snapshot = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=list(files)
        )
    # No network, no such model, a name that cannot be one: the client's versions differ in what
    # they raise, and most of it has no base in common.
    except Exception as error:
        raise UserError(
            f"model '{model}' is no folder here, and the Hugging Face Hub did not give it "
            f"({first_line(error)}): check the name and the network; without one, run `hf download "
            f"{name} --local-dir FOLDER` elsewhere and give that folder"
        ) from error
    return Source(model, Path(snapshot), Path(snapshot).name)


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
