"""The comparison of samplers and the real-time factor: what is counted; no time is asserted."""

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from voiceflow.audio.io import Recording
from voiceflow.benchmark import realtime, sampling
from voiceflow.benchmark.flops import Size
from voiceflow.benchmark.realtime import Prompt, Timed, Turn, choose_prompts, take_turn
from voiceflow.benchmark.sampling import Row, Sampler, Workload, compare, neighbour_samplers
from voiceflow.cli.app import app
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance

TINY = Size.parse("32/3/2/48")
DIT = """
import torch
class DiT(torch.nn.Module):
    def __init__(self, *, dim, mel_dim, **rest):
        super().__init__()
        self.dim = dim
        self.out = torch.nn.Linear(mel_dim, mel_dim)
        torch.nn.init.zeros_(self.out.weight)
    def forward(self, x, cond, **rest):
        assert self.out.weight.any()
        return self.out(x + cond)
"""
CFM = """
import torch
class CFM(torch.nn.Module):
    def __init__(self, transformer, mel_spec_kwargs):
        super().__init__()
        assert mel_spec_kwargs == {"n_mel_channels": 80}
        self.transformer = transformer
    def sample(self, *, cond, text, duration, steps, cfg_strength, sway_sampling_coef, use_epss,
               seed):
        assert cfg_strength > 0 and text.shape[0] == 1 and not torch.is_grad_enabled()
        x = torch.zeros(1, duration, 80, dtype=self.transformer.out.weight.dtype)
        given = torch.nn.functional.pad(cond, (0, 0, 0, duration - cond.shape[1])).to(x.dtype)
        for _ in range(steps + EXTRA):
            x = x + self.transformer(x=x, cond=given)
        return x[:, : duration - LESS], None
"""


def package(folder: Path, extra: int = 0, less: int = 0) -> Path:
    """A folder with a stand-in for F5-TTS."""
    model = folder / "f5_tts" / "model"
    (model / "backbones").mkdir(parents=True, exist_ok=True)
    (model / "__init__.py").write_text("raise RuntimeError('the trainer came along')")
    (model / "backbones" / "dit.py").write_text(DIT)
    (model / "cfm.py").write_text(f"EXTRA, LESS = {extra}, {less}\n{CFM}")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    if find_spec("f5_tts"):
        pytest.skip("the real one is installed")
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] == "f5_tts"]:
        del sys.modules[name]


def test_ours_evaluates_as_often_as_asked() -> None:
    for frames, context in ((20, 7), (20, 10)):
        draw = sampling.our_sampler(TINY, Workload(frames, context, 3), "fp32")
        assert draw() == 3


def test_ours_fills_all_that_is_asked_in_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, float]] = []
    drawn = sampling.sample

    def watched(network, plan, phones, settings, seed):  # type: ignore[no-untyped-def]
        made = drawn(network, plan, phones, settings, seed)
        seen.append((len(plan.mask), int(plan.mask.sum()), made.network_passes / made.nfe))
        assert any(not torch.equal(row, torch.zeros(80)) for row in made.mel[0, -5:])
        return made

    monkeypatch.setattr(sampling, "sample", watched)
    sampling.our_sampler(TINY, Workload(600, 700, 2), "fp32")()
    assert seen == [(1300, 600, 2.0)]  # both branches at each evaluation


def test_the_neighbour_in_either_precision(folder: Path) -> None:
    package(folder)
    asked = Workload(20, 10, 4)
    assert list(neighbour_samplers(folder, TINY, asked, "fp32")) == [sampling.WHOLE]
    both = neighbour_samplers(folder, TINY, asked, "bf16")
    assert list(both) == [sampling.WEIGHTS, sampling.AUTOCAST]
    assert [draw() for draw in both.values()] == [4, 4]


def test_a_neighbour_that_makes_less_is_refused(folder: Path) -> None:
    draws = neighbour_samplers(package(folder, less=1), TINY, Workload(20, 10, 4), "fp32")
    with pytest.raises(RuntimeError, match="29 frames, not 30"):
        draws[sampling.WHOLE]()


def test_a_neighbour_without_its_sampler(folder: Path) -> None:
    (package(folder) / "f5_tts" / "model" / "cfm.py").write_text("import no_such_library")
    with pytest.raises(UserError, match=r"no_such_library.*pip install"):
        neighbour_samplers(folder, TINY, Workload(), "fp32")


def test_all_take_turns_and_who_begins_changes() -> None:
    order: list[str] = []

    def draw(name: str) -> int:
        order.append(name)
        return 5

    samplers = [Sampler(n, "fp32", lambda n=n: draw(n)) for n in "abc"]  # type: ignore[misc]
    rows = compare(samplers, 2, 100)
    assert "".join(order) == "abc" + "abc" + "cba"
    assert [row.evaluations for row in rows] == [5, 5, 5]
    assert rows[0].ratio is None and rows[1].ratio is not None


def test_unequal_numbers_of_evaluations_are_refused() -> None:
    with pytest.raises(RuntimeError, match="equally often: a 5, b 6"):
        compare([Sampler("a", "fp32", lambda: 5), Sampler("b", "fp32", lambda: 6)], 1, 100)


def test_the_ratio_is_of_the_same_round() -> None:
    ours = Sampler("a", "bf16", lambda: 1, 32, [1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    other = Sampler("b", "bf16", lambda: 1, 32, [3.0, 4.0, 6.0], [2.0, 3.0, 2.0])
    row = Row.of(other, ours, 1000)
    assert (row.ratio, row.lowest_ratio, row.highest_ratio) == (2.0, 1.5, 3.0)
    assert (row.seconds, row.cpu_seconds) == (4.0, 2.0)
    assert row.new_sound_seconds == pytest.approx(1000 / 93.75)
    assert Row.of(ours, ours, 1000).new_sound_seconds == 10.0
    assert "**2.00** (1.50 to 3.00)" in row.as_text()


class FakeVoice:
    """Says a second of silence in 0.25 s, and remembers what it was asked for."""

    def __init__(self, vocoder: Timed) -> None:
        self.vocoder = vocoder
        self.asked: list[tuple[str, Path | None, str | None, str | None]] = []

    def speak(self, text, *, prompt, prompt_text, preset):  # type: ignore[no-untyped-def]
        self.asked.append((text, prompt, prompt_text, preset))
        self.vocoder(torch.zeros(1, 1))
        sound = Recording.from_mono(np.zeros(100, dtype=np.float32), 100)
        return SimpleNamespace(recording=sound, seconds=0.25)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second each time it is looked at."""
    ticks, worked = iter(range(1000)), iter(range(0, 1000, 12))
    fake = SimpleNamespace(perf_counter=lambda: next(ticks), process_time=lambda: next(worked))
    monkeypatch.setattr(realtime, "time", fake)


def test_a_turn_is_split_in_its_parts(clock: None) -> None:
    vocoder = Timed(lambda mel: mel)
    voice = FakeVoice(vocoder)
    prompts = [Prompt(Path("a.wav"), "A"), Prompt(Path("b.wav"), "B")]
    turn = take_turn(voice, vocoder, ["x", "y", "z"], prompts, "own")
    # A text: from 0, the vocoder from 1 to 2, to 3.
    assert turn == Turn(3 * (3 - 0.25), 3 * (0.25 - 1), vocoder=3.0, sound=3.0, cpu=12)
    assert turn.factor == 3.0
    assert [text + str(words) for text, _, words, _ in voice.asked] == ["xA", "yB", "zA"]
    assert {preset for *_, preset in voice.asked} == {None}
    take_turn(voice, vocoder, ["x"], [], "fast")
    assert voice.asked[-1] == ("x", None, None, "fast")


def test_the_first_round_is_not_counted(clock: None) -> None:
    vocoder = Timed(lambda mel: mel)
    voice = FakeVoice(vocoder)
    rows = realtime.compare(voice, vocoder, ["x"], [], ["own", "fast"], 2)
    assert [preset for *_, preset in voice.asked] == [None, "fast"] * 3
    assert [row.preset for row in rows] == ["own", "fast"]
    assert rows[0].factor == rows[0].highest_factor == 3.0


def test_a_row_is_of_medians() -> None:
    turns = [Turn(1, 2, 1, 4, 8), Turn(1, 4, 1, 4, 4), Turn(2, 9, 1, 4, 2)]
    row = realtime.Row.of("fast", turns)
    assert (row.factor, row.lowest_factor, row.highest_factor) == (1.5, 1.0, 3.0)
    assert (row.planning, row.sampling, row.vocoder) == (0.25, 1.0, 0.25)
    assert (row.cpu_factor, row.sound_seconds) == (1.0, 4)


def test_prompts_are_of_different_speakers() -> None:
    items = [
        Utterance("1", "1.wav", "one", "a", seconds=9.0),
        Utterance("2", "2.wav", "two", "a", seconds=4.0),
        Utterance("3", "3.wav", "three", "a", seconds=4.0),
        Utterance("4", "4.wav", "four", "b", seconds=2.0),
        Utterance("5", "5.wav", "five", "c", seconds=5.0),
    ]
    assert [p.text for p in choose_prompts(items, 2)] == ["two", "five"]
    with pytest.raises(UserError, match=r"3 speakers .* found 2"):
        choose_prompts(items, 3)


def test_a_preset_that_is_not_known() -> None:
    with pytest.raises(UserError, match="'loud' is not one of own, paper, best, fast"):
        realtime.check_presets(["own", "loud"])


def test_the_command(folder: Path) -> None:
    package(folder)
    out = folder / "sampling.json"
    threads = torch.get_num_threads()
    shown = CliRunner().invoke(
        app,
        ["benchmark", "sampling", "--size", "32/3/2/48", "--frames", "20", "--context", "10",
         "--evaluations", "2", "--rounds", "1", "--speeches", "1", "--preset", "fast",
         "--text", "No.", "--threads", "1", "--neighbour-path", str(folder), "--json", str(out)],
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert torch.get_num_threads() == threads
    assert "skipped" not in shown.output
    found = json.loads(out.read_text("utf-8"))
    beside, spoken = found["sampling"], found["real_time"]
    assert beside["threads"] == spoken["threads"] == 1
    assert [(r["dtype"], r["sampler"]) for r in beside["rows"]] == [
        ("bf16", "voiceflow"),
        ("bf16", sampling.WEIGHTS),
        ("bf16", sampling.AUTOCAST),
        ("fp32", "voiceflow"),
        ("fp32", sampling.WHOLE),
    ]
    assert {r["evaluations"] for r in beside["rows"]} == {2}
    [row] = spoken["rows"]
    assert row["preset"] == "fast" and row["sound_seconds"] > 0
    parts = row["planning"] + row["sampling"] + row["vocoder"]
    assert parts == pytest.approx(row["factor"])


def test_without_the_neighbour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none"
    found = sampling.measure_sampling(
        TINY, ["bf16", "fp32"], Workload(20, 10, 2), rounds=1, neighbour_path=missing
    )
    assert [row["ratio"] for row in found["rows"]] == [None, None]
    [skipped] = [s for s in capsys.readouterr().out.splitlines() if s.startswith("skipped")]
    assert str(missing) in skipped
