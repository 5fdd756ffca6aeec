"""Tasks that are asked too much, or the wrong thing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.e2e.said import EDITS, FADE, SAID, five_each
from voiceflow.audio.io import Recording, load_mono, resample
from voiceflow.config import UserError, UserNote
from voiceflow.voice import Voice


def test_texts_that_are_not_said(
    voice: Voice, recording: Recording, prompt: tuple[Recording, str]
) -> None:
    sound, text = prompt
    wrong = "the transcript does not seem to be what is said"
    with pytest.raises(UserError, match=wrong):
        voice.edit(sound, SAID, f"{SAID} TODAY")
    with pytest.raises(UserError, match=wrong):
        voice.speak("hello", prompt=sound, prompt_text=SAID)
    with pytest.raises(UserError, match=wrong):
        voice.style_transfer(recording, text, sound, text)
    with pytest.raises(UserError, match="no beginning of the text"):
        voice.continue_(recording, text)
    with pytest.raises(UserError, match="no beginning of the text"):
        voice.continue_(recording, text, prefix=1.0)


def test_silence_and_too_little_of_a_prompt(voice: Voice, recording: Recording) -> None:
    silent = Recording.from_mono(np.zeros(32000), 16000)
    short = Recording(recording.samples[8000:8800], 16000, recording.subtype)
    for wrong in (
        lambda: voice.edit(silent, SAID, f"{SAID} TODAY"),
        lambda: voice.continue_(silent, SAID),
        lambda: voice.speak("hello", prompt=silent, prompt_text="HE IS"),
        lambda: voice.style_transfer(silent, SAID, recording, SAID),
    ):
        with pytest.raises(UserError, match="the recording is silent"):
            wrong()
    with pytest.raises(UserError, match=r"the prompt holds 0\.0. s of speech, too little"):
        voice.speak("hello", prompt=short, prompt_text="A")


def test_spans_that_leave_no_context(voice: Voice, recording: Recording) -> None:
    whole = recording.seconds
    for span in ((0.0, whole), (0.0, whole, SAID)):
        with pytest.raises(UserError, match="the spans leave nothing of what is said"):
            voice.infill(recording, SAID, [span])  # type: ignore[list-item]


def test_texts_of_30000_words(voice: Voice, recording: Recording) -> None:
    long = "WORD " * 30_000
    for wrong in (
        lambda: voice.edit(recording, SAID, f"{SAID} {long}"),
        lambda: voice.continue_(recording, f"{SAID} {long}", prefix=2.0),
        lambda: voice.sample(long, 1),
        lambda: voice.speak(long),
    ):
        with pytest.raises(UserError, match="expected at most"):
            wrong()


def test_sound_at_192_khz(voice: Voice, recording: Recording) -> None:
    wave = resample(recording.mono(), 16000, 192000)
    whistle = 0.01 * np.sin(2 * np.pi * 30000 * np.arange(len(wave)) / 192000)
    for sound, n_notes in ((wave, 0), (wave + whistle, 1)):
        high = Recording.from_mono(sound, 192000)
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            made = voice.edit(high, SAID, EDITS["replace in the middle"], steps=1)
        assert len([n for n in notes if "holds sound above 8 kHz" in str(n.message)]) == n_notes
        assert made.recording.sample_rate == 192000
        start, _ = made.report()["replaced"][0]
        kept = start - FADE * 12
        assert kept > 100_000
        np.testing.assert_array_equal(made.recording.samples[:kept], high.samples[:kept])


def test_a_pace_that_no_one_speaks_at_is_told(
    voice: Voice, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "predict_durations", five_each)
    new = SAID.replace("KNOW", "UNDERSTAND IT ALL")
    hurried = r"phones in .* a second; this voice would take .* hurried"
    with pytest.warns(UserNote, match=f"{hurried}.*leave out --keep-length") as notes:
        voice.edit(recording, SAID, new, keep_length=True, steps=1)
    assert {note.filename for note in notes} == {__file__}
    know = voice.align(recording, SAID).spoken()[5]
    span = (know.start, know.end, "UNDERSTAND IT ALL")
    with pytest.warns(UserNote, match=f"{hurried}.*--natural-length; keep_length=False in Python"):
        voice.planned("infill", audio=recording, text=new, spans=[span])


def test_sound_is_written_and_read_back(voice: Voice, tmp_path: Path) -> None:
    made = voice.speak("hello", steps=1)
    made.save(tmp_path / "a.wav")
    made.draw(tmp_path / "a.png", "hello")
    written, rate = soundfile.read(tmp_path / "a.wav", dtype="int16", always_2d=True)
    assert rate == 16000
    np.testing.assert_array_equal(written, made.recording.samples)
    assert load_mono(tmp_path / "a.wav", 16000).shape == (len(written),)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_threads_share_a_voice(voice: Voice, recording: Recording) -> None:
    """Four at once give what one after another does."""
    from concurrent.futures import ThreadPoolExecutor

    def fill(start: float) -> bytes:
        made = voice.infill(recording, SAID, [(start, start + 0.3)], steps=1)
        return made.recording.samples.tobytes()

    starts = [0.8, 1.2, 0.8, 1.6]
    alone = [fill(start) for start in starts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fill, starts)) == alone
