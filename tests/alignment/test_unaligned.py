"""Symbols one a frame, then fillers: no claim to borders, and nothing lost."""

from pathlib import Path

import numpy as np
import pytest

from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.types import AlignmentError
from voiceflow.alignment.unaligned import UnalignedAligner
from voiceflow.text.lexicon import ClosedLexicon


@pytest.fixture()
def aligner(tmp_path: Path) -> UnalignedAligner:
    (tmp_path / "letters.dict").write_text("AS A S\nSHE S H E\n", "utf-8")
    return UnalignedAligner(ClosedLexicon(tmp_path / "letters.dict"), 0.01)


@pytest.mark.parametrize("samples", [16000, 16079, 900])
def test_one_symbol_a_frame_and_then_fillers(aligner: UnalignedAligner, samples: int) -> None:
    found = aligner.align(np.zeros(samples, np.float32), ["SHE", "AS"], "u")
    n_frames = 1 + samples // 160
    framed = to_frames(found, n_frames, 0.01)
    frames = [p for p, d in zip(framed.phones, framed.durations, strict=True) for _ in range(d)]
    assert frames == ["S_B", "H_I", "E_E", "A_B", "S_E", *["SIL"] * (n_frames - 5)]
    assert found.score is None


def test_what_does_not_fit(aligner: UnalignedAligner) -> None:
    with pytest.raises(AlignmentError, match=r"u: 5 symbols do not fit into 0\.04 s"):
        aligner.align(np.zeros(640, np.float32), ["SHE", "AS"], "u")
    with pytest.raises(AlignmentError, match="u: no pronunciation for 'HE'"):
        aligner.align(np.zeros(16000, np.float32), ["HE"], "u")
