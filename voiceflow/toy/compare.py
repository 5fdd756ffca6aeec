"""The comparison of flows of points: train each way, measure it, draw it, print one table.

Each finished way is kept in its own folder, so that a run that was stopped goes on with the next.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from voiceflow import __version__
from voiceflow.config import ToyConfig, UserError, as_dict
from voiceflow.files import read_json, write_json
from voiceflow.flow.gaussian_mixture import GaussianMixture
from voiceflow.flow.likelihood import log_likelihood
from voiceflow.pictures.flows import DrawnFlow, comparison_picture, flow_picture
from voiceflow.toy.figures import LIKELIHOOD_STEPS, MANY_STEPS, Figures, Floor, Yardstick
from voiceflow.toy.train import data_std, train
from voiceflow.toy.ways import WAYS, ExactFlow, Flow, PointFlow, Way, chosen_ways

_DRAWN_SAMPLES = 20000
_DRAWN_LINES = 250


def compare(config: ToyConfig, out: Path, pictures: bool = True) -> dict[str, Figures]:
    """Run the comparison into `out`: run.json, a folder a way, results.json, table.md, pictures.

    Ways that `out` holds with the same settings are not trained again. Raises UserError for
    settings that do not fit or a folder that holds a run with others.
    """
    _check(config)
    ways = chosen_ways(config.ways)
    _claim(out, config)
    console = Console()
    mixture = GaussianMixture.symmetric_2d(config.modes, config.std, config.radius)
    yardstick = Yardstick(mixture, config)
    flows: dict[str, PointFlow] = {}
    rows: dict[str, Figures] = {}
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console,
        transient=True,
    ) as progress:  # fmt: skip
        for number, way in enumerate(ways, 1):
            bar = progress.add_task(f"{number} of {len(ways)}: {way.name}")
            flows[way.name], rows[way.name] = _one(
                way, config, mixture, yardstick, out / way.name, flows.get(way.teacher or ""),
                lambda done, total, bar=bar: progress.update(bar, completed=done, total=total),
            )  # fmt: skip
            progress.remove_task(bar)
            figures = rows[way.name]
            console.print(
                f"{way.name}: {figures.seconds:.0f} s, energy distance "
                f"{figures.energy_distance:.5f}, NLL {figures.nll:.4f}",
                highlight=False,
            )
    table = as_markdown(rows, yardstick.floor)
    write_json(
        out / "results.json",
        {"floor": asdict(yardstick.floor), "ways": {name: asdict(r) for name, r in rows.items()}},
    )
    (out / "table.md").write_text(table, "utf-8")
    console.print(table, highlight=False, markup=False, soft_wrap=True)
    if pictures:
        draw(flows, rows, yardstick, config, out)
        console.print(f"pictures: {out}/comparison.png, {out}/*/flow.png", highlight=False)
    return rows


def _one(
    way: Way,
    config: ToyConfig,
    mixture: GaussianMixture,
    yardstick: Yardstick,
    folder: Path,
    teacher: PointFlow | None,
    tick: Any,
) -> tuple[PointFlow, Figures]:
    """Train and measure one way, or read what its folder holds."""
    weights, figures = folder / "flow.safetensors", folder / "figures.json"
    if weights.is_file() and figures.is_file():
        flow = PointFlow(way, config, data_std(mixture))
        flow.load(weights)
        flow.network.requires_grad_(False)
        said = read_json(figures)
        sweep = {int(nfe): distance for nfe, distance in said.pop("distance_by_nfe").items()}
        return flow, Figures(**said, distance_by_nfe=sweep)
    trained = train(way, mixture, config, teacher, tick)
    found = yardstick.measure(trained.flow, trained.seconds)
    trained.flow.save(weights)
    write_json(figures, asdict(found))
    return trained.flow, found


def _check(config: ToyConfig) -> None:
    """UserError for numbers that no run can go by."""
    for name in ("modes", "width", "layers", "updates", "batch", "coupling_batch", "couples",
                 "likelihood_updates", "likelihood_batch", "likelihood_steps"):  # fmt: skip
        if getattr(config, name) < 1:
            raise UserError(f"toy: {name} must be at least 1, found {getattr(config, name)}")
    for name in ("std", "radius", "learning_rate"):
        if not getattr(config, name) > 0:
            raise UserError(f"toy: {name} must be above 0, found {getattr(config, name)}")
    if config.samples < 100:
        raise UserError(f"toy: samples must be at least 100, found {config.samples}")


def _claim(out: Path, config: ToyConfig) -> None:
    """Write what the run uses to run.json, or refuse a folder that holds another run."""
    settings = {key: value for key, value in as_dict(config).items() if key != "ways"}
    path = out / "run.json"
    if path.is_file():
        before = read_json(path)["config"]
        differing = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
        if differing:
            shown = ", ".join(
                f"{k}: {before.get(k)} then, {settings.get(k)} now" for k in differing
            )
            raise UserError(
                f"{out} holds a run with other settings ({shown}): choose another --out"
            )
    write_json(
        path,
        {
            "config": settings,
            "data": "drawn from the mixture that the configuration describes, by its seed",
            "versions": {
                "voiceflow": __version__,
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
            "threads": torch.get_num_threads(),
        },
    )


def as_markdown(rows: Mapping[str, Figures], floor: Floor) -> str:
    """The table of all rows, the floor first."""
    lines = [
        "| way | training, s | energy distance | sliced Wasserstein | NLL, nats "
        "| worst mode's share | straightness | NFE, best | NFE, floor |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| floor (independent data) | | {floor.energy_distance:.5f} | "
        f"{floor.sliced_wasserstein:.4f} | {floor.entropy:.4f} (entropy) | | | | |",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name.replace('_', ' ')} | {row.seconds:.0f} | {row.energy_distance:.5f} | "
            f"{row.sliced_wasserstein:.4f} | {row.nll:.4f} ± {row.nll_error:.4f} | "
            f"{row.worst_share:.2f} points off | {row.straightness:.3f} | {row.nfe} | "
            f"{row.nfe_under_floor or '-'} |"
        )
    return "\n".join(lines) + "\n"


def draw(
    flows: Mapping[str, PointFlow],
    rows: Mapping[str, Figures],
    yardstick: Yardstick,
    config: ToyConfig,
    out: Path,
) -> None:
    """A page a flow, and all flows side by side."""
    reach = config.radius + 5 * config.std
    data = yardstick.mixture.sample(_DRAWN_SAMPLES, torch.Generator().manual_seed(config.seed + 2))
    drawn = {}
    for name, flow in flows.items():
        drawn[name] = _drawn(flow, rows[name], yardstick)
        flow_picture(out / name / "flow.png", drawn[name], data, yardstick.mixture.log_prob, reach)
    exact = ExactFlow(WAYS["optimal_transport"], yardstick.mixture)
    lines = exact.sample(yardstick.noise[:_DRAWN_LINES], MANY_STEPS, keep_states=True)
    assert lines.states is not None
    comparison_picture(out / "comparison.png", drawn, data, lines.states, reach)


def _drawn(flow: Flow, figures: Figures, yardstick: Yardstick) -> DrawnFlow:
    lines = flow.sample(yardstick.noise[:_DRAWN_LINES], MANY_STEPS, keep_states=True)
    assert lines.states is not None
    mixture, path = yardstick.mixture, flow.path
    follows_path = not flow.way.by_likelihood and flow.way.coupling == "independent"
    return DrawnFlow(
        title=flow.way.name.replace("_", " "),
        samples=flow.sample(yardstick.noise[:_DRAWN_SAMPLES], MANY_STEPS).x,
        times=lines.times,
        states=lines.states,
        velocity=flow.velocity,
        within=path.times,
        log_density=lambda x: log_likelihood(flow.velocity, x, path, LIKELIHOOD_STEPS).nats,
        marginal=(lambda t, x: mixture.marginal_log_prob(x, t, path)) if follows_path else None,
    )
