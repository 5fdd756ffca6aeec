"""Every file of conf/ and of the recipes composes, and its values arrive."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import (
    BenchmarkConfig,
    RunConfig,
    ToyConfig,
    TrainConfig,
    UserError,
    as_dict,
    compose,
    conf_folder,
    load_group,
    to_schema,
)

REPOSITORY = Path(__file__).resolve().parents[1]
WHERE = ["data=x", "out=y"]
FILES = sorted(conf_folder().glob("*/*.yaml"))
OWN = {"features", "toy", "benchmark"}  # groups that no run is composed of
OPTIONS = [(p.parent.name, p.stem) for p in FILES if p.parent.name not in OWN]
TOYS = [p.stem for p in FILES if p.parent.name == "toy"]
PROTOCOLS = [p.stem for p in FILES if p.parent.name == "benchmark"]
FEATURES = [p.stem for p in FILES if p.parent.name == "features"]
RECIPES = sorted((REPOSITORY / "recipes").glob("*/*.txt"))


def values(group: str, name: str) -> dict[str, Any]:
    """What a file says."""
    said = yaml.safe_load((conf_folder() / group / f"{name}.yaml").read_text("utf-8"))
    assert said
    return dict(said)


def settings(path: Path) -> list[str]:
    """The overrides of a recipe, as its run.sh reads them."""
    lines = path.read_text("utf-8").splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def test_the_files_are_found() -> None:
    groups = {"task", "model", "duration", "aligner", "vocoder", "train", "sample"}
    assert {group for group, _ in OPTIONS} == groups
    assert FEATURES
    assert TOYS
    assert RECIPES


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_the_values_of_an_option_arrive(group: str, name: str) -> None:
    composed = as_dict(compose([*WHERE, f"{group}={name}"]))
    said = values(group, name)
    schema = RunConfig.__dataclass_fields__[group].default_factory()  # type: ignore[misc]
    assert composed[group] == {**as_dict(schema), **said}
    others = as_dict(compose(WHERE))
    assert {**composed, group: None} == {**others, group: None}


@pytest.mark.parametrize("name", FEATURES)
def test_the_values_of_a_front_end_arrive(name: str) -> None:
    said = values("features", name)
    assert asdict(FeatureSpec.named(name)) == said  # whole: no field is left to a default


@pytest.mark.parametrize("name", TOYS)
def test_the_values_of_a_toy_arrive(name: str) -> None:
    assert as_dict(load_group(ToyConfig, "toy", name)) == {
        **as_dict(ToyConfig()),
        **values("toy", name),
    }


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_values_of_a_protocol_arrive(name: str) -> None:
    found = as_dict(load_group(BenchmarkConfig, "benchmark", name))
    assert values("benchmark", name).items() <= found.items()
    assert found["name"] == name


def test_a_toy_takes_overrides() -> None:
    config = load_group(ToyConfig, "toy", "full", ["updates=7", "ways=[reflow]", "std=0.5"])
    assert (config.updates, config.ways, config.std) == (7, ["reflow"], 0.5)
    for override, named in (("speed=1", "speed"), ("updates=many", "many"), ("ways=3", "ways")):
        with pytest.raises(UserError, match=named):
            load_group(ToyConfig, "toy", "full", [override])


def test_the_options_of_the_start() -> None:
    """Each group has one, and config.yaml's own schema does not cover their values."""
    defaults = yaml.safe_load((conf_folder() / "config.yaml").read_text("utf-8"))["defaults"]
    chosen = {g: name for line in defaults if isinstance(line, dict) for g, name in line.items()}
    assert set(chosen) == {group for group, _ in OPTIONS}
    composed = as_dict(compose(WHERE))
    for group, name in chosen.items():
        assert values(group, name).items() <= composed[group].items()


def test_overrides_win_over_files() -> None:
    config = compose([*WHERE, "train.updates=7", "train=tiny", "train.betas=[0.8,0.95]"])
    assert (config.data, config.out) == ("x", "y")
    assert config.train.updates == 7
    assert config.train.crop_frames == values("train", "tiny")["crop_frames"]
    assert tuple(config.train.betas) == (0.8, 0.95)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_recipe_composes(path: Path) -> None:
    overrides = settings(path)
    assert overrides
    composed = as_dict(compose([*WHERE, *overrides]))
    for override in overrides:
        key, said = override.split("=", 1)
        found: Any = composed
        for part in key.split("."):
            found = found[part]
        assert found == yaml.safe_load(said), key


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.speed=1", "train has no 'speed'"),
        ("speed=1", "speed"),
        ("colour=red", "colour"),
        ("train=warp", "'warp'"),
        ("model=huge", "'huge'"),
        ("train.updates=many", "train.updates"),
        ("train.updates=1.5", "train.updates"),
        ("train.updates=null", "train.updates"),
        ("task.p_mask_all=often", "task.p_mask_all"),
        ("train.betas=[a,b]", "train.betas"),
        ("train.betas=[0.9]", "train.betas"),
        ("train.log_every=0", "train.log_every"),
        ("train.keep_checkpoints=0", "train.keep_checkpoints"),
        ("+train.speed=1", "speed"),
        ("++colour=red", "colour"),
        ("model.width", "model.width"),
    ],
)
def test_a_wrong_override_is_named(override: str, named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        compose([*WHERE, override])


def test_options_that_exist_are_offered() -> None:
    known = ", ".join(sorted(name for group, name in OPTIONS if group == "model"))
    with pytest.raises(UserError, match=known):
        compose([*WHERE, "model=huge"])
    with pytest.raises(UserError, match=known):
        load_group(TrainConfig, "model", "huge")


@pytest.mark.parametrize("missing", ["data", "out"])
def test_what_has_no_default_is_asked_for(missing: str) -> None:
    with pytest.raises(UserError, match=f"^{missing}=FOLDER is missing"):
        compose([where for where in WHERE if not where.startswith(missing)])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"speed": 1}, "'speed'"),
        ({"updates": "many"}, "'many'"),
        ({"updates": None}, "found null"),
        ([1], "ListConfig"),
    ],
)
def test_a_wrong_file_is_named(wrong: Any, said: str) -> None:
    with pytest.raises(UserError, match=rf"conf/train/x\.yaml: .*{said}"):
        to_schema(TrainConfig, wrong, "conf/train/x.yaml")


def test_one_composition_leaves_nothing_to_the_next() -> None:
    before = compose(WHERE)
    compose([*WHERE, "train=tiny", "model.width=64"])
    assert compose(WHERE) == before
