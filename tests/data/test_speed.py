"""Recordings played faster or slower: more voices out of few speakers."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.audio.io import load_mono
from voiceflow.cli.app import app
from voiceflow.config import UserError
from voiceflow.data.inspect import find_utterance
from voiceflow.data.manifest import Utterance, read_manifest, write_manifest
from voiceflow.data.recordings import at_speed, load_recording
from voiceflow.data.shards import open_prepared
from voiceflow.data.waves import Waves

SPEC = FeatureSpec()
RATE = SPEC.sample_rate


@pytest.mark.parametrize("speed", [0.9, 1.1, 0.937])
def test_a_tone_rises_with_the_speed(speed: float) -> None:
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    played = at_speed(tone, speed)
    assert len(played) == pytest.approx(RATE / speed, abs=1)
    expected = np.sin(2 * np.pi * 1000 * speed * np.arange(len(played)) / RATE)
    inner = slice(400, len(played) - 400)
    assert np.abs(played - expected)[inner].max() < 1e-3


def test_speed_1_is_not_named_in_a_manifest_and_changes_nothing(tmp_path: Path) -> None:
    one = Utterance("a", "a.wav", "hello", "s", seconds=2.0)
    assert "speed" not in json.loads(one.to_json())
    fast = one.faster(1.25)
    assert fast == Utterance("a-speed1.25", "a.wav", "hello", "s", seconds=1.6, speed=1.25)
    write_manifest(tmp_path / "m.jsonl", [one, fast])
    assert read_manifest(tmp_path / "m.jsonl") == [one, fast]


@pytest.mark.parametrize("speed", ["0", "-1", "0.0001", "2.5", "true", '"fast"', "Infinity"])
def test_a_manifest_with_no_possible_speed_is_refused(tmp_path: Path, speed: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(
        f'{{"id": "a", "audio": "a.wav", "text": "x", "speaker": "s", "speed": {speed}}}\n'
    )
    with pytest.raises(UserError, match=r"line 1: 'speed' must be from 0\.5 to 2, found"):
        read_manifest(path)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve speakers who say one word each, in noise."""
    rng = np.random.default_rng(0)
    lines = ["audio,text,speaker"]
    for number in range(12):
        wave = (0.1 * rng.standard_normal(RATE)).astype(np.float32)
        soundfile.write(tmp_path / f"{number}.wav", wave, RATE)
        lines.append(f"{number}.wav,hello,s{number}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "table.csv"


def test_prepare_makes_each_utterance_at_each_speed(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    words = ["prepare", "table", "--root", str(table), "--aligner", "even", "--out", str(out)]
    result = CliRunner().invoke(app, [*words, "--speed", "0.8", "--speed", "1", "--speed", "1.25"])
    assert result.exit_code == 0, result.output
    prepared, manifest = open_prepared(out), read_manifest(out / "manifest.jsonl")
    assert len(prepared.index.ids) == 36
    assert json.loads((out / "info.json").read_text())["speeds"] == "0.8, 1, 1.25"

    first, slow, fast = manifest[:3]
    assert [u.speed for u in (first, slow, fast)] == [1.0, 0.8, 1.25]
    assert {u.speaker for u in (first, slow, fast)} == {first.speaker}
    original = load_mono(first.audio, RATE)
    waves = Waves.of(out, RATE)
    for utterance in (first, slow, fast):
        row = find_utterance(out, utterance.id)
        assert row.utterance == utterance
        expected = at_speed(original, utterance.speed)
        np.testing.assert_array_equal(load_recording(utterance, SPEC), expected)
        mel = LogMel(SPEC)(torch.from_numpy(expected)).numpy()
        np.testing.assert_array_equal(row.mel, mel.astype(np.float16))
        crop = waves.crop(utterance.id, 0, len(expected))  # 16 bits, as it is kept
        np.testing.assert_allclose(crop, expected.clip(-1, 1), atol=2**-15)

    held = set(prepared.validation_speakers)
    assert held  # a speaker is held out at every speed
    for speaker in held:
        speeds = {u.speed for u in manifest if u.speaker == speaker}
        assert speeds == {1.0, 0.8, 1.25}


def test_speeds_that_cannot_be_had_are_refused(table: Path, tmp_path: Path) -> None:
    words = ["prepare", "table", "--root", str(table), "--out", str(tmp_path / "data")]
    far = CliRunner().invoke(app, [*words, "--aligner", "even", "--speed", "3"])
    assert far.exit_code == 2 and "--speed" in far.output
    grids = [*words, "--aligner", "mfa", "--alignments", str(tmp_path), "--speed", "1.1"]
    result = CliRunner().invoke(app, grids)
    assert result.exit_code != 0 and isinstance(result.exception, UserError)
    assert "choose an aligner that listens" in str(result.exception)
