"""A recording of test-clean, what it says, and edits of that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from voiceflow.text.phones import SILENCE

SAID = "HE IS CALLED AS YOU KNOW THE APOSTLE OF THE INDIES"
HOP = 160
FADE = 160  # 10 ms


def flac(speech_dir: Path, id: str) -> Path:
    speaker, chapter, _ = id.split("-")
    path = speech_dir / "LibriSpeech/test-clean" / speaker / chapter / f"{id}.flac"
    if not path.is_file():
        pytest.skip(f"no real speech: {path} is absent")
    return path


def five_each(phones: Sequence[str], known: Tensor, mask: Tensor) -> Tensor:
    """Durations of a voice that has not learnt any: ten frames a phone, five a silence."""
    found = torch.tensor([5.0 if phone == SILENCE else 10.0 for phone in phones])
    return torch.where(mask, found, known.float())


EDITS = {
    "insert at the start": f"TODAY {SAID}",
    "insert in the middle": SAID.replace("THE APOSTLE", "THE GREAT APOSTLE"),
    "insert at the end": f"{SAID} TODAY",
    "delete at the start": SAID.removeprefix("HE "),
    "delete in the middle": SAID.replace("AS YOU KNOW ", ""),
    "delete at the end": SAID.removesuffix(" OF THE INDIES"),
    "replace at the start": SAID.replace("HE IS", "SHE WAS"),
    "replace in the middle": SAID.replace("CALLED", "NAMED"),
    "replace at the end": SAID.replace("INDIES", "ISLANDS"),
    "several": "SHE IS NAMED AS YOU KNOW THE TRUE APOSTLE",
}
