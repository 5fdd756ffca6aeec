"""What a person meets in Python who errs: names, values and sounds that are none; and what a
result, a plan and a recording show of themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceflow.audio.io import Recording
from voiceflow.config import SampleConfig, UserError, UserNote
from voiceflow.generation.plan import Gap, Plan, Slot, lay_out
from voiceflow.jobs import SampleOptions, settings_of
from voiceflow.voice import PLANNED, Voice


@pytest.fixture(scope="module")
def voice(tiny_voice: Path) -> Voice:
    return Voice.load(tiny_voice)


def test_options_that_are_not_known_are_named_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"step, temperature: not known") as found:
        settings_of(SampleConfig(), {"step": 3, "temperature": 1})  # type: ignore[typeddict-unknown-key]
    for name in SampleOptions.__annotations__:
        assert name in str(found.value)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda voice: voice.speak("hi", temperature=0.5),
        lambda voice: voice.speak("Hello there. A second part.", temperature=0.5),
        lambda voice: voice.sample("hi", 1, temperature=0.5),
        lambda voice: voice.settings(temperature=0.5),
    ],
)
def test_no_task_takes_an_option_that_is_not_known(
    voice: Voice, wrong: Callable[[Voice], object]
) -> None:
    with pytest.raises(UserError, match="temperature: not known"):
        wrong(voice)


@pytest.mark.parametrize(
    "task", ["style", "speak", "sample", "load", "velocity", "predict_durations", "__init__"]
)
def test_tasks_that_cannot_be_planned_ahead(voice: Voice, task: str) -> None:
    with pytest.raises(UserError, match=f"'{task}' .* infill, edit, continue_, denoise, style_tr"):
        voice.planned(task, text="a")


def test_all_that_can_be_planned_is_a_task() -> None:
    planned = {
        name for name, method in vars(Voice).items()
        if getattr(getattr(method, "__wrapped__", None), "__annotations__", {}).get("return")
        == "Job"
    }  # fmt: skip
    assert planned == set(PLANNED)


@pytest.mark.parametrize(
    ("sound", "name"),
    [(np.zeros(16000), "ndarray"), (torch.zeros(16000), "Tensor"), ((np.zeros(9), 1), "tuple")],
)
def test_sounds_that_are_no_recordings(voice: Voice, sound: object, name: str) -> None:
    why = rf"a recording is a path or a Recording, found {name}: Recording.from_mono\(wave"
    for wrong in (
        lambda: voice.infill(sound, "a", [(0, 1)]),  # type: ignore[arg-type]
        lambda: voice.speak("a", prompt=sound, prompt_text="a"),  # type: ignore[arg-type]
        lambda: voice.align(sound, "a"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match=why):
            wrong()


def test_notes_show_the_callers_line(voice: Voice) -> None:
    silent = Recording(np.zeros((8000, 2), np.int16), 8000, "PCM_16")
    calls: list[Callable[[], object]] = [
        lambda: voice.align(silent, "a"),
        lambda: voice.edit(silent, "a", "b"),
        lambda: voice.speak("a", prompt=silent, prompt_text="a"),
        lambda: voice.planned("style_transfer", audio=silent, text="a", prompt=silent,
                              prompt_text="a"),
    ]  # fmt: skip
    for call in calls:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            with pytest.raises(UserError, match="is silent"):
                call()
        assert [n.category for n in notes] == [UserNote, UserNote]  # of channels and of the rate
        assert {note.filename for note in notes} == {__file__}


def test_what_is_made_is_shown_in_a_line(voice: Voice) -> None:
    made = voice.speak("hello", steps=1, seed=2)
    seconds = f"{made.recording.seconds:.2f} s at 16000 Hz"
    assert repr(made) == f"Generated({seconds}, 1 gap, seed 2)"
    assert repr(made.recording) == f"Recording({seconds}, 1 channel)"
    n, phones = len(made.mel), len(made.plan.phones)
    assert repr(made.plan) == f"Plan({n} frames, {phones} phones, 1 gap)"
    assert repr(voice.speak("One. Two.", steps=1)).endswith(", 2 gaps, seed 0)")


def test_a_plan_is_shown_in_a_line() -> None:
    one = lay_out([Slot("AA_S", 1)], [], torch.zeros(1, 4), lambda *_: torch.tensor([1.0]))
    assert repr(one) == "Plan(1 frame, 1 phone, 0 gaps)"
    slots = [Slot("AA_S", 0, 0), Slot("B_S", 3), Slot("AA_S", 0, 1)]
    gaps = [Gap(0, 0, 5), Gap(3, 3, 2)]
    two: Plan = lay_out(slots, gaps, torch.zeros(3, 4), lambda *_: torch.ones(3))
    assert repr(two) == "Plan(10 frames, 3 phones, 2 gaps)"
