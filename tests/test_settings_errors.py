"""Settings that no training can go by are refused with one plain line, as they are composed."""

import dataclasses
import re
import sys
import typing

import pytest

from voiceflow.cli import app as cli
from voiceflow.config import KINDS, RunConfig, ToyConfig, UserError, compose, load_group, to_schema

WHERE = ["data=x", "out=y"]


def refusal(*overrides: str) -> str:
    """What is said of the overrides."""
    with pytest.raises(UserError) as caught:
        compose(overrides)
    said = str(caught.value)
    assert "\n" not in said
    for foreign in ("hydra", "Error", "Config search path", "append", "omegaconf", "defaults list"):
        assert foreign not in said, said
    return said


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("model.width=33", "model.width must be a multiple of model.heads (4) and of "
         "model.position_groups (16), found 33: choose 32 or 48"),
        ("model.width=8", "found 8: choose 16"),
        ("model.heads=7", "model.heads (7) and of model.position_groups (16), found 256: choose "
         "224 or 336"),
        ("model.position_groups=12", "model.position_groups (12), found 256: choose 252 or 264"),
        ("duration.heads=3", "duration.width must be a multiple of duration.heads (3) and of "
         "duration.position_groups (16), found 200: choose 192 or 240"),
        ("model.width=48 model.heads=16 model.position=rotary", "twice model.heads (16) and of"),
        ("model.heads=0", "model.heads must be at least 1, found 0"),
        ("model.position_groups=0", "model.position_groups must be at least 1, found 0"),
        ("duration.width=-192", "duration.width must be at least 1, found -192"),
        ("model.position_width=30", "model.position_width must be odd and at least 1, found 30"),
        ("aligner.kernel=4", "aligner.kernel must be odd and at least 1, found 4"),
        ("vocoder.kernel=-1", "vocoder.kernel must be odd and at least 1, found -1"),
        ("aligner.stride=0", "aligner.stride must be at least 1, found 0"),
        ("model.dropout=2", "model.dropout must be at least 0 and below 1, found 2.0"),
        ("duration.dropout=1", "duration.dropout must be at least 0 and below 1, found 1.0"),
        ("aligner.dropout=-0.1", "aligner.dropout must be at least 0 and below 1, found -0.1"),
        ("duration.log_std=0", "duration.log_std must be above 0, found 0.0"),
        ("task.p_mask_all=2", "task.p_mask_all must be from 0 to 1, found 2.0"),
        ("task.p_unconditional=-1", "task.p_unconditional must be from 0 to 1, found -1.0"),
        ("task.p_unconditional=nan", "task.p_unconditional must be from 0 to 1, found nan"),
        ("task.mask_ratio_max=1.5", "task.mask_ratio_max must be from 0 to 1, found 1.5"),
        ("task.mask_ratio_min=0.9 task.mask_ratio_max=0.1", "task.mask_ratio_min must be at most "
         "mask_ratio_max, found 0.9 > 0.1"),
        ("task.sigma_min=1", "task.sigma_min must be at least 0 and below 1, found 1.0"),
        ("train.learning_rate=-1", "train.learning_rate must be 0 or more, found -1.0"),
        ("train.learning_rate=nan", "train.learning_rate must be 0 or more, found nan"),
        ("train.learning_rate=inf", "train.learning_rate must be 0 or more, found inf"),
        ("train.workers=-1", "train.workers must be 0 or more, found -1"),
        ("train.warmup_updates=-1", "train.warmup_updates must be 0 or more, found -1"),
        ("train.validation_utterances=-1", "train.validation_utterances must be 0 or more"),
        ("train.sample_every=-1", "train.sample_every must be 0 or more, found -1"),
        ("train.clip=0", "train.clip must be above 0, found 0.0"),
        ("train.ema_decay=1.1", "train.ema_decay must be from 0 to 1, found 1.1"),
        ("train.betas=[0.9,1]", "train.betas must be two numbers, 0 <= each < 1, found [0.9, 1.0]"),
        ("train.updates=0", "train.updates must be at least 1, found 0"),
    ],
)  # fmt: skip
def test_a_value_that_no_run_can_go_by(overrides: str, said: str) -> None:
    width = ["duration.width=200"] if "duration.heads" in overrides else []
    assert said in refusal(*WHERE, *width, *overrides.split())


@pytest.mark.parametrize(
    "overrides",
    [
        "train.learning_rate=0 train.warmup_updates=0 train.workers=0",
        "train.validation_utterances=0 train.stall_seconds=0 train.clip=inf",
        "task.p_mask_all=0 task.p_unconditional=1 task.sigma_min=0",
        "task.mask_ratio_min=0.5 task.mask_ratio_max=0.5",
        "model.width=20 model.position_layers=0",
        "model.width=48 model.heads=8 model.position=rotary",
        "duration.dropout=0 aligner.kernel=1",
    ],
)
def test_a_value_at_the_border(overrides: str) -> None:
    compose([*WHERE, *overrides.split()])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.updates=ten", "train.updates must be a whole number, found 'ten'"),
        ("train.updates=1.5", "train.updates must be a whole number, found 1.5"),
        ("train.updates=null", "train.updates must be a whole number, found null"),
        ("train.updates=", "train.updates must be a whole number, found ''"),
        ("train.updates={a:1}", "train.updates must be a whole number, found"),
        ("train.updates.x=3", "train.updates must be a whole number, found"),
        ("train.learning_rate=fast", "train.learning_rate must be a number, found 'fast'"),
        ("train.stream=maybe", "train.stream must be true or false, found 'maybe'"),
        ("train.betas=3", "train.betas must be two numbers in brackets, found 3"),
        ("train.betas=[x,y]", "train.betas must be two numbers in brackets, found 'x'"),
        ("sample.guidance_interval=[a,b]", "must be numbers in brackets, found 'a'"),
        ("train.init_from=[1]", "train.init_from must be text or null, found [1]"),
        ("out=null", "out must be text, found null"),
    ],
)
def test_a_value_of_another_kind(override: str, said: str) -> None:
    assert said in refusal(*WHERE, override)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.updats=1", "train has no 'updats'; the nearest key is train.updates, all of them: "
         "updates, batch_frames, "),
        ("train.foo=1", "train has no 'foo'; all of its keys: updates, batch_frames, "),
        ("+train.foo=1", "train has no 'foo'; all of its keys: updates, "),
        ("++train.foo=1", "train has no 'foo'; all of its keys: updates, "),
        ("updates=7", "there is no 'updates'; the nearest key is train.updates, all of them: data"),
        ("train.kernel=7", "the nearest key is aligner.kernel, all of them: updates, "),
        ("modl=tiny", "there is no 'modl'; the nearest key is model, all of them: data, out, task"),
        ("modell.width=32", "there is no 'modell'; the nearest key is model, all of them: data"),
        ("model={bar:1}", "model has no 'bar'; all of its keys: width, layers, "),
        ("model/sub=3", "there is no 'model/sub'; "),
        ("features=voicebox16k", "there is no 'features'; "),
        ("+colour=red", "there is no 'colour'; all of its keys: data, out, "),
        ("~train.updates", "train.updates cannot be taken away, only given another value"),
    ],
)  # fmt: skip
def test_a_key_that_there_is_not(override: str, said: str) -> None:
    assert said in refusal(*WHERE, override)


@pytest.mark.parametrize("option", ["model=huge", "+model=huge", "model=3", "model=", "model=null"])
def test_an_option_that_a_group_has_not(option: str) -> None:
    name = option.split("=")[1]
    said = f"model configuration '{name}' does not exist: choose one of base, mini, tiny, voicebox"
    assert said in refusal(*WHERE, option)


@pytest.mark.parametrize(
    "override",
    [
        "model.width",
        "out=a(b",
        "data=a=b",
        "train.betas=0.9,0.95",
    ],
)
def test_an_override_that_cannot_be_read(override: str) -> None:
    said = f"'{override}' cannot be read as key=value: put a list in brackets, text with signs in "
    assert said in refusal(*WHERE, override)


def test_an_option_beside_the_chosen_one() -> None:
    assert refusal(*WHERE, "+train=cpu") == "configuration: train appears more than once"


def test_a_reference_to_nothing() -> None:
    assert "'foo' not found" in refusal("data=x", "out=${foo}")


def test_text_in_the_quotes_that_are_advised() -> None:
    assert compose(["data='a=b'", "out='a(b'"]).out == "a(b"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data=x"], ["out=FOLDER is missing: where the run goes"]),
        (["out=y"], ["data=FOLDER is missing: the prepared data"]),
        (["data=x", "out="], ["out=FOLDER is missing"]),
        (["data=x", "out=y", "~out"], ["out=FOLDER is missing"]),
        (["data=???", "out=y"], ["data=FOLDER is missing"]),
        ([], ["data=FOLDER is missing", "out=FOLDER is missing"]),
    ],
)
def test_what_has_no_default(overrides: list[str], said: list[str]) -> None:
    found = refusal(*overrides)
    assert re.findall(r"\w+=FOLDER is missing", found) == [s.split(":")[0] for s in said]
    assert all(words in found for words in said)


def test_every_kind_of_setting_has_words() -> None:
    for group in (RunConfig, *typing.get_type_hints(RunConfig).values(), ToyConfig):
        if dataclasses.is_dataclass(group):
            kinds = typing.get_type_hints(group).values()
            assert all(kind in KINDS for kind in kinds if not dataclasses.is_dataclass(kind))


def test_files_are_refused_in_the_same_words() -> None:
    with pytest.raises(UserError, match=r"^x\.yaml: train has no 'speed'; the nearest key is "):
        to_schema(RunConfig, {"data": "d", "out": "o", "train": {"speed": 1}}, "x.yaml")
    with pytest.raises(UserError, match="toy quick modes=many: modes must be a whole number, foun"):
        load_group(ToyConfig, "toy", "quick", ["modes=many"])


def test_the_command_says_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["voiceflow", "train", *WHERE, "train.workers=-1"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert "train.workers must be 0 or more, found -1" in capsys.readouterr().err
