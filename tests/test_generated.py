"""What a task gives: reports, pictures and several parts as one, without any network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceflow.audio.features import FeatureSpec
from voiceflow.audio.io import Recording
from voiceflow.config import SampleConfig, UserError
from voiceflow.generated import Generated, joined
from voiceflow.generation.infill import Layout
from voiceflow.generation.plan import Gap, Slot, lay_out
from voiceflow.generation.ranking import Rank
from voiceflow.text.phones import SILENCE

FEATURES = FeatureSpec(n_mels=8)
HOP = FEATURES.hop


def spoken(phones: list[str], frames: list[int], prompt: int = 0, trim: int = 0) -> Generated:
    """Phones of given durations after a prompt; `trim` samples are cut off at the beginning."""
    told = [prompt, *frames] if prompt else frames
    slots = [Slot("B_S", prompt)] if prompt else []
    slots += [Slot(phone, 0, 0) for phone in phones]
    plan = lay_out(slots, [Gap(prompt, prompt, None)], torch.zeros(prompt, FEATURES.n_mels),
                   lambda *_: torch.tensor(told).float())  # fmt: skip
    mel = torch.arange(len(plan.context)).float()[:, None].expand(-1, FEATURES.n_mels)
    wave = np.linspace(0.1, 0.2, sum(frames) * HOP - trim)
    return Generated(Recording.from_mono(wave, FEATURES.sample_rate), plan, mel, FEATURES,
                     SampleConfig(), 3, 2, 4, seconds=0.5)  # fmt: skip


def edited() -> Generated:
    """20 frames of which 5:10 became 8, in a recording at twice the features' rate."""
    slots = [Slot(SILENCE, 5), Slot("AA_S", 0, 0), Slot("B_B", 4), Slot("IY_E", 6)]
    mel = torch.randn(20, FEATURES.n_mels, generator=torch.Generator().manual_seed(0))
    gaps = [Gap(5, 10, None)]
    plan = lay_out(slots, gaps, mel, lambda *_: torch.tensor([5.0, 8.0, 4.0, 6.0]))
    layout = Layout(slots, gaps, mel, [(5 * HOP - HOP // 2, 10 * HOP - HOP // 2)])
    rate = 2 * FEATURES.sample_rate
    sound = Recording.from_mono(np.zeros(2 * 23 * HOP), rate)
    after = torch.zeros(23, FEATURES.n_mels)
    return Generated(sound, plan, after, FEATURES, SampleConfig(), 9, 2, 4, layout, 0.04,
                     (Rank(1, -1.0), Rank(0, None)), 1)  # fmt: skip


def test_report_of_an_edit() -> None:
    report = edited().report()
    assert json.loads(json.dumps(report)) == report
    assert report["sample_rate"] == 2 * FEATURES.sample_rate
    assert report["replaced"] == [[2 * (5 * HOP - HOP // 2), 2 * (10 * HOP - HOP // 2)]]
    assert report["spans"] == [[2 * 5 * HOP - HOP, 2 * 13 * HOP - HOP]]
    assert report["phones"] == [{"phone": "AA_S", "seconds": 0.08}]
    assert report["seed"] == 9
    assert report["candidates"] == [
        {"word_errors": 1, "score": -1.0}, {"word_errors": 0, "score": None}
    ]  # fmt: skip
    assert report["chosen"] == 1
    assert report["real_time_factor"] == pytest.approx(0.5)
    assert report["settings"]["solver"] == "midpoint"


def test_report_of_speech_tells_the_sound_without_its_prompt() -> None:
    made = spoken([SILENCE, "AA_S"], [3, 7], prompt=50, trim=100)
    report = made.report()
    assert report["spans"] == [[0, 10 * HOP - 100]]
    assert [p["phone"] for p in report["phones"]] == [SILENCE, "AA_S"]
    assert "replaced" not in report
    assert "candidates" not in report


def test_parts_are_joined_with_pauses_and_without_prompts() -> None:
    parts = [spoken([SILENCE, "AA_S", SILENCE], [1, 4, 2]), spoken(["B_S", SILENCE], [6, 1], 7),
             spoken(["AA_S"], [5], 7, trim=30)]  # fmt: skip
    whole = joined(parts, 0.1)
    pause = np.zeros((10 * HOP, 1), np.int16)
    sounds = [part.recording.samples for part in parts]
    np.testing.assert_array_equal(
        whole.recording.samples, np.concatenate([sounds[0], pause, sounds[1], pause, sounds[2]])
    )
    assert whole.plan.phones == (
        SILENCE, "AA_S", SILENCE, SILENCE, "B_S", SILENCE, SILENCE, "AA_S"
    )  # fmt: skip
    assert whole.plan.durations == (1, 4, 2, 10, 6, 1, 10, 5)
    assert whole.plan.gaps == ((0, 7), (17, 24), (34, 39))
    assert whole.plan.new == (0, 1, 2, 4, 5, 7)
    assert len(whole.mel) == len(whole.plan.context) == 39
    for (first, last), part in zip(whole.plan.gaps, parts, strict=True):
        assert torch.equal(whole.mel[first:last], part.mel[slice(*part.plan.gaps[-1])])
        assert whole.plan.mask[first:last].all()
    assert not whole.plan.mask[7:17].any()
    assert (whole.nfe, whole.network_passes, whole.seconds, whole.seed) == (6, 12, 1.5, 3)
    told = whole.report()
    assert "".join(p["phone"][0] for p in told["phones"]) == "SASBSA"
    assert told["spans"] == [[0, len(whole.recording.samples)]]


@pytest.mark.parametrize("made", [edited(), spoken([SILENCE, "AA_S"], [3, 7], prompt=20)])
def test_pictures_and_files(made: Generated, tmp_path: Path) -> None:
    made.draw(tmp_path / "it.png", "it $says$ _this_")
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")
    made.save(tmp_path / "it.flac")
    made.save_durations(tmp_path / "it.json")
    assert json.loads((tmp_path / "it.json").read_text())["phones"] == made.report()["phones"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        made.save(tmp_path / "file" / "it.wav")
    with pytest.raises(UserError, match="cannot be written"):
        made.save_durations(tmp_path / "file" / "it.json")
    with pytest.raises(UserError, match="cannot be written"):
        made.draw(tmp_path / "file" / "it.png")
