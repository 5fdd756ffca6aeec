"""The comparison of flows on the mixture, whole but small: train, measure, resume, refuse."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from voiceflow.cli.app import app
from voiceflow.config import ToyConfig, UserError, load_group
from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.paths import PATHS
from voiceflow.toy.compare import as_markdown, compare
from voiceflow.toy.figures import Figures, Floor, Yardstick, straightness
from voiceflow.toy.train import train
from voiceflow.toy.ways import WAYS, ExactFlow, PointFlow, chosen_ways

SMALL = ToyConfig(
    ways=["optimal_transport"], width=32, layers=2, updates=60, batch=128, coupling_batch=64,
    couples=500, likelihood_updates=3, likelihood_batch=32, likelihood_steps=3, samples=300,
)  # fmt: skip
KINDS = ["optimal_transport", "reflow", "maximum_likelihood"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Figures]]:
    """A path, a reflow of it and maximum likelihood, as small as they go."""
    out = tmp_path_factory.mktemp("toy") / "run"
    return out, compare(replace(SMALL, ways=KINDS), out)


@pytest.mark.long
def test_the_recipe_runs_whole_when_it_is_small(tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = [f"{key}={value}" for key, value in asdict(SMALL).items() if key != "ways"]
    done = CliRunner().invoke(app, ["toy", *small, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert len((out / "table.md").read_text().splitlines()) == 3 + len(WAYS)
    assert len(list(out.glob("*/flow.png"))) == len(WAYS)
    assert (out / "table.md").read_text().splitlines()[-1] in done.output


def test_every_way_is_trained_measured_and_drawn(done: tuple[Path, dict[str, Figures]]) -> None:
    out, rows = done
    assert list(rows) == KINDS
    for name, row in rows.items():
        assert (out / name / "flow.png").read_bytes()[:4] == b"\x89PNG"
        assert all(torch.isfinite(torch.tensor([row.energy_distance, row.nll, row.straightness])))
        assert min(row.distance_by_nfe.values()) <= row.energy_distance
        assert row.nfe in row.distance_by_nfe
    assert (out / "comparison.png").stat().st_size > 10000
    said = json.loads((out / "results.json").read_text())
    assert said["ways"]["reflow"]["nll"] == rows["reflow"].nll
    assert said["floor"]["entropy"] == pytest.approx(5.2221, abs=1e-4)
    assert json.loads((out / "run.json").read_text())["config"]["updates"] == SMALL.updates


def test_the_table_has_a_line_for_each_way_and_the_floor(
    done: tuple[Path, dict[str, Figures]],
) -> None:
    table = (done[0] / "table.md").read_text().splitlines()
    assert len(table) == 3 + len(KINDS)
    assert table[2].startswith("| floor (independent data) |")
    assert len({line.count("|") for line in table}) == 1
    row = done[1]["optimal_transport"]
    assert f"| {row.nll:.4f} ± {row.nll_error:.4f} |" in table[3]


def test_what_is_there_is_not_trained_again(
    done: tuple[Path, dict[str, Figures]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rows = done
    monkeypatch.setattr("voiceflow.toy.compare.train", None)
    again = compare(replace(SMALL, ways=["optimal_transport", "reflow"]), out, pictures=False)
    assert again == {name: rows[name] for name in ("optimal_transport", "reflow")}


def test_a_way_that_was_cut_is_trained_anew_to_the_same_weights(
    done: tuple[Path, dict[str, Figures]],
) -> None:
    out, rows = done
    weights = out / "reflow" / "flow.safetensors"
    before = weights.read_bytes()
    (out / "reflow" / "figures.json").unlink()
    again = compare(replace(SMALL, ways=KINDS), out, pictures=False)["reflow"]
    assert weights.read_bytes() == before
    assert replace(again, seconds=0.0) == replace(rows["reflow"], seconds=0.0)


def test_a_folder_with_other_settings_is_refused(done: tuple[Path, dict[str, Figures]]) -> None:
    with pytest.raises(UserError, match=r"updates: 60 then, 61 now.*choose another --out"):
        compare(replace(SMALL, updates=61), done[0])


def test_damaged_weights_are_named(done: tuple[Path, dict[str, Figures]], tmp_path: Path) -> None:
    flow = PointFlow(WAYS["reflow"], SMALL, 1.0)
    damaged = tmp_path / "flow.safetensors"
    damaged.write_bytes((done[0] / "reflow" / "flow.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match=r"flow\.safetensors: cannot be read"):
        flow.load(damaged)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ways": []}, "none named"),
        ({"ways": ["wind"]}, "wind: not known"),
        ({"ways": ["reflow"]}, "couples of optimal_transport"),
        ({"updates": 0}, "updates must be at least 1"),
        ({"std": 0.0}, "std must be above 0"),
        ({"samples": 5}, "samples must be at least 100"),
    ],
)
def test_settings_that_do_not_fit(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        compare(replace(SMALL, **changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_presets_name_ways_that_exist() -> None:
    full = chosen_ways(load_group(ToyConfig, "toy", "full").ways)
    assert [way.name for way in full] == list(WAYS)
    assert {way.path for way in full} == set(PATHS)
    assert load_group(ToyConfig, "toy", "quick").ways == ["optimal_transport"]


@pytest.mark.parametrize("name", ["optimal_transport", "variance_exploding", "minibatch_coupling"])
def test_training_lowers_the_negative_log_likelihood(name: str) -> None:
    mixture = GaussianMixture.symmetric_2d(3, 1.0, 4.0)
    config = replace(SMALL, modes=3, radius=4.0, updates=300, learning_rate=2e-3, samples=500)
    yardstick = Yardstick(mixture, config)
    start = train(WAYS[name], mixture, replace(config, updates=1)).flow
    end = train(WAYS[name], mixture, config).flow
    assert yardstick.nll(end)[0] < yardstick.nll(start)[0] - 0.1
    assert yardstick.nll(end)[0] > yardstick.floor.entropy


def test_maximum_likelihood_lowers_the_negative_log_likelihood() -> None:
    mixture = GaussianMixture.symmetric_2d(2, 1.0, 3.0)
    config = replace(
        SMALL, modes=2, radius=3.0, likelihood_updates=60, likelihood_batch=64, learning_rate=1e-2
    )
    yardstick = Yardstick(mixture, config)
    way = WAYS["maximum_likelihood"]
    start = train(way, mixture, replace(config, likelihood_updates=1)).flow
    assert yardstick.nll(train(way, mixture, config).flow)[0] < yardstick.nll(start)[0] - 0.03


@pytest.mark.parametrize("name", ["optimal_transport", "variance_exploding"])
def test_the_exact_flow_reaches_the_floor(name: str) -> None:
    mixture = GaussianMixture.symmetric_2d()
    yardstick = Yardstick(mixture, replace(SMALL, samples=2000))
    row = yardstick.measure(ExactFlow(WAYS[name], mixture), 0.0)
    assert row.energy_distance < yardstick.floor.energy_distance
    assert row.sliced_wasserstein < yardstick.floor.sliced_wasserstein
    assert row.nll == pytest.approx(yardstick.floor.entropy, abs=5e-3)
    assert row.worst_share < 0.8  # of 20,000 draws: 4 deviations


def test_straight_lines_have_no_departure() -> None:
    """One Gaussian about the origin is scaled: straight, and on optimal transport uneven."""
    mixture = GaussianMixture(torch.zeros(1, 2), 3.0)
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))

    class Even(ExactFlow):
        def velocity(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return 2 * x / (1 + 2 * t)  # x_t = (1 + 2 t) x_0

    even = straightness(Even(WAYS["optimal_transport"], mixture), noise)
    uneven = straightness(ExactFlow(WAYS["optimal_transport"], mixture), noise)
    assert even == pytest.approx(0, abs=1e-4)
    # The deviation of x_t is s(t), (1 - t)^2 + 9 t^2 squared; the way from s(0) to s(1) is 2.
    t = (torch.arange(4000) + 0.5) / 4000
    speed = (10 * t - 1) / ((1 - t).square() + 9 * t.square()).sqrt()
    assert uneven == pytest.approx(float((speed - 2).square().mean()) / 4, rel=0.02)


def test_the_floor_is_written_without_a_flow() -> None:
    table = as_markdown({}, Floor(0.01, 0.2, 5.0))
    assert "0.01000 | 0.2000 | 5.0000 (entropy)" in table
