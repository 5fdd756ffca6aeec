"""A recording as preparation takes it, or the reason why it does not.

Rejected: what cannot be read, holds no sample, NaN or infinity, nothing but digital silence, less
than a tenth of a second, more than `most_seconds`, or is recorded at a rate so low that a quarter
of the features' bands would be empty. Taken as it is: several channels (their mean), any other
rate (resampled), clipped samples.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from voiceflow.audio.features import FeatureSpec
from voiceflow.audio.io import read, resample
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance

FEWEST_SECONDS = 0.1
MOST_SECONDS = 60.0
_LEAST_SHARE_OF_BAND = 0.75


def load_recording(
    utterance: Utterance, spec: FeatureSpec, most_seconds: float = MOST_SECONDS
) -> np.ndarray:
    """(n,) float32 mono at the features' rate, at the utterance's speed.

    Raises UserError with the reason.
    """
    path = utterance.audio
    recording = read(path)
    if not FEWEST_SECONDS <= recording.seconds <= most_seconds:
        raise UserError(
            f"{path} is {recording.seconds:.2f} s long: expected {FEWEST_SECONDS} to "
            f"{most_seconds:g} s (--max-seconds)"
        )
    if recording.sample_rate / 2 < _LEAST_SHARE_OF_BAND * spec.f_max:
        raise UserError(
            f"{path} is recorded at {recording.sample_rate} Hz: it has nothing above "
            f"{recording.sample_rate / 2:g} Hz, the features reach to {spec.f_max:g} Hz"
        )
    wave = recording.mono()
    if not wave.any():
        raise UserError(f"{path} holds digital silence alone")
    try:
        wave = resample(wave, recording.sample_rate, spec.sample_rate)
        return at_speed(wave, utterance.speed)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def at_speed(wave: np.ndarray, speed: float) -> np.ndarray:
    """(n,) -> (n / speed,): the wave as a tape sounds that runs `speed` times as fast.

    Ko et al. 2015, "Audio augmentation for speech recognition". To three decimals. Above speed x
    half the rate there is nothing then where speed is less than 1.
    """
    ratio = Fraction(speed).limit_denominator(1000)
    return resample(wave, ratio.numerator, ratio.denominator)
