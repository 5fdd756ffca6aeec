"""Iterations towards a spectrum that a sound has."""

from dataclasses import replace

import pytest
import torch

from tests.vocoders.test_summation import SPEC, sound
from voiceflow.audio.features import LogMel
from voiceflow.models.phases import spectrum
from voiceflow.vocoders.consistency import Consistency

INNER = slice(640, -640)


def test_a_sound_s_spectrum_is_a_fixed_point() -> None:
    wave = sound()
    true = spectrum(wave[None], SPEC)[0]
    bands = LogMel(SPEC).mel(wave)
    for n in (0, 1, 8):
        found = Consistency(SPEC)(true.abs(), torch.sgn(true), bands, n)
        assert found.shape == (((len(wave) // SPEC.hop)) * SPEC.hop,)
        torch.testing.assert_close(found[INNER], wave[: len(found)][INNER], rtol=0, atol=1e-3)


def test_iterations_come_nearer_to_the_bands() -> None:
    wave = sound()
    true = spectrum(wave[None], SPEC)[0]
    bands = LogMel(SPEC).mel(wave)
    errors = []
    for n in (0, 4, 16, 64):
        made = Consistency(SPEC)(true.abs(), torch.ones_like(true), bands, n)
        away = LogMel(SPEC).mel(made)[4:-4].clamp(min=1e-3).log()
        errors.append(float((away - bands[4:-4].clamp(min=1e-3).log()).abs().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_what_is_beyond_its_reach_is_not_heard() -> None:
    wave = sound(1.0)
    true = spectrum(wave[None], SPEC)[0]
    bands = LogMel(SPEC).mel(wave)
    consistency, n = Consistency(SPEC), 3
    whole = consistency(true.abs(), torch.ones_like(true), bands, n)
    margin = (n + 1) * consistency.reach
    first, last = 40, 60
    piece = slice(first - margin, last + margin + 1)
    part = consistency(true.abs()[piece], torch.ones_like(true)[piece], bands[piece], n)
    part = part[margin * SPEC.hop :][: (last - first) * SPEC.hop]
    torch.testing.assert_close(part, whole[first * SPEC.hop : last * SPEC.hop], rtol=0, atol=1e-5)


def test_a_hop_that_does_not_divide_the_window() -> None:
    with pytest.raises(ValueError, match="a hop of 150 does not divide a window of 640"):
        Consistency(replace(SPEC, hop=150))
