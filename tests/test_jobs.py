"""How tasks are asked for: presets, grids, precision, devices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from voiceflow.config import SampleConfig, UserError, load_group
from voiceflow.jobs import SampleOptions, device_of, settings_of

OWN = SampleConfig(steps=3, solver="euler", guidance=0.2, path="variance_preserving")


def test_nothing_asked_is_the_voices_own() -> None:
    assert settings_of(OWN, {}) == OWN
    nothing: SampleOptions = {"preset": None, "steps": None, "grid": None, "dtype": None, "seed": 3}
    assert settings_of(OWN, nothing) == OWN


def test_a_preset_and_what_is_asked_for_beside_it() -> None:
    fast = load_group(SampleConfig, "sample", "fast")
    # The path is what the network was trained on, whatever the preset.
    assert settings_of(OWN, {"preset": "fast"}) == replace(fast, path=OWN.path)
    asked = {"steps": 5, "guidance": 0.0, "context_guidance": 0.4, "dtype": "float32"}
    found = settings_of(OWN, {"preset": "fast", **asked})
    assert (found.steps, found.guidance, found.precision) == (5, 0.0, "float32")
    assert found.context_guidance == 0.4
    assert found.solver == fast.solver


def test_settings_as_a_whole() -> None:
    whole = SampleConfig(steps=9, grid="cosine")
    assert settings_of(OWN, {"settings": whole}) == replace(whole, path=OWN.path)
    assert settings_of(OWN, {"settings": whole, "steps": 2}).steps == 2
    with pytest.raises(UserError, match="exclude each other"):
        settings_of(OWN, {"settings": whole, "preset": "fast"})


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("uniform", {"grid": "uniform"}),
        ("cosine", {"grid": "cosine"}),
        ("sway", {"grid": "sway"}),
        ("sway:-0.5", {"grid": "sway", "sway": -0.5}),
        ("shifted:3", {"grid": "shifted", "shift": 3.0}),
    ],
)
def test_grids(text: str, changed: dict[str, object]) -> None:
    assert settings_of(OWN, {"grid": text}) == replace(OWN, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["log", "", "uniform:1", "sway:much", "sway:nan", "shifted:3:4"])
def test_grids_that_are_not_known(text: str) -> None:
    with pytest.raises(UserError, match="choose one of uniform, cosine, sway, shifted"):
        settings_of(OWN, {"grid": text})


def test_presets_that_are_not_known() -> None:
    with pytest.raises(UserError, match="'slow' is not one of paper, best, fast"):
        settings_of(OWN, {"preset": "slow"})


def test_devices() -> None:
    assert device_of("cpu") == torch.device("cpu")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(UserError, match=f"device '{name}' cannot be used here"):
            device_of(name)
