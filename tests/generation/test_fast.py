"""What makes sampling fast changes its cost, and of its result no more than is said."""

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voiceflow.config import (
    SampleConfig,
    UserError,
    UserNote,
    VelocityConfig,
    as_dict,
    load_group,
    to_schema,
)
from voiceflow.files import read_json, write_json
from voiceflow.flow.times import make_grid
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import Near, sample
from voiceflow.models.velocity import VelocityNetwork
from voiceflow.nn.transformer import compiled_block
from voiceflow.text.phones import NONE, PhoneTable

N_MELS = 4
TABLE = PhoneTable([NONE, "A", "B", "C"])
SETTINGS = SampleConfig(steps=8, solver="euler", guidance=0.7)
MULTISTEP = ("adams_bashforth", "dpm_multistep")
EVERYTHING: dict[str, Any] = {
    "guidance_interval": [0.2, 0.8],
    "grid": "sway",
    "sway": -0.5,
    "shift": 0.7,
    "precision": "bfloat16",
    "compiled": True,
}


def plan_of(first: int = 10, last: int = 40, n_frames: int = 60) -> Plan:
    """A B C A B C ... of five frames each, with random context and one gap."""
    mask = torch.zeros(n_frames, dtype=torch.bool)
    mask[first:last] = True
    context = torch.randn(n_frames, N_MELS, generator=torch.Generator().manual_seed(1))
    phones = tuple("ABC"[i % 3] for i in range(n_frames // 5))
    context = context.masked_fill(mask[:, None], 0.0)
    return Plan(phones, (5,) * len(phones), context, mask, ((first, last),))


class Plain(nn.Module):
    """A network that cannot be prepared: another's `forward`; it remembers times and items."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.items: list[int] = []
        self.times: list[float] = []
        self.dtypes: set[torch.dtype] = set()

    def forward(self, xt: Tensor, context: Tensor, phones: Tensor, t: Tensor, n: Tensor) -> Tensor:
        self.items.append(len(xt))
        self.times.append(float(t[0]))
        self.dtypes |= {xt.dtype, context.dtype, t.dtype}
        velocity: Tensor = self.network(xt, context, phones, t, n)
        return velocity


class ToTarget(nn.Module):
    """The straight way to where each phone's frames shall end, whatever x is."""

    def forward(self, x: Tensor, context: Tensor, phones: Tensor, t: Tensor, n: Tensor) -> Tensor:
        return (target_of(phones) - x) / (1 - t[:, None, None])


def target_of(phones: Tensor) -> Tensor:
    return phones[..., None] * torch.tensor([1.0, -2.0, 0.5, 3.0])


def frame_phones(plan: Plan) -> Tensor:
    return torch.tensor(TABLE.ids(plan.phones)).repeat_interleave(torch.tensor(plan.durations))


@pytest.fixture(scope="module")
def network() -> VelocityNetwork:
    """A tiny network whose output is not zero."""
    torch.manual_seed(0)
    made = VelocityNetwork(load_group(VelocityConfig, "model", "tiny"), len(TABLE), N_MELS)
    nn.init.normal_(made.output.weight, std=0.3)
    return made.eval()


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """As if nothing had been compiled, before and after."""

    def forget() -> None:
        compiled_block.cache_clear()
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()

    forget()
    yield
    forget()


# Prepared


@pytest.mark.parametrize("solver", ["euler", "midpoint", *MULTISTEP])
@pytest.mark.parametrize("guidance", [0.0, 0.7])
@pytest.mark.parametrize("interval", [[0.0, 1.0], [0.3, 0.7]])
def test_a_prepared_network_gives_the_same_samples(
    network: VelocityNetwork, solver: str, guidance: float, interval: list[float]
) -> None:
    settings = replace(SETTINGS, solver=solver, guidance=guidance, guidance_interval=interval)
    found = sample(network, plan_of(), TABLE, settings, 3, count=2)
    wanted = sample(Plain(network), plan_of(), TABLE, settings, 3, count=2)
    torch.testing.assert_close(found.mel, wanted.mel, rtol=1e-5, atol=1e-5)
    assert (found.nfe, found.network_passes) == (wanted.nfe, wanted.network_passes)


def test_it_is_prepared_once_a_window(
    network: VelocityNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    prepare = network.prepare

    def counted(context: Tensor, *given: Any, **more: Any) -> Any:
        made.append(len(context))
        return prepare(context, *given, **more)

    monkeypatch.setattr(network, "prepare", counted)
    sample(network, plan_of(), TABLE, SETTINGS, 0, count=3)
    assert made == [6]
    sample(network, plan_of(), TABLE, replace(SETTINGS, guidance_interval=[0.5, 1.0]), 0, count=3)
    assert made == [6, 6, 3]


# The guidance interval


@pytest.mark.parametrize("solver", ["euler", *MULTISTEP])
@pytest.mark.parametrize(
    ("interval", "guided"),
    [([0.0, 1.0], 8), ([0.25, 0.5], 3), ([0.5, 1.0], 4), ([0.0, 0.0], 1), ([0.9, 1.0], 0)],
)
def test_outside_the_interval_a_step_is_one_pass(
    solver: str, interval: list[float], guided: int
) -> None:
    """At 0, 1/8, ... 7/8."""
    plain = Plain(ToTarget())
    settings = replace(SETTINGS, solver=solver, guidance_interval=interval)
    drawn = sample(plain, plan_of(), TABLE, settings, 0, count=2)
    assert (drawn.nfe, drawn.network_passes) == (8, 8 + guided)
    inside = [interval[0] <= t <= interval[1] for t in plain.times]
    assert plain.items == [4 if yes else 2 for yes in inside]


def test_the_interval_of_everything_is_as_without_one(network: VelocityNetwork) -> None:
    found = sample(network, plan_of(), TABLE, replace(SETTINGS, guidance_interval=[0, 1]), 0)
    assert torch.equal(found.mel, sample(network, plan_of(), TABLE, SETTINGS, 0).mel)


def test_an_interval_that_no_step_meets_is_no_guidance(network: VelocityNetwork) -> None:
    found = sample(network, plan_of(), TABLE, replace(SETTINGS, guidance_interval=[0.9, 1.0]), 0)
    without = sample(network, plan_of(), TABLE, replace(SETTINGS, guidance=0.0), 0)
    torch.testing.assert_close(found.mel, without.mel, rtol=1e-5, atol=1e-5)


# Multistep solvers


@pytest.mark.parametrize("solver", MULTISTEP)
@pytest.mark.parametrize("grid", ["uniform", "sway", "cosine", "shifted"])
def test_a_multistep_solver_ends_on_a_straight_ways_target(solver: str, grid: str) -> None:
    plan = plan_of()
    settings = replace(SETTINGS, solver=solver, guidance=0.0, grid=grid)
    drawn = sample(ToTarget(), plan, TABLE, settings, 0, count=2)
    wanted = torch.where(plan.mask[:, None], target_of(frame_phones(plan)), plan.context)
    torch.testing.assert_close(drawn.mel, wanted.expand(2, -1, -1), rtol=1e-4, atol=2e-4)
    assert torch.equal(drawn.mel[:, ~plan.mask], plan.context[~plan.mask].expand(2, -1, -1))
    assert drawn.nfe == settings.steps


@pytest.mark.parametrize("interval", [[0.0, 1.0], [0.0, 0.5]])
@pytest.mark.parametrize("solver", MULTISTEP)
def test_a_multistep_solver_nears_what_many_small_steps_give(
    network: VelocityNetwork, solver: str, interval: list[float]
) -> None:
    """Four times the steps, and less than half of what was missing; also across the interval's
    end, where the velocity leaps."""
    plan, settings = plan_of(), replace(SETTINGS, guidance_interval=interval)
    wanted = sample(network, plan, TABLE, replace(settings, solver="rk4", steps=64), 0).mel
    missing = [
        float((sample(
            network, plan, TABLE, replace(settings, solver=solver, steps=steps), 0
        ).mel - wanted).abs().mean())
        for steps in (8, 32)
    ]  # fmt: skip
    assert missing[1] < 0.5 * missing[0] < 0.1


# The grid


@pytest.mark.parametrize(
    ("asked", "grid"),
    [
        ({}, make_grid(8)),
        ({"grid": "cosine"}, make_grid(8, "cosine")),
        ({"grid": "sway"}, make_grid(8, "cosine")),
        ({"grid": "sway", "sway": -0.4}, make_grid(8, "sway", sway=-0.4)),
        ({"grid": "shifted", "shift": 0.3}, make_grid(8, "shifted", shift=0.3)),
    ],
)
def test_the_times_are_the_grids(asked: dict[str, Any], grid: Tensor) -> None:
    plain = Plain(ToTarget())
    sample(plain, plan_of(), TABLE, replace(SETTINGS, **asked), 0)
    assert plain.times == pytest.approx(grid[:-1].tolist())
    plain.times.clear()
    sound = torch.zeros(60, N_MELS)
    sample(plain, plan_of(), TABLE, replace(SETTINGS, **asked), 0, near=Near(sound, 0.5))
    assert plain.times == pytest.approx((0.5 + 0.5 * grid[:-1]).tolist())


# Precision


@pytest.mark.parametrize("solver", ["midpoint", *MULTISTEP])
def test_bf16_samples_are_full_precisions_within_its_roundings(
    network: VelocityNetwork, solver: str
) -> None:
    """A rounding is 2^-9 of a value of about 1; a tenth of a deviation would be another sample."""
    settings = replace(SETTINGS, solver=solver)
    exact = sample(network, plan_of(), TABLE, settings, 0).mel
    found = sample(network, plan_of(), TABLE, replace(settings, precision="bfloat16"), 0).mel
    assert found.dtype == torch.float32
    apart = (found - exact)[:, plan_of().mask]
    assert 0 < float(apart.abs().mean()) < 0.02
    assert float(apart.abs().max()) < 0.1 * float(exact.std())
    assert torch.equal(found[:, ~plan_of().mask], exact[:, ~plan_of().mask])


def test_state_and_time_stay_float32() -> None:
    plain = Plain(ToTarget())
    settings = replace(SETTINGS, precision="bfloat16")
    assert sample(plain, plan_of(), TABLE, settings, 0).mel.dtype == torch.float32
    assert plain.dtypes == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("interval", [[0.0, 1.0], [0.3, 0.7]])
def test_a_batch_is_its_seeds_one_by_one(
    network: VelocityNetwork, precision: str, interval: list[float]
) -> None:
    settings = replace(SETTINGS, precision=precision, guidance_interval=interval)
    batch = sample(network, plan_of(), TABLE, settings, 5, count=3).mel
    singles = [sample(network, plan_of(), TABLE, settings, 5 + k).mel[0] for k in range(3)]
    # In bf16 another order of summation may fall on the other side of a rounding.
    tolerance = 1e-5 if precision == "float32" else 0.05
    torch.testing.assert_close(batch, torch.stack(singles), rtol=tolerance, atol=tolerance)


# Compiled


def test_one_graph_serves_all_blocks_and_lengths(
    network: VelocityNetwork, monkeypatch: pytest.MonkeyPatch, fresh_compiler: None
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    for n_frames in (60, 85):
        plan = plan_of(n_frames=n_frames)
        found = sample(network, plan, TABLE, replace(SETTINGS, compiled=True), 0)
        wanted = sample(network, plan, TABLE, SETTINGS, 0)
        torch.testing.assert_close(found.mel, wanted.mel, rtol=1e-5, atol=1e-5)
    # The trial's, and that of the blocks.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_where_nothing_compiles_a_note_says_so(
    network: VelocityNetwork, monkeypatch: pytest.MonkeyPatch, fresh_compiler: None
) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", none)
    settings = replace(SETTINGS, compiled=True)
    with pytest.warns(UserNote, match=r"\(no C\+\+ compiler\): the network runs uncompiled"):
        found = sample(network, plan_of(), TABLE, settings, 0)
    assert torch.equal(found.mel, sample(network, plan_of(), TABLE, SETTINGS, 0).mel)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        sample(network, plan_of(), TABLE, settings, 0)


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ on a CPU")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_compiled_the_samples_are_the_same(
    network: VelocityNetwork, precision: str, tolerance: float, fresh_compiler: None
) -> None:
    settings = replace(SETTINGS, precision=precision, guidance_interval=[0.3, 0.7])
    found = sample(network, plan_of(), TABLE, replace(settings, compiled=True), 0).mel
    wanted = sample(network, plan_of(), TABLE, settings, 0).mel
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


# The settings


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"precision": "float16"}, "precision 'float16' is not one of float32, bfloat16"),
        ({"grid": "swirl"}, "grid 'swirl' is not one of uniform, cosine, sway, shifted"),
        ({"grid": "sway", "sway": 3.0}, r"sway must lie in \[-1, 1.7\], found 3"),
        ({"grid": "shifted", "shift": 0.0}, "shift must be above 0, found 0"),
        ({"guidance_interval": [0.6, 0.4]}, "guidance_interval must be two times, .* 0.6, 0.4"),
        ({"guidance_interval": [-0.1, 1.0]}, "guidance_interval must be two times"),
        ({"guidance_interval": [0.0, 1.5]}, "guidance_interval must be two times"),
        ({"guidance_interval": [0.0, float("nan")]}, "guidance_interval must be two times"),
        ({"guidance_interval": [0.5]}, "guidance_interval must be two times, .* found 0.5"),
        ({"guidance_interval": []}, "guidance_interval must be two times, .* found none"),
        ({"path": "detour"}, "path 'detour' is not one of"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        sample(ToTarget(), plan_of(), TABLE, replace(SETTINGS, **wrong), 0)


def test_settings_of_before_mean_what_they_meant() -> None:
    old: dict[str, Any] = {"steps": 4, "solver": "euler", "guidance": 0.5}
    settings = to_schema(SampleConfig, old, "old")
    assert settings == SampleConfig(**old)
    assert settings.guidance_interval == [0.0, 1.0]
    assert (settings.grid, settings.precision, settings.compiled) == ("uniform", "float32", False)


def test_settings_come_back_from_yaml_and_json(tmp_path: Path) -> None:
    settings = replace(SETTINGS, **EVERYTHING)
    as_tuple: Any = (0.2, 0.8)
    assert replace(settings, guidance_interval=as_tuple) == settings
    assert to_schema(SampleConfig, as_dict(settings), "a folder's") == settings
    write_json(tmp_path / "settings.json", asdict(settings))
    assert read_json(tmp_path / "settings.json") == asdict(settings)


def test_settings_of_a_wrong_type_are_named() -> None:
    for wrong, named in (({"guidance_interval": ["all"]}, "all"), ({"compiled": "maybe"}, "maybe")):
        with pytest.raises(UserError, match=named):
            to_schema(SampleConfig, wrong, "sample")
