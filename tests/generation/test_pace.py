"""Durations as a file and back, and the word about a pace that no one speaks at."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voiceflow.config import UserError, UserNote
from voiceflow.generation.pace import (
    DRAGGED,
    HURRIED,
    check_speed,
    new_phones,
    note_pace,
    read_durations,
    save_durations,
)
from voiceflow.generation.plan import Gap, Plan, Slot, lay_out
from voiceflow.text.phones import SILENCE

PHONES = [SILENCE, "HH_B", "AY_E", SILENCE]
HOP = 0.01


def plan_of(durations: list[int], known: int = 0) -> Plan:
    """A plan whose phones are new, after `known` frames of a prompt; at least 2 a phone."""
    phones = [SILENCE if d == 0 or i % 3 == 0 else "AA_S" for i, d in enumerate(durations)]
    slots = [Slot("B_S", known)] if known else []
    told = torch.tensor([float(known)] * len(slots) + [float(d) for d in durations])
    slots += [Slot(phone, 0, 0) for phone in phones]
    return lay_out(slots, [Gap(known, known, None)], torch.zeros(known, 4), lambda *_: told)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=300), st.integers(0, 9),
       st.sampled_from([0.01, 256 / 24000, 256 / 22050, 0.0125]))  # fmt: skip
@settings(max_examples=50)
def test_what_was_saved_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, durations: list[int], known: int, hop: float
) -> None:
    plan = plan_of(durations, known)
    path = tmp_path_factory.mktemp("pace") / "d.json"
    save_durations(path, plan, hop)
    new = new_phones(plan)
    assert [phone for phone, _ in new] == list(plan.phones[1 if known else 0 :])
    assert read_durations(path, [phone for phone, _ in new], hop) == [frames for _, frames in new]


def written(path: Path, seconds: list[Any], phones: list[str] | None = None) -> Path:
    items = [
        {"phone": phone, "seconds": s} for phone, s in zip(phones or PHONES, seconds, strict=True)
    ]
    path.write_text(json.dumps({"phones": items}))
    return path


def test_times_are_rounded_at_their_borders(tmp_path: Path) -> None:
    path = written(tmp_path / "d.json", [0.104, 0.104, 0.104, 0.0])
    assert read_durations(path, PHONES, HOP) == [10, 11, 10, 0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, r"no durations, expected \{\"phones\".*No such file"),
        ("", "as --save-durations writes them"),
        ("not JSON", "as --save-durations writes them"),
        (b"\xff\xfe", "as --save-durations writes them"),
        ("[]", "no durations"),
        ("{}", "no durations"),
        ('{"phones": null}', "no durations"),
        ('{"phones": [1, 2]}', "no durations"),
        ('{"phones": "SIL"}', "no durations"),
        ('{"phones": [{"phone": "SIL"}]}', "no durations"),
        ('{"phones": [{"phone": "SIL", "seconds": "long"}]}', "no durations"),
        ('{"phones": [{"phone": "SIL", "seconds": null}]}', "no durations"),
        (f'{{"phones": [{{"phone": "SIL", "seconds": 1{"0" * 400}}}]}}', "no durations"),
        ('{"phones": []}', r"phone 1 is nothing, the text has SIL there \(0 phones, the text ha"),
    ],
)
def test_files_that_hold_no_durations(
    tmp_path: Path, content: str | bytes | None, why: str
) -> None:
    path = tmp_path / "d.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=why) as found:
        read_durations(path, PHONES, HOP)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("seconds", "phones", "why"),
    [
        ([0.1, 0.1, 0.1, 0.1], [SILENCE, "HH_B", "OW_E", SILENCE],
         r"phone 3 is OW_E, the text has AY_E there \(4 phones, the text has 4\)"),
        ([0.1, 0.1, 0.1], PHONES[:3], r"phone 4 is nothing, the text has SIL"),
        ([0.1] * 5, [*PHONES, "B_S"], "has 5 phones, the text has 4"),
        ([0.1, -0.1, 0.1, 0.1], PHONES, r"phone 2 \(HH_B\) has -0.1 seconds, expected 0.02 to 60"),
        ([-0.1, 0.1, 0.1, 0.1], PHONES, r"phone 1 \(SIL\) has -0.1 seconds, expected 0 to 60"),
        ([0.1, 0.1, 0.01, 0.1], PHONES, r"phone 3 \(AY_E\) has 0.01 seconds, expected 0.02 to"),
        ([0.1, 0.1, 0.1, 61.0], PHONES, r"phone 4 \(SIL\) has 61.0 seconds"),
        ([0.1, 0.1, float("nan"), 0.1], PHONES, r"phone 3 \(AY_E\) has nan seconds"),
        ([0.1, float("inf"), 0.1, 0.1], PHONES, r"phone 2 \(HH_B\) has inf seconds"),
    ],
)  # fmt: skip
def test_durations_that_do_not_fit(
    tmp_path: Path, seconds: list[float], phones: list[str], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        read_durations(written(tmp_path / "d.json", seconds, phones), PHONES, HOP)


def test_speeds() -> None:
    for speed in (0.25, 1.0, 4.0):
        check_speed(speed)
    for speed in (0.0, -1.0, 0.2, 4.1, float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"expected 0.25 \(slow\) to 4 \(fast\)"):
            check_speed(speed)


@pytest.mark.parametrize(
    ("wanted", "given", "word"),
    [(20.0, 11, "hurried"), (20.0, 40, "dragged"), (20.0, 12, None), (20.0, 36, None)],
)
def test_a_pace_that_no_one_speaks_at_is_told(wanted: float, given: int, word: str | None) -> None:
    assert (given / wanted < HURRIED or given / wanted > DRAGGED) == (word is not None)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        note_pace(PHONES, wanted, given, HOP, "it.wav", "Speak slowly")
    assert len(notes) == (word is not None)
    if word:
        assert notes[0].category is UserNote
        said = str(notes[0].message)
        assert f"it.wav: 2 phones in {given * HOP:.2f} s are {2 / given / HOP:.0f} a second" in said
        assert "this voice would take 0.20 s" in said
        assert said.endswith(f"it will sound {word}. Speak slowly")
        assert notes[0].filename == __file__


@pytest.mark.parametrize(("phones", "wanted", "given"), [
    ([SILENCE], 2.0, 90), (PHONES, 0.0, 90), (PHONES, 20.0, 0),
])  # fmt: skip
def test_silence_has_no_pace(phones: list[str], wanted: float, given: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        note_pace(phones, wanted, given, HOP, "it.wav", "Speak slowly")
