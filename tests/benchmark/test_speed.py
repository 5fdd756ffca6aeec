"""The speed comparison: what it counts, how it comes by its neighbour; no time is asserted."""

import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from voiceflow.benchmark import speed
from voiceflow.benchmark.flops import Size, forward_flops, neighbour_flops
from voiceflow.cli.app import app
from voiceflow.config import DurationConfig, UserError, VelocityConfig
from voiceflow.models.duration import DurationNetwork
from voiceflow.models.velocity import VelocityNetwork

TINY = "32/3/2/48"
QUICK = ["--items", "2", "--frames", "12", "--rounds", "1", "--seconds", "0.01"]
FAKE = """
import torch
class DiT(torch.nn.Module):
    def __init__(self, *, dim, depth, heads, dim_head, ff_mult, dropout, mel_dim, text_num_embeds,
                 text_dim, conv_layers, checkpoint_activations):
        super().__init__()
        assert (dim, depth, heads, dim_head, ff_mult, dropout) == (32, 3, 2, 16, 1.5, 0.0)
        assert conv_layers == 0 and not checkpoint_activations
        self.text = torch.nn.Embedding(text_num_embeds, mel_dim)
        self.out = torch.nn.Linear(mel_dim, mel_dim)
    def forward(self, x, cond, text, time, drop_audio_cond, drop_text, mask):
        assert self.training and mask is None and not drop_audio_cond and not drop_text
        assert text.shape[1] < x.shape[1] and time.shape == x.shape[:1]
        return self.out(x + cond + self.text(text).mean(1, keepdim=True))
"""


def counted(forward: Callable[[], Tensor], backward: bool = False) -> int:
    """What torch counts of a pass, without convolutions; attention by its formula."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter, torch.set_grad_enabled(backward):
        made = forward()
        if backward:
            made.sum().backward()
    found = counter.get_flop_counts()["Global"]
    return sum(count for name, count in found.items() if "convolution" not in str(name))


def velocity(config: VelocityConfig, items: int, frames: int) -> Callable[[], Tensor]:
    network, x = VelocityNetwork(config, 9, 10), torch.randn(items, frames, 10)
    phones, lengths = torch.zeros(items, frames, dtype=torch.long), torch.full((items,), frames)
    return lambda: network(x, x, phones, torch.zeros(items), lengths)


@pytest.mark.parametrize("time", ["token", "adaln"])
@pytest.mark.parametrize("layers", [3, 4])
def test_operations_of_the_velocity_network(time: str, layers: int) -> None:
    config = VelocityConfig(
        width=32, layers=layers, heads=2, feed_forward=48, phone_width=12, time=time
    )
    assert forward_flops(config, 20, 3, 14) == counted(velocity(config, 3, 14))


def test_an_update_is_three_forward_passes() -> None:
    config = VelocityConfig(width=64, layers=4, heads=2, feed_forward=128, phone_width=64)
    done = counted(velocity(config, 2, 50), backward=True)
    # But for what asks for no gradient: the sines and cosines of the flow step.
    assert done == pytest.approx(3 * forward_flops(config, 20, 2, 50), rel=0.01)


def test_operations_of_the_duration_network() -> None:
    config = DurationConfig(width=32, layers=3, heads=2, feed_forward=48, phone_width=12)
    network, phones = DurationNetwork(config, 9), torch.zeros(3, 14, dtype=torch.long)
    lengths = torch.full((3,), 14)
    done = counted(lambda: network.eval()(phones, phones, phones > 0, lengths))
    assert forward_flops(config, 2, 3, 14) == done


def test_operations_and_sizes_of_the_neighbour() -> None:
    try:
        dit = speed.neighbour_class()
    except UserError as missing:
        pytest.skip(str(missing))
    size, load = Size.parse(TINY), speed.Load.draw(2, 12, torch.device("cpu"))
    _, call = speed.build_neighbour(dit, size, load, False)
    assert neighbour_flops(size, speed.N_MELS, 2, 12) == counted(call)


def test_a_size() -> None:
    size = Size.parse("256/6/4/1024")
    assert (size.width, size.layers, size.heads, size.feed_forward) == (256, 6, 4, 1024)
    assert str(size) == "256/6/4/1024"
    assert size.config == VelocityConfig()  # the bundled voice's
    for wrong in ("256/6/4", "256/6/4/x", "256/6/0/9", "-16/1/1/1", "256/6/3/9", "40/1/1/1", ""):
        with pytest.raises(UserError, match=r"size"):
            Size.parse(wrong)


def test_the_load_is_the_same_for_all_and_lies_on_the_path() -> None:
    load = speed.Load.draw(3, 20, torch.device("cpu"))
    again = speed.Load.draw(3, 20, torch.device("cpu"))
    drawn = vars(load).values(), vars(again).values()
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
    at = load.t[:, None, None]
    x1 = load.xt + (1 - at) * load.ut
    torch.testing.assert_close(load.context[~load.mask], x1[~load.mask])
    assert not load.context[load.mask].any()
    share = load.mask.float().mean(1)
    assert (share >= 0.7).all() and (share <= 1).all()


def run(*arguments: str) -> str:
    shown = CliRunner().invoke(app, ["benchmark", "speed", *QUICK, *arguments])
    assert shown.exit_code == 0, shown.output
    return shown.output


def test_without_its_neighbour(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    missing = str(tmp_path / "none")
    shown = run("--size", TINY, "--threads", "1", "--neighbour-path", missing, "--json", str(out))
    [skipped] = [line for line in shown.splitlines() if line.startswith("skipped")]
    assert missing in skipped
    assert "pip install --no-deps --target" in skipped
    found = json.loads(out.read_text("utf-8"))
    assert [(r["dtype"], r["network"], r["ratio"]) for r in found["rows"]] == [
        ("bf16", "voiceflow", None),
        ("fp32", "voiceflow", None),
    ]
    assert found["threads"] == 1
    for row in found["rows"]:
        assert row["flops_per_frame"] == 3 * forward_flops(Size.parse(TINY).config, 160, 2, 12) / 24
        peak = found["matmul_flops_per_second"][row["dtype"]]
        done = row["frames_per_second"] * row["flops_per_frame"]
        assert row["utilisation"] == pytest.approx(done / peak)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed: pip install"):
        speed.neighbour_class()


@pytest.fixture
def fake_neighbour(tmp_path: Path) -> Iterator[Path]:
    """A folder with a stand-in for F5-TTS, whose package must not be run."""
    if find_spec("f5_tts"):
        pytest.skip("the real one is installed")
    package = tmp_path / "f5_tts" / "model"
    (package / "backbones").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the trainer came along')")
    (package / "backbones" / "dit.py").write_text(FAKE)
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] == "f5_tts"]:
        del sys.modules[name]


def test_beside_a_neighbour(fake_neighbour: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "speed.json", list(sys.path)
    shown = run(
        "--size", TINY, "--dtype", "fp32", "--neighbour-path", str(fake_neighbour),
        "--rounds", "3", "--json", str(out),
    )  # fmt: skip
    assert sys.path == path
    assert "skipped" not in shown
    ours, other = json.loads(out.read_text("utf-8"))["rows"]
    assert other["network"] == "F5-TTS DiT" and other["ratio"] is None
    assert ours["lowest_ratio"] <= ours["ratio"] <= ours["highest_ratio"]
    assert sum(line.startswith(f"| {TINY}") for line in shown.splitlines()) == 2


def test_a_neighbour_that_lacks_something(fake_neighbour: Path) -> None:
    module = fake_neighbour / "f5_tts" / "model" / "backbones" / "dit.py"
    module.write_text("import no_such_library")
    with pytest.raises(UserError, match=r"no_such_library.*pip install"):
        speed.neighbour_class(fake_neighbour)


def test_both_learn(fake_neighbour: Path) -> None:
    size, load = Size.parse(TINY), speed.Load.draw(2, 12, torch.device("cpu"))
    dit = speed.neighbour_class(fake_neighbour)
    for build in (
        lambda: speed.build_ours(size, load, False),
        lambda: speed.build_neighbour(dit, size, load, False),
    ):
        network, call = build()
        before = [p.detach().clone() for p in network.parameters()]
        one = speed.Contestant("it", 1, load, "fp32", lambda: (network, call))  # noqa: B023
        one.round(0.0)
        assert len(one.rates) == 1 and one.rates[0] > 0
        assert one.parameters == sum(p.numel() for p in network.parameters())
        moved = [not torch.equal(*two) for two in zip(before, network.parameters(), strict=True)]
        assert all(moved[-2:])


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device"):
        speed.measure_speed([Size.parse(TINY)], ["fp32"], device="cuda")
