"""Audio files in and out, samples kept bit for bit, and resampling.

PCM is read and written as integers: through floats libsndfile divides by 2^15 when it reads and
multiplies by 2^15 - 1 when it writes, so a float round trip changes samples.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from pathlib import Path

import numpy as np

from voiceflow.config import UserError, UserNote
from voiceflow.files import replacing

OUTPUT_SUFFIXES = (".wav", ".flac")

# What libsndfile delivers for each subtype (bits of the container) and how many of the bits,
# from the highest down, the file keeps. Every other subtype is read as float32.
_INTEGERS = {
    "PCM_U8": (np.int16, 8),
    "PCM_S8": (np.int16, 8),
    "PCM_16": (np.int16, 16),
    "PCM_24": (np.int32, 24),
    "PCM_32": (np.int32, 32),
}
_KEPT_AS_THEY_ARE = {
    ".wav": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    ".flac": ("PCM_S8", "PCM_16", "PCM_24"),
}
# torchaudio's polyphase kernel holds about this many weights; common rates stay far below.
_LARGEST_KERNEL = 50_000_000


@dataclass(frozen=True)
class Recording:
    """Audio as its file holds it.

    samples: (n, channels) in the file's own type: int16 for 8 and 16 bit PCM, int32 for 24 and
    32 bit (the highest bits are used), float64 for DOUBLE, float32 for everything else.
    subtype: soundfile's name of the encoding, such as "PCM_16".
    """

    samples: np.ndarray
    sample_rate: int
    subtype: str
    path: Path | None = None

    def __repr__(self) -> str:
        channels = prod(self.samples.shape[1:])
        where = f", {self.path}" if self.path else ""
        return (
            f"Recording({self.seconds:.2f} s at {self.sample_rate} Hz, {channels} "
            f"channel{'s' * (channels != 1)}{where})"
        )

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sample_rate

    def mono(self) -> np.ndarray:
        """(n,) float32, the mean of the channels; full scale is [-1, 1]."""
        return to_float(self.samples).mean(axis=1, dtype=np.float64).astype(np.float32)

    @staticmethod
    def from_mono(wave: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> Recording:
        """(n,) float samples as a one-channel recording; what exceeds full scale is clipped.

        Raises UserError for any other shape.
        """
        if wave.ndim != 1:
            raise UserError(
                f"a wave of one channel has the shape (n,), found {wave.shape}: take one channel, "
                "or the mean of all"
            )
        return Recording(from_float(wave, subtype)[:, None], sample_rate, subtype)


def _type_of(subtype: str) -> np.dtype:
    if subtype in _INTEGERS:
        return np.dtype(_INTEGERS[subtype][0])
    return np.dtype(np.float64 if subtype == "DOUBLE" else np.float32)


def to_float(samples: np.ndarray) -> np.ndarray:
    """Samples of any type as floats whose full scale is [-1, 1]; float64 for wide integers."""
    if samples.dtype.kind == "f":
        return samples
    wide = np.dtype(np.float32 if samples.dtype == np.int16 else np.float64)
    return samples.astype(wide) * 2.0 ** (1 - 8 * samples.dtype.itemsize)


def from_float(wave: np.ndarray, subtype: str) -> np.ndarray:
    """Floats in [-1, 1] as samples of a subtype: rounded to the bits it keeps, and clipped."""
    dtype = _type_of(subtype)
    if dtype.kind == "f":
        return wave.astype(dtype)
    bits = _INTEGERS[subtype][1]
    full_scale = 2 ** (bits - 1)
    levels = np.round(wave.astype(np.float64) * full_scale).clip(-full_scale, full_scale - 1)
    unused_bits = 8 * dtype.itemsize - bits
    return (levels.astype(np.int64) << unused_bits).astype(dtype)


def read(path: str | Path) -> Recording:
    """The recording in a file that libsndfile knows (wav, flac, ogg, opus, mp3, aiff and more).

    Raises UserError when it is missing, a folder, not audio, empty, or holds NaN or infinity.
    """
    import soundfile

    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name one audio file in it")
    if not path.exists():
        raise UserError(f"{path} does not exist: check the name of the audio file")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes): give a file that holds sound")
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, subtype = file.samplerate, file.subtype
            samples = file.read(dtype=_type_of(subtype).name, always_2d=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except (RuntimeError, TypeError) as error:  # TypeError: soundfile wants a rate for *.raw
        reason = getattr(error, "error_string", "no header").rstrip(".")
        raise UserError(
            f"{path} is not audio that can be read ({reason}): give a wav, flac, ogg, opus or mp3"
        ) from error
    if len(samples) == 0:
        raise UserError(f"{path} is empty (0 samples): give a file that holds sound")
    bad = np.argwhere(~np.isfinite(samples).all(axis=1))
    if len(bad):
        raise UserError(
            f"{path} holds {len(bad)} samples that are NaN or infinite, the first at "
            f"{bad[0, 0] / rate:.3f} s: export the recording anew"
        )
    return Recording(samples, rate, subtype, path)


def check_output(path: str | Path, suffixes: Sequence[str] = OUTPUT_SUFFIXES) -> Path:
    """The path, if a file of one of the suffixes can be put there; UserError otherwise.

    Worth asking before minutes of work whose result goes there.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{path}: the output's name must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the file to write")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError(f"{path} cannot be written: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: no permission in the folder {folder}")
    return path


def write(path: str | Path, recording: Recording, comment: str = "") -> None:
    """Write a .wav or .flac in the recording's own subtype, so that reading it gives the same
    samples, bit for bit; atomic. comment: goes into the file's tags, which `comment_of` reads.

    A subtype that the format lacks becomes one that holds every sample: FLOAT for what was
    decoded from a lossy file, more bits for 8 bit. Where there is none (a .flac holds neither
    floats nor 32 bit) it becomes PCM_24, with a UserNote. Raises UserError when the place cannot
    be written.
    """
    import soundfile

    path = check_output(path)
    suffix = path.suffix.lower()
    samples, subtype = recording.samples, recording.subtype
    if subtype not in _KEPT_AS_THEY_ARE[suffix]:
        subtype = _nearest(samples.dtype, suffix)
        samples = _converted(path, recording, subtype)
    try:
        with replacing(path) as temporary:
            temporary.touch()  # an OSError says more than libsndfile's "System error"
            with soundfile.SoundFile(
                str(temporary), "w", recording.sample_rate, samples.shape[1], subtype,
                format=suffix[1:].upper(),
            ) as file:  # fmt: skip
                if comment:
                    file.comment = comment
                file.write(samples)
    except RuntimeError as error:
        raise UserError(f"{path}: cannot be written ({error})") from error


def comment_of(path: str | Path) -> str:
    """What stands in the comment tag of a sound file, "" where there is none."""
    import soundfile

    with soundfile.SoundFile(str(path)) as file:
        return str(file.comment)


def _nearest(dtype: np.dtype, suffix: str) -> str:
    """The subtype of a format that keeps the most of samples whose own subtype it lacks."""
    if dtype == np.int16:
        return "PCM_16"
    return "PCM_24" if suffix == ".flac" else "FLOAT"


def _converted(path: Path, recording: Recording, subtype: str) -> np.ndarray:
    """The samples in a subtype, with a UserNote where they are no longer the same."""
    wave = to_float(recording.samples)
    converted = from_float(wave, subtype)
    changed = np.count_nonzero(to_float(converted) != wave)
    if changed:
        beyond = np.count_nonzero(np.abs(wave) > 1)
        clipped = f", and {beyond} beyond full scale are clipped" if beyond else ""
        warnings.warn(
            f"{path}: {path.suffix.lower()} cannot hold {recording.subtype} samples, the nearest "
            f"is {subtype}: {changed} of {wave.size} samples are rounded{clipped}; name a .wav "
            f"to keep them",
            UserNote,
            stacklevel=3,
        )
    return converted


def resample(x: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """(n,) float to ceil(n * to_rate / from_rate) samples; the same array if the rates agree.

    Windowed sinc interpolation, a Kaiser window of 64 zero crossings (resampy's "kaiser_best").
    """
    if from_rate == to_rate:
        return x
    common = gcd(from_rate, to_rate)
    if from_rate // common * (to_rate // common) > _LARGEST_KERNEL:
        raise UserError(f"a sample rate of {from_rate} Hz cannot be turned to {to_rate} Hz exactly")

    import torch
    from torchaudio.functional import resample as sinc

    made = sinc(
        torch.from_numpy(np.ascontiguousarray(x)),
        from_rate,
        to_rate,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )
    result: np.ndarray = made.numpy()
    return result


def load_mono(path: str | Path, sample_rate: int) -> np.ndarray:
    """(n,) float32, the mean of the file's channels at `sample_rate`; raises as `read` does."""
    recording = read(path)
    try:
        return resample(recording.mono(), recording.sample_rate, sample_rate)
    except UserError as error:
        raise UserError(f"{recording.path}: {error}") from error
