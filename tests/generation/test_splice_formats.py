"""Real speech in every format: through a file, a splice and a file again, bit for bit outside."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voiceflow.audio.io import read, resample, write
from voiceflow.generation.level import context_length, matched
from voiceflow.generation.splice import Fill, fade_length, splice

FORMATS = [
    *(("wav", s) for s in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *(("flac", s) for s in ("PCM_16", "PCM_24")),
]
RATES = [16000, 22050, 44100, 48000, 192000]
SPAN_SETS = 200
SECONDS = 1.0


@cache
def speech(folder: Path, rate: int, channels: int) -> np.ndarray:
    """(n, channels) float64: a second of two speakers, at two levels."""
    files = sorted(folder.glob("LibriSpeech/test-clean/*/*/*.flac"))
    pair = files[0], files[-1]
    waves = [soundfile.read(file, frames=round(SECONDS * 16000), start=8000)[0] for file in pair]
    first, second = (resample(wave, 16000, rate) for wave in waves)
    # Resampled or not, the lowest bits of the widest integers are in use.
    faint = 1e-6 * np.random.default_rng(rate).normal(size=(len(first), channels))
    return np.stack([first, 0.6 * first + 0.2 * second], axis=1)[:, :channels] + faint


def raw(path: Path) -> np.ndarray:
    """(n, channels): a file's samples as integers, whatever their type."""
    subtype = soundfile.info(path).subtype
    dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(subtype, "int32")
    samples, _ = soundfile.read(path, dtype=dtype, always_2d=True)
    return samples.view(f"int{8 * samples.itemsize}")


def random_fills(n: int, rate: int, rng: np.random.Generator) -> list[Fill]:
    """One to three fills of other lengths than their spans, a third of them with wide margins."""
    borders = np.sort(rng.choice(n + 1, 2 * rng.integers(1, 4), replace=False))
    fills = []
    for start, end in borders.reshape(-1, 2).tolist():
        margin = context_length(rate) if rng.random() < 1 / 3 else None
        length = int(rng.integers(0, rate // 4)) + 2 * (margin or fade_length(rate))
        sound = rng.normal(size=length).astype(np.float32) * 10 ** rng.uniform(-3, 0)
        fills.append(Fill(start, end, sound, margin))
    return fills


@pytest.mark.long  # 200 sets of spans
@pytest.mark.parametrize(
    ("number", "suffix", "subtype"), [(i, *kind) for i, kind in enumerate(FORMATS)]
)
def test_every_sample_outside_the_spans_and_fades_is_the_inputs(
    tmp_path: Path, speech_dir: Path, number: int, suffix: str, subtype: str
) -> None:
    before_path, after_path = tmp_path / f"before.{suffix}", tmp_path / f"after.{suffix}"
    for trial in range(number, SPAN_SETS, len(FORMATS)):
        kind = trial // len(FORMATS)
        rate, channels = RATES[kind % len(RATES)], 1 + kind // len(RATES) % 2
        soundfile.write(before_path, speech(speech_dir, rate, channels), rate, subtype)
        recording = read(before_path)
        fills = random_fills(len(recording.samples), rate, np.random.default_rng(trial))
        write(after_path, splice(recording, matched(recording, fills)))

        described = [(i.samplerate, i.channels, i.format, i.subtype) for i in
                     (soundfile.info(before_path), soundfile.info(after_path))]  # fmt: skip
        assert described[0] == described[1] == (rate, channels, suffix.upper(), subtype)
        before, after = raw(before_path), raw(after_path)
        fade = fade_length(rate)
        shift, done = 0, 0
        for fill in fills:
            first = max(fill.start_sample - fade, done)
            np.testing.assert_array_equal(after[done + shift : first + shift], before[done:first])
            new = len(fill.samples) - 2 * (fill.margin or fade)
            shift += new - (fill.end_sample - fill.start_sample)
            done = min(fill.end_sample + fade, len(before))
        np.testing.assert_array_equal(after[done + shift :], before[done:])
        assert len(after) == len(before) + shift
