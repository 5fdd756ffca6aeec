"""Prepared data whose features a voice made anew."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceflow.config import SampleConfig, UserError, VelocityConfig, load_group
from voiceflow.data.shards import open_prepared
from voiceflow.generation.regenerate import every_other_stretch, regenerate
from voiceflow.model_folder import ModelFolder, build_velocity, read_config, save_network


@pytest.fixture(scope="module")
def voice(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """An untrained voice of the data's front end, with other statistics."""
    data = open_prepared(prepared)
    spec = replace(data.features, mean=-4.5, std=1.5)
    config = load_group(VelocityConfig, "model", "tiny")
    torch.manual_seed(0)
    weights = build_velocity(config, data.phones, spec).state_dict()
    folder = tmp_path_factory.mktemp("voice") / "v"
    settings = SampleConfig(guidance=0.0)
    save_network(folder, "velocity", weights, config, data.phones, spec, settings, {})
    return ModelFolder(folder, read_config(folder / "config.yaml"), data.phones, spec)


def test_every_other_stretch_of_whole_phones() -> None:
    durations = [3, 4, 0, 5, 2, 6]
    mask = every_other_stretch(durations, 6, first=False)
    assert mask.tolist() == [False] * 7 + [True] * 7 + [False] * 6
    assert every_other_stretch(durations, 6, first=True).tolist() == (~mask).tolist()
    assert every_other_stretch([4, 4], 100, first=False).tolist() == [False] * 8


def test_half_is_new_and_the_rest_is_kept(
    prepared: Path, voice: ModelFolder, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    count = regenerate(prepared, voice, out, steps=2)
    before, after = open_prepared(prepared), open_prepared(out)
    assert count == len(before.index.ids) == len(after.index.ids)
    assert after.features == before.features
    changed = frames = 0
    for row in range(count):
        a, b = before.framed(row), after.framed(row)
        assert a.id == b.id
        assert (a.durations == b.durations).all()
        new = np.abs(a.mel.astype(np.float32) - b.mel.astype(np.float32)).max(axis=1) > 0.05
        changed, frames = changed + int(new.sum()), frames + len(new)
    assert 0.25 < changed / frames < 0.75


def test_later_begins_are_nearer_and_the_seed_is_the_utterance_s(
    prepared: Path, voice: ModelFolder, tmp_path: Path
) -> None:
    def away(t: float, name: str) -> float:
        regenerate(prepared, voice, tmp_path / name, t=t, steps=2, every=5)
        before, after = open_prepared(prepared), open_prepared(tmp_path / name)
        assert len(after.index.ids) == 6  # 3 of each 12
        places = [before.index.ids.index(id) for id in after.index.ids]
        pairs = [(before.framed(p).mel, after.framed(r).mel) for r, p in enumerate(places)]
        return float(np.mean([np.abs(a.astype(float) - b.astype(float)).mean() for a, b in pairs]))

    assert 0 < away(0.99, "late") < away(0.1, "early") == away(0.1, "early-again")


def test_a_run_goes_on(prepared: Path, voice: ModelFolder, tmp_path: Path) -> None:
    out = tmp_path / "data"
    regenerate(prepared, voice, out, steps=2)
    first, second = sorted((out / "shards").glob("*.parquet"))
    second.unlink()
    stamp = first.stat().st_mtime_ns
    assert regenerate(prepared, voice, out, steps=2) == 24
    assert first.stat().st_mtime_ns == stamp
    assert len(open_prepared(out).index.ids) == 24
    with pytest.raises(UserError, match="regenerated otherwise"):
        regenerate(prepared, voice, out, steps=3)


def test_data_of_another_front_end(prepared: Path, tiny_voice: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="different feature specifications"):
        regenerate(prepared, ModelFolder.open(tiny_voice), tmp_path / "x")
