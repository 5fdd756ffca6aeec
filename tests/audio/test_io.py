"""Files in and out: samples bit for bit, and a clear word for every file that is no recording."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voiceflow.audio.io import (
    Recording,
    check_output,
    comment_of,
    from_float,
    load_mono,
    read,
    resample,
    to_float,
    write,
)
from voiceflow.config import UserError, UserNote

TYPES = {
    "PCM_U8": np.int16,
    "PCM_S8": np.int16,
    "PCM_16": np.int16,
    "PCM_24": np.int32,
    "PCM_32": np.int32,
    "FLOAT": np.float32,
    "DOUBLE": np.float64,
}
UNUSED_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_24": 8}


def recording(subtype: str, channels: int = 2, n: int = 3000) -> Recording:
    """Noise over the whole range of a subtype, both extremes among it."""
    rng = np.random.default_rng(0)
    dtype = np.dtype(TYPES[subtype])
    if dtype.kind == "f":
        return Recording(rng.normal(size=(n, channels)).astype(dtype), 44100, subtype)
    ends = np.iinfo(dtype)
    samples = rng.integers(ends.min, ends.max, (n, channels), dtype, endpoint=True)
    samples[:2] = [[ends.min], [ends.max]]
    unused = UNUSED_BITS.get(subtype, 0)
    return Recording(samples >> unused << unused, 44100, subtype)


@pytest.mark.parametrize(
    ("subtype", "name", "stored"),
    [
        *((s, "a.wav", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
        *((s, "a.flac", s) for s in ("PCM_S8", "PCM_16", "PCM_24")),
        ("PCM_S8", "a.wav", "PCM_16"),
        ("PCM_U8", "a.FLAC", "PCM_16"),
    ],
)
def test_samples_come_back_bit_for_bit(
    tmp_path: Path, subtype: str, name: str, stored: str
) -> None:
    made = recording(subtype)
    write(tmp_path / name, made)
    back = read(tmp_path / name)
    assert back.samples.dtype == made.samples.dtype
    np.testing.assert_array_equal(back.samples, made.samples)
    assert (back.sample_rate, back.subtype) == (44100, stored)
    assert back.path == tmp_path / name
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing temporary is left


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.opus"])
def test_lossy_files_are_kept_as_floats(tmp_path: Path, name: str) -> None:
    tone = 0.3 * np.sin(np.arange(16000) * 0.1)
    container = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    soundfile.write(tmp_path / name, tone, 16000, **container)
    decoded = read(tmp_path / name)
    assert decoded.sample_rate == 16000
    assert decoded.seconds == 1.0
    assert np.abs(decoded.mono() - tone).mean() < 0.02
    write(tmp_path / "out.wav", decoded)
    back = read(tmp_path / "out.wav")
    assert back.subtype == "FLOAT"
    np.testing.assert_array_equal(back.samples, decoded.samples)


@pytest.mark.parametrize("subtype", ["PCM_32", "FLOAT", "DOUBLE"])
def test_what_a_flac_cannot_hold_is_rounded_with_a_note(tmp_path: Path, subtype: str) -> None:
    made = recording(subtype)
    counted = r"[1-9]\d* of 6000 samples are rounded"
    with pytest.warns(UserNote, match=rf"out\.flac.*{subtype}.*PCM_24: {counted}.*name a \.wav"):
        write(tmp_path / "out.flac", made)
    back = read(tmp_path / "out.flac")
    assert back.subtype == "PCM_24"
    wanted = to_float(made.samples).clip(-1, 1)
    assert np.abs(to_float(back.samples) - wanted).max() <= 2.0**-23


@pytest.mark.filterwarnings("error")
def test_floats_that_a_flac_holds_are_kept_without_a_note(tmp_path: Path) -> None:
    samples = recording("PCM_24").samples
    made = Recording(to_float(samples).astype(np.float32), 44100, "FLOAT")
    write(tmp_path / "out.flac", made)
    np.testing.assert_array_equal(read(tmp_path / "out.flac").samples, samples)


@pytest.mark.parametrize("subtype", list(TYPES))
def test_floats_and_samples_turn_into_each_other(subtype: str) -> None:
    samples = recording(subtype).samples
    as_floats = to_float(samples)
    np.testing.assert_array_equal(from_float(as_floats, subtype), samples)
    if samples.dtype.kind == "i":
        assert np.abs(as_floats).max() == 1.0
        clipped = from_float(np.array([-1.5, 1.5]), subtype)
        assert clipped[0] == samples.min()
        assert clipped[1] == samples.max()


def test_mono_is_the_mean_of_the_channels() -> None:
    stereo = Recording(np.array([[100, 300], [-32768, -32768]], np.int16), 8000, "PCM_16")
    assert stereo.mono().dtype == np.float32
    np.testing.assert_array_equal(stereo.mono(), np.float32([200 / 32768, -1]))
    assert stereo.seconds == 2 / 8000


def test_a_wave_becomes_a_file(tmp_path: Path) -> None:
    wave = np.linspace(-1.2, 1.2, 500).astype(np.float32)
    write(tmp_path / "new" / "a.wav", Recording.from_mono(wave, 16000))
    back = read(tmp_path / "new" / "a.wav")
    assert back.subtype == "PCM_16"
    assert np.abs(back.mono() - wave.clip(-1, 1)).max() <= 1 / 32768


@pytest.mark.parametrize("shape", [(), (500, 1), (1, 500), (2, 3, 4)])
def test_a_wave_is_of_one_dimension(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=rf"shape \(n,\), found {re.escape(str(shape))}"):
        Recording.from_mono(np.zeros(shape), 16000)


def test_a_recording_is_shown_in_a_line(tmp_path: Path) -> None:
    stereo = Recording(np.zeros((4470, 2), np.int16), 1000, "PCM_16")
    assert repr(stereo) == "Recording(4.47 s at 1000 Hz, 2 channels)"
    path = tmp_path / "a.wav"
    write(path, Recording.from_mono(np.zeros(8000), 16000))
    assert repr(read(path)) == f"Recording(0.50 s at 16000 Hz, 1 channel, {path})"


def missing(folder: Path) -> Path:
    return folder / "none.wav"


def directory(folder: Path) -> Path:
    return folder


def no_bytes(folder: Path) -> Path:
    (folder / "empty.wav").touch()
    return folder / "empty.wav"


def no_samples(folder: Path) -> Path:
    soundfile.write(folder / "short.wav", np.zeros(0, np.int16), 16000)
    return folder / "short.wav"


def text(folder: Path) -> Path:
    (folder / "words.wav").write_text("no sound in here")
    return folder / "words.wav"


def no_header(folder: Path) -> Path:
    (folder / "a.raw").write_bytes(bytes(1000))
    return folder / "a.raw"


def with_nan(folder: Path) -> Path:
    wave = np.zeros(16000, np.float32)
    wave[8000:8003] = [np.nan, np.inf, -np.inf]
    soundfile.write(folder / "nan.wav", wave, 16000, "FLOAT")
    return folder / "nan.wav"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (missing, "does not exist: check"),
        (directory, "is a folder: name one"),
        (no_bytes, r"is empty \(0 bytes\): give"),
        (no_samples, r"is empty \(0 samples\): give"),
        (text, r"is not audio that can be read \(Format not recognised\): give"),
        (no_header, "is not audio that can be read .*: give"),
        (with_nan, r"3 samples that are NaN or infinite, the first at 0\.500 s: export"),
    ],
)
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, make, found: str) -> None:
    path = make(tmp_path)
    for reader in (read, lambda p: load_mono(p, 16000)):
        with pytest.raises(UserError, match=found) as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    made = recording("PCM_16")
    (tmp_path / "file").touch()
    (tmp_path / "folder.wav").mkdir()
    for path, why in (
        (tmp_path / "a.mp3", r"must end in \.wav or \.flac"),
        (tmp_path / "folder.wav", "is a folder"),
        (tmp_path / "file" / "a.wav", "is a file, not a folder"),
    ):
        for ask in (check_output, lambda p: write(p, made)):
            with pytest.raises(UserError, match=why) as caught:
                ask(path)
            assert str(path) in str(caught.value)
    with pytest.raises(UserError, match=r"/proc/a\.wav: cannot be written"):
        write("/proc/a.wav", made)
    assert check_output(tmp_path / "not" / "there" / "a.png", (".png",)).name == "a.png"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write(tmp_path / "a.flac", recording("PCM_16"))
    old = (tmp_path / "a.flac").read_bytes()
    with pytest.raises(UserError):
        write(tmp_path / "a.flac", recording("PCM_16", channels=20))  # flac holds 8
    assert (tmp_path / "a.flac").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(rate: int) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    made = resample(tone, rate, 16000)
    wanted = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert made.dtype == np.float32
    assert len(made) == 16000
    assert np.abs(made - wanted)[500:-500].max() < 1e-3


def test_resampling_removes_what_the_lower_rate_cannot_hold() -> None:
    tone = np.sin(2 * np.pi * 10000 * np.arange(44100) / 44100).astype(np.float32)
    assert np.abs(resample(tone, 44100, 16000))[500:-500].max() < 1e-3
    assert resample(tone, 16000, 16000) is tone
    with pytest.raises(UserError, match="44101 Hz"):
        resample(tone, 44101, 16000)


def test_real_speech_is_read(speech_dir: Path) -> None:
    path = next((speech_dir / "LibriSpeech" / "test-clean").rglob("*.flac"))
    found = read(path)
    assert (found.subtype, found.sample_rate) == ("PCM_16", 16000)
    wave = load_mono(path, 16000)
    np.testing.assert_array_equal(wave, found.samples[:, 0].astype(np.float32) / 32768)
    opus = read(next((speech_dir / "LibriSpeech" / "train-clean-5").rglob("*.opus")))
    assert (opus.subtype, opus.sample_rate) == ("OPUS", 16000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_comment_goes_with_the_file_and_changes_no_sample(tmp_path: Path, name: str) -> None:
    samples = np.random.default_rng(0).integers(-9999, 9999, (400, 2)).astype(np.int16)
    recording = Recording(samples, 16000, "PCM_16")
    write(tmp_path / name, recording, "Generated speech: samples 10-20")
    assert comment_of(tmp_path / name) == "Generated speech: samples 10-20"
    np.testing.assert_array_equal(read(tmp_path / name).samples, samples)
    write(tmp_path / name, recording)
    assert comment_of(tmp_path / name) == ""
