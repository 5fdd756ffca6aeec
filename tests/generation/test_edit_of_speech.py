"""Edits of real speech: gaps where the words are, and every other sample kept."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.generation.edits import HOP, LOG_MEL, check_kept, planned
from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE, Alignment
from voiceflow.config import UserError
from voiceflow.generation.edit import lay_out_edit
from voiceflow.generation.infill import Layout
from voiceflow.text.diff import edits

ID = "1089-134686-0032"
SENTENCE = "HE IS CALLED AS YOU KNOW THE APOSTLE OF THE INDIES"


@pytest.fixture(scope="module")
def spoken(speech_dir: Path) -> tuple[np.ndarray, Alignment]:
    path = speech_dir / f"LibriSpeech/test-clean/1089/134686/{ID}.flac"
    if not path.is_file():
        pytest.skip(f"no real speech: {path} is absent")
    wave, rate = soundfile.read(path, dtype="float32")
    assert rate == SAMPLE_RATE
    return wave, PocketsphinxAligner().align(wave, SENTENCE.split(), ID)


IN_THE_MIDDLE = "HE IS CALLED AS YOU KNOW THE GREAT APOSTLE OF THE INDIES"


@pytest.mark.parametrize("keep_length", [False, True])
@pytest.mark.parametrize(
    ("new", "kinds"),
    [
        ("SHE IS CALLED AS YOU KNOW THE APOSTLE OF THE INDIES", "replace"),
        ("HE IS NAMED AS YOU KNOW THE APOSTLE OF THE INDIES", "replace"),
        ("HE IS CALLED AS YOU KNOW THE APOSTLE OF THE ISLANDS", "replace"),
        ("TODAY HE IS CALLED AS YOU KNOW THE APOSTLE OF THE INDIES", "insert"),
        (IN_THE_MIDDLE, "insert"),
        ("HE IS CALLED AS YOU KNOW OF THE APOSTLE OF THE INDIES", "insert"),
        ("HE IS CALLED AS YOU KNOW THE APOSTLE OF THE INDIES TODAY", "insert"),
        ("IS CALLED AS YOU KNOW THE APOSTLE OF THE INDIES", "delete"),
        ("HE IS CALLED THE APOSTLE OF THE INDIES", "delete"),
        ("HE IS CALLED AS YOU KNOW THE APOSTLE", "delete"),
        ("SHE IS NAMED AS YOU KNOW THE TRUE APOSTLE", "replace replace insert delete"),
    ],
)
def test_an_edit_of_real_speech(
    spoken: tuple[np.ndarray, Alignment], new: str, kinds: str, keep_length: bool
) -> None:
    wave, alignment = spoken
    found = edits(SENTENCE.split(), new.split())
    assert " ".join(edit.kind for edit in found) == kinds

    def lay(keep_length: bool) -> Layout:
        return lay_out_edit(wave, alignment, new.split(), english_lexicon(), LOG_MEL, ID,
                            keep_length)  # fmt: skip

    if keep_length and (new == IN_THE_MIDDLE or "TRUE" in new):
        with pytest.raises(UserError, match=r"0\.00 s of sound at 2\.3. s cannot"):
            lay(keep_length)
        return
    layout = lay(keep_length)
    framed = to_frames(alignment, LOG_MEL.spec.n_frames(len(wave)), LOG_MEL.spec.hop_seconds)
    check_kept(layout, framed.phones, framed.durations)
    torch.testing.assert_close(layout.mel, LOG_MEL(torch.from_numpy(wave)), rtol=0, atol=0)
    starts = np.cumsum([0, *framed.durations]).tolist()
    at_words = {0, starts[-1]}
    for word in framed.words:
        at_words |= {starts[word.first_phone], starts[word.first_phone + word.n_phones]}
    assert len(layout.gaps) == len(found)
    for edit, gap, (start, end) in zip(found, layout.gaps, layout.cuts, strict=True):
        if edit.kind != "delete" or keep_length:
            assert {gap.first, gap.last} <= at_words
        else:  # one side of the seam at least lies inside a neighbour, at a phone's border
            assert {gap.first, gap.last} <= set(starts)
        assert start == (0 if gap.first == 0 else gap.first * HOP - HOP // 2)
        assert end == (len(wave) if gap.last == starts[-1] else gap.last * HOP - HOP // 2)
    plan = planned(layout)
    assert sum(plan.durations) == len(plan.context)
    if keep_length:
        assert len(plan.context) == len(layout.mel)


def test_words_that_real_speech_does_not_say(spoken: tuple[np.ndarray, Alignment]) -> None:
    other = "BUT THE DUSK DEEPENING IN THE SCHOOLROOM COVERED OVER HIS THOUGHTS".split()
    alignment = PocketsphinxAligner().align(spoken[0], other, ID)
    with pytest.raises(UserError, match="the transcript does not seem to be what is said"):
        lay_out_edit(spoken[0], alignment, other[:-1], english_lexicon(), LOG_MEL, ID)
