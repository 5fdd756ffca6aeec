"""The tasks of a voice on real speech, with networks that have learnt nothing: what must hold of
lengths, kept samples, seeds and errors whatever they say."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.said import EDITS, FADE, HOP, SAID, five_each
from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.types import Aligner
from voiceflow.audio.io import Recording, resample
from voiceflow.config import UserError, UserNote
from voiceflow.generated import Generated
from voiceflow.generation.ranking import Rank
from voiceflow.spoken import PAUSE_SECONDS
from voiceflow.text.phones import SILENCE
from voiceflow.voice import Voice


def same(a: Generated, b: Generated) -> bool:
    return np.array_equal(a.recording.samples, b.recording.samples)


@pytest.mark.parametrize("new", EDITS.values(), ids=EDITS)
def test_an_edit_changes_what_differs_and_nothing_else(
    voice: Voice, recording: Recording, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "predict_durations", five_each)
    made = voice.edit(recording, SAID, new, steps=1)
    before, after = recording.samples, made.recording.samples
    assert made.layout is not None
    assert made.recording.subtype == recording.subtype
    frames = len(made.plan.context) - len(made.layout.mel)
    assert len(after) == len(before) + frames * HOP
    shift = done = 0  # samples by which earlier changes moved what follows, and the last one's end
    gaps = zip(made.layout.gaps, made.plan.gaps, made.layout.cuts, strict=True)
    for gap, (first, last), (start, end) in gaps:
        kept = slice(done + FADE if done else 0, max(start - FADE, 0))
        np.testing.assert_array_equal(after[kept.start + shift : kept.stop + shift], before[kept])
        shift += (last - first - gap.last + gap.first) * HOP
        done = end
    tail = before[done + FADE :]
    np.testing.assert_array_equal(after[len(after) - len(tail) :], tail)
    if "TODAY" in new or "GREAT" in new:
        assert len(after) > len(before) + 0.3 * 16000
    if len(new.split()) < len(SAID.split()) and "NAMED" not in new and "WAS" not in new:
        assert len(after) < len(before)


@pytest.mark.parametrize(
    "new",
    [EDITS["replace in the middle"], EDITS["delete in the middle"], EDITS["insert at the end"]],
)
def test_an_edit_may_keep_the_length(voice: Voice, recording: Recording, new: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserNote)
        made = voice.edit(recording, SAID, new, keep_length=True, steps=1)
    before, after = recording.samples, made.recording.samples
    assert len(after) == len(before)
    [(start, end)] = made.report()["replaced"]
    changed = np.flatnonzero((before != after).any(axis=1))
    assert start - FADE <= changed.min()
    assert changed.max() < end + FADE


def test_texts_with_other_case_and_signs_are_the_same_text(
    voice: Voice, recording: Recording
) -> None:
    with pytest.raises(UserError, match="nothing to change"):
        voice.edit(recording, SAID, f"  {SAID.capitalize()}! ")


def test_a_long_text_is_spoken_by_sentences_in_one_voice(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "predict_durations", five_each)
    parts = ["Hello there.", "This is Dr. Brown!", "A third."]
    made = voice.speak(" ".join(parts), steps=1)
    assert made.layout is None
    first = voice.speak(parts[0], steps=1)
    n = len(first.recording.samples)
    samples = made.recording.samples
    np.testing.assert_array_equal(samples[:n], first.recording.samples)
    pause = round(PAUSE_SECONDS * 16000)
    assert not samples[n : n + pause].any()
    assert samples[n + pause :].any()
    assert len(made.plan.gaps) == 3
    # What comes after hears the first part: spoken alone it sounds otherwise.
    alone = voice.speak(parts[2], steps=1).recording.samples
    assert not np.array_equal(samples[len(samples) - len(alone) :], alone)
    assert len(made.mel) == len(made.plan.context) == sum(made.plan.durations)
    assert made.nfe == 3 * first.nfe


def test_candidates_of_a_long_text_are_whole_texts(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow.voice.rank", planned([2, 1, 3]))
    made = voice.speak("Hello there. A second part.", steps=1, seed=4, candidates=3)
    assert (made.seed, made.chosen) == (5, 1)
    one = voice.speak("Hello there. A second part.", steps=1, seed=5)
    assert same(made, one)
    assert made.nfe == 3 * one.nfe


@pytest.mark.parametrize("text", ["I", "a", "Oh!"])
def test_one_word_and_one_phone(voice: Voice, text: str) -> None:
    made = voice.speak(text, steps=1)
    assert sum(phone != SILENCE for phone in made.plan.phones) in (1, 2)
    assert made.recording.seconds >= 0.01
    assert np.isfinite(made.mel).all()


def test_speed(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "predict_durations", five_each)
    frames = {
        speed: sum(voice.speak("hello there", speed=speed, steps=1).plan.durations)
        for speed in (0.5, 1.0, 2.0)
    }
    assert frames[0.5] == 2 * frames[1.0]
    # A silence of 2.5 frames has 2 of them.
    assert frames[2.0] == pytest.approx(frames[1.0] / 2, abs=2)
    for speed in (0.0, -1.0, 9.0):
        with pytest.raises(UserError, match="a speed of"):
            voice.speak("hello", speed=speed)


@pytest.mark.parametrize("text", ["hello", "Hello there. A second part."])
def test_durations_are_saved_changed_and_heeded_phone_by_phone(
    voice: Voice, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "d.json"
    voice.speak(text, steps=1).save_durations(path)
    told = json.loads(path.read_text())
    for number, item in enumerate(told["phones"]):
        item["seconds"] = round(0.05 + 0.01 * (number % 7), 2)
    path.write_text(json.dumps(told))
    made = voice.speak(text, durations=path, steps=1)
    new = made.report()["phones"]
    assert new == told["phones"]
    made.save_durations(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == told
    spoken = sum(item["seconds"] for item in told["phones"])
    pauses = PAUSE_SECONDS * (len(made.plan.gaps) - 1)
    assert made.recording.seconds == pytest.approx(spoken + pauses, abs=0.2)  # trimmed at edges
    with pytest.raises(UserError, match=r"d\.json: phone .* the text has"):
        voice.speak("another text", durations=path)
    with pytest.raises(UserError, match=r"none\.json: no durations"):
        voice.speak(text, durations=tmp_path / "none.json")


def test_durations_after_a_prompt(
    voice: Voice, prompt: tuple[Recording, str], tmp_path: Path
) -> None:
    sound, text = prompt
    made = voice.speak("hello", prompt=sound, prompt_text=text, steps=1)
    made.save_durations(tmp_path / "d.json")
    again = voice.speak(
        "hello", prompt=sound, prompt_text=text, durations=tmp_path / "d.json", steps=1
    )
    assert same(made, again)
    assert [item["phone"] for item in made.report()["phones"]].count("HH_B") == 1
    assert made.report()["spans"] == [[0, len(made.recording.samples)]]


@pytest.mark.parametrize(("prefix", "more"), [(1.5, ""), (2.6, " AND MORE"), (None, " AND MORE")])
def test_a_continuation_keeps_the_prefix(
    voice: Voice, recording: Recording, prefix: float | None, more: str
) -> None:
    made = voice.continue_(recording, SAID + more, prefix=prefix, steps=1)
    assert made.layout is not None
    alignment = voice.align(recording, SAID)
    framed = to_frames(alignment, len(made.layout.mel), 0.01)
    edges = np.cumsum([0, *framed.durations])
    [(cut, end)] = made.layout.cuts
    assert end == len(recording.samples)
    if prefix is None:
        kept = len(recording.samples)
    else:
        edge = edges[np.abs(edges - prefix * 100).argmin()]
        assert cut == edge * HOP - HOP // 2
        kept = cut
    np.testing.assert_array_equal(
        made.recording.samples[: kept - FADE], recording.samples[: kept - FADE]
    )
    assert made.plan.new == tuple(range(made.plan.new[0], len(made.plan.phones)))
    assert len(made.recording.samples) == pytest.approx(
        cut + HOP * (made.plan.gaps[0][1] - made.plan.gaps[0][0]), abs=HOP
    )


def test_a_recording_that_says_only_the_beginning(voice: Voice, recording: Recording) -> None:
    spoken = voice.align(recording, SAID).spoken()
    end = round(spoken[5].end * 16000)
    beginning = Recording(recording.samples[:end], 16000, recording.subtype)
    made = voice.continue_(beginning, SAID, steps=1)
    new = [made.plan.phones[i] for i in made.plan.new]
    assert next(phone for phone in new if phone != SILENCE) == "DH_B"  # of THE APOSTLE
    np.testing.assert_array_equal(
        made.recording.samples[: end - FADE], recording.samples[: end - FADE]
    )


@pytest.mark.parametrize("rate", [16000, 44100])
def test_style_keeps_words_and_timing(
    voice: Voice, recording: Recording, prompt: tuple[Recording, str], rate: int
) -> None:
    source = recording
    if rate != 16000:
        source = Recording.from_mono(resample(recording.mono(), 16000, rate), rate)
    made = voice.style_transfer(source, SAID, *prompt, steps=1)
    assert len(made.recording.samples) == len(recording.samples)
    assert made.recording.sample_rate == 16000
    n_frames = voice.features.n_frames(len(recording.samples))
    framed = to_frames(voice.align(source, SAID), n_frames, 0.01)
    new = [(made.plan.phones[i], made.plan.durations[i]) for i in made.plan.new]
    assert new == list(zip(framed.phones, framed.durations, strict=True))
    [(start, end)] = made.report()["spans"]
    assert (start, end) == (0, len(made.recording.samples))


def test_samples_differ_by_seed_and_by_nothing_else(voice: Voice) -> None:
    made = voice.sample("hello", 3, seed=7, steps=1)
    assert [one.seed for one in made] == [7, 8, 9]
    assert {one.settings.guidance for one in made} == {0.0}
    assert len({one.recording.samples.tobytes() for one in made}) == 3
    [again] = voice.sample("hello", 1, seed=8, steps=1)
    assert same(again, made[1])
    with pytest.raises(UserError, match="count must be at least 1, found 0"):
        voice.sample("hello", 0)


def planned(words_errors: Sequence[int]) -> object:
    """A ranking whose errors are told."""

    def rank(
        waves: Sequence[np.ndarray], words: Sequence[str], aligner: Aligner
    ) -> tuple[int, list[Rank]]:
        ranks = [Rank(errors, None) for errors in words_errors[: len(waves)]]
        return min(range(len(ranks)), key=lambda i: ranks[i].key), ranks

    return rank


@pytest.mark.parametrize(("errors", "best"), [([3, 2, 1], 2), ([2, 1, 1], 1), ([0, 1, 2], 0)])
def test_of_several_candidates_the_best_is_taken_and_its_seed_told(
    voice: Voice, recording: Recording, monkeypatch: pytest.MonkeyPatch, errors: list[int],
    best: int,
) -> None:  # fmt: skip
    monkeypatch.setattr("voiceflow.voice.rank", planned(errors))
    new = EDITS["insert in the middle"]
    made = voice.edit(recording, SAID, new, steps=1, seed=4, candidates=3)
    assert made.seed == 4 + best == 4 + made.chosen
    assert [rank.word_errors for rank in made.ranks] == errors
    assert made.report()["chosen"] == best
    assert len(made.report()["candidates"]) == 3
    assert same(made, voice.edit(recording, SAID, new, steps=1, seed=made.seed))
    assert not same(made, voice.edit(recording, SAID, new, steps=1, seed=made.seed + 1))


def test_candidates_that_are_listened_to(voice: Voice) -> None:
    made = voice.speak("hello there", steps=1, seed=2, candidates=2)
    assert len(made.ranks) == 2
    assert made.ranks[made.chosen].key == min(rank.key for rank in made.ranks)
    assert same(made, voice.speak("hello there", steps=1, seed=made.seed))
    with pytest.raises(UserError, match="candidates must be at least 1"):
        voice.speak("hello", candidates=0)
