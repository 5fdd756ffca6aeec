"""A prompt of which only a stretch is heard."""

from pathlib import Path

import numpy as np
import pytest
import torch

from voiceflow.audio.io import Recording, read
from voiceflow.config import UserError
from voiceflow.voice import Voice


@pytest.fixture(scope="module")
def prompt(speech_dir: Path) -> tuple[Path, str]:
    folder = speech_dir / "LibriSpeech" / "test-clean" / "1089" / "134686"
    line = (folder / "1089-134686.trans.txt").read_text().splitlines()
    texts = dict(x.split(" ", 1) for x in line)
    return folder / "1089-134686-0002.flac", texts["1089-134686-0002"]


def test_the_context_is_that_stretch_of_the_recording(
    tiny_voice: Path, prompt: tuple[Path, str]
) -> None:
    voice = Voice.load(tiny_voice)
    path, text = prompt
    whole = voice.plan_speech(["HELLO"], path, text)
    plan = voice.plan_speech(["HELLO"], path, text, (1.0, 4.0))
    (first, _), = plan.gaps
    assert 2.5 < first * voice.features.hop_seconds <= 3.0
    mel = voice.features.normalise(voice.log_mel(torch.from_numpy(read(path).mono())))
    places = [i for i in range(90, 140) if torch.equal(mel[i : i + first], plan.context[:first])]
    assert len(places) == 1
    assert plan.phones[-6:] == whole.phones[-6:]  # HELLO, and the silence after it
    assert len(plan.phones) < len(whole.phones)


def test_a_stretch_that_is_all_of_it_changes_nothing(
    tiny_voice: Path, prompt: tuple[Path, str]
) -> None:
    voice = Voice.load(tiny_voice)
    path, text = prompt
    seconds = read(path).seconds
    whole = voice.plan_speech(["HELLO"], path, text)
    for end in (seconds, round(seconds, 2), seconds + 1):
        plan = voice.plan_speech(["HELLO"], path, text, (0.0, end))
        assert (plan.phones, plan.durations) == (whole.phones, whole.durations)
        assert torch.equal(plan.context, whole.context)


def test_what_lies_outside_is_not_heard(tiny_voice: Path, prompt: tuple[Path, str]) -> None:
    """But for finding the phones: the same stretch of a louder recording's rest."""
    voice = Voice.load(tiny_voice)
    path, text = prompt
    recording = read(path)
    made = voice.speak("HELLO", prompt=path, prompt_text=text, prompt_span=(1.0, 4.0), seed=3)
    samples = recording.samples.copy()
    samples[5 * recording.sample_rate :] = np.round(0.7 * samples[5 * recording.sample_rate :])
    quieter = Recording(samples, recording.sample_rate, recording.subtype)
    other = voice.speak("HELLO", prompt=quieter, prompt_text=text, prompt_span=(1.0, 4.0), seed=3)
    assert torch.equal(made.plan.context, other.plan.context)


def test_a_stretch_without_a_phone(tiny_voice: Path, prompt: tuple[Path, str]) -> None:
    path, text = prompt
    with pytest.raises(UserError, match="hold no whole phone: take more of it"):
        Voice.load(tiny_voice).plan_speech(["HELLO"], path, text, (1.0, 1.02))
