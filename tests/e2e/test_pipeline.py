"""The whole way on real speech: a corpus folder in, a trained voice, a filled gap out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import librispeech
from voiceflow.cli import app as cli
from voiceflow.data.shards import open_prepared
from voiceflow.voice import Voice

N_UTTERANCES = 12


def voiceflow(*arguments: object) -> None:
    """Run the command line in this process; anything but exit code 0 fails."""
    before = sys.argv
    sys.argv = ["voiceflow", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        sys.argv = before
    assert not left.value.code, f"exit code {left.value.code} of {arguments}"


@pytest.fixture(scope="module")
def work(speech_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data prepared from real speech and a voice trained on it for a moment."""
    work = tmp_path_factory.mktemp("work")
    voiceflow(
        "prepare", "librispeech", "--root", speech_dir / "LibriSpeech", "--subset",
        "train-clean-5", "--aligner", "pocketsphinx", "--out", work / "data", "--limit",
        N_UTTERANCES,
    )
    for task in ("velocity", "duration"):
        voiceflow(
            "train", f"task={task}", f"data={work / 'data'}", "model=tiny", "duration=tiny",
            "train=tiny", "train.updates=12", "train.validation_utterances=1",
            "sample.steps=2", f"out={work / 'run'}",
        )
    return work


@pytest.fixture(scope="module")
def recording(speech_dir: Path) -> tuple[Path, str]:
    """A recording of test-clean and what it says."""
    utterance = next(iter(librispeech.read(speech_dir / "LibriSpeech", "test-clean")))
    return Path(utterance.audio), utterance.text


def test_prepared_data(work: Path) -> None:
    prepared = open_prepared(work / "data")
    assert len(prepared.dataset) == N_UTTERANCES
    assert (work / "data" / "rejected.jsonl").read_text() == ""
    assert -7 < prepared.features.mean < -4.5
    assert 1.5 < prepared.features.std < 3
    for row in range(N_UTTERANCES):
        _, phones, durations, mel = prepared.framed(row)
        assert len(phones) == len(durations)
        assert durations.sum() == len(mel)
        assert prepared.features.n_frames(round(prepared.dataset[row]["seconds"] * 16000)) == len(
            mel
        )


def test_training_gave_a_voice(work: Path) -> None:
    voice = Voice.load(work / "run" / "model")
    assert voice.features == open_prepared(work / "data").features
    assert voice.folder.config.training["velocity"]["updates"] == 12
    assert (work / "run" / "velocity" / "run.yaml").is_file()
    assert list((work / "run" / "velocity" / "tensorboard").rglob("events*"))


@pytest.mark.parametrize("unheard", [False, True])
def test_infill(
    work: Path, recording: tuple[Path, str], tmp_path: Path, unheard: bool
) -> None:
    path, text = recording
    voice = Voice.load(work / "run" / "model")
    words = voice.align(path, text).spoken()[3:5]
    span = f"{words[0].start:.3f}:{words[1].end:.3f}"
    if unheard:
        span += f"={words[0].text} {words[1].text}"
    out, picture = tmp_path / "out.wav", tmp_path / "out.png"
    command = ("infill", path, "--text", text, "--span", span, "--voice", work / "run" / "model")
    voiceflow(*command, "--out", out, "--picture", picture, "--seed", 1)
    before, rate = soundfile.read(path, dtype="int16")
    after, out_rate = soundfile.read(out, dtype="int16")
    assert (out_rate, len(after)) == (rate, len(before))
    changed = np.flatnonzero(after != before) / rate
    slack = 0.01 + (0.02 if not unheard else 0.001)  # the cross-fade, and the way to phone edges
    assert changed.min() >= words[0].start - slack
    assert changed.max() <= words[1].end + slack
    assert changed.max() - changed.min() > 0.8 * (words[1].end - words[0].start)
    assert picture.read_bytes().startswith(b"\x89PNG")
    voiceflow(*command, "--out", tmp_path / "again.wav", "--seed", 1)
    assert (tmp_path / "again.wav").read_bytes() == out.read_bytes()


def test_two_spans_and_natural_length(work: Path, recording: tuple[Path, str]) -> None:
    path, text = recording
    voice = Voice.load(work / "run" / "model")
    spoken = voice.align(path, text).spoken()
    spans = [
        (spoken[2].start, spoken[2].end, spoken[2].text),
        (spoken[6].start, spoken[7].end, None),
    ]
    before, rate = soundfile.read(path, dtype="int16")
    kept = voice.infill(path, text, [(a, b) if w is None else (a, b, w) for a, b, w in spans])
    assert len(kept.recording.samples) == len(before)
    free = voice.infill(
        path, text, [(a, b) if w is None else (a, b, w) for a, b, w in spans], keep_length=False
    )
    after = free.recording.samples[:, 0]
    added = len(after) - len(before)
    assert added == 160 * (len(free.plan.context) - len(free.layout.mel)) if free.layout else 0
    head = int((spoken[2].start - 0.02) * rate)
    tail = len(before) - int((spoken[7].end + 0.05) * rate)
    np.testing.assert_array_equal(after[:head], before[:head])
    np.testing.assert_array_equal(after[-tail:], before[-tail:])


def test_speak_with_and_without_a_prompt(
    work: Path, recording: tuple[Path, str], tmp_path: Path
) -> None:
    path, text = recording
    voice = ("--voice", work / "run" / "model")
    voiceflow("speak", "hello there", "--out", tmp_path / "a.wav", *voice)
    voiceflow("speak", "A", "--out", tmp_path / "one-phone.wav", *voice)
    voiceflow("speak", "hello there", "--out", tmp_path / "b.flac", *voice,
              "--prompt", path, "--prompt-text", text, "--picture", tmp_path / "b.png")
    for name in ("a.wav", "one-phone.wav", "b.flac"):
        wave, rate = soundfile.read(tmp_path / name)
        assert rate == 16000
        assert len(wave) > 160
        assert np.isfinite(wave).all()


def test_demo_on_a_recording_of_ones_own(
    work: Path, recording: tuple[Path, str], tmp_path: Path
) -> None:
    path, text = recording
    voiceflow("demo", "--input", path, "--text", text, "--out", tmp_path / "demo",
              "--voice", work / "run" / "model")
    names = {p.name for p in (tmp_path / "demo").iterdir()}
    assert names == {"original.wav", "filled.wav", "picture.png"}


def test_packing(work: Path, tmp_path: Path) -> None:
    voiceflow("pack", work / "run" / "model", "--out", tmp_path / "small")
    whole, small = Voice.load(work / "run" / "model"), Voice.load(tmp_path / "small")
    for a, b in zip(whole.velocity.parameters(), small.velocity.parameters(), strict=True):
        assert float((a - b).detach().abs().max()) <= 1e-3 * float(a.detach().abs().max()) + 1e-7
    size = {p: p.stat().st_size for p in (work / "run" / "model").glob("*.safetensors")}
    for path, bytes_before in size.items():
        assert (tmp_path / "small" / path.name).stat().st_size < 0.6 * bytes_before
