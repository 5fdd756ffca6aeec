"""The result of a benchmark: one JSON file that says all, a table and a page made of it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.types import SAMPLE_RATE, Aligner, AlignmentError
from voiceflow.audio.io import load_mono
from voiceflow.benchmark.likelihood import ASKED, WAYS, figures_of, paired_metrics, with_order
from voiceflow.benchmark.machine import processor
from voiceflow.benchmark.protocols import DURATIONS, LIKELIHOOD, Trial
from voiceflow.benchmark.reported import reported
from voiceflow.benchmark.run import SETUP, Benchmark, utterances_of, voice_of
from voiceflow.benchmark.systems import PROMPT, Corpus
from voiceflow.benchmark.work import Judge, parts
from voiceflow.config import BenchmarkConfig, TaskConfig, UserError, load_group
from voiceflow.data.manifest import Utterance
from voiceflow.data.masking import draw_mask, generator_for
from voiceflow.files import read_json, write_json
from voiceflow.measures.durations import Masked, duration_row, masked_span_error, networks_of
from voiceflow.measures.scorer import Metric, Score, SetMetric, estimate, set_distance
from voiceflow.measures.subject import ALIGNER, fingerprint
from voiceflow.text.normalise import words_of
from voiceflow.voice import Voice

Scores = Mapping[str, Mapping[str, Score]]
"""scorer -> trial -> score, of one system"""


def collect(
    benchmark: Benchmark, protocol: BenchmarkConfig, trials: Sequence[Trial], judge: Judge
) -> dict[str, Any]:
    """Everything that is on disk, as results.json has it; see `report.write_report`."""
    setup = read_json(benchmark.out / SETUP)
    scorers = {asked.name: judge.scorer(asked.name) for asked in judge.scorers}
    metrics = {
        name: (scorer_name, metric)
        for scorer_name, scorer in scorers.items()
        for name, metric in scorer.metrics.items()
    }
    systems = benchmark.scored(trials)
    told = {system: _scores(benchmark, judge, system, trials) for system in systems}
    costs = {system: _costs(benchmark, system, trials) for system in systems}
    asked = {name: scorer.settings() for name, scorer in scorers.items()}
    rows = []
    paired: dict[str, tuple[str, Metric | SetMetric]] = {}  # what two results are compared by
    for task in dict.fromkeys(t.task for t in trials):
        its = [t for t in trials if t.task == task]
        if task == DURATIONS:
            found, of_durations = _duration_rows(benchmark, its, told)
            rows += found
            paired |= {name: (DURATIONS, metric) for name, metric in of_durations.items()}
            # What is the right duration depends on who aligned.
            asked[DURATIONS] = {"pocketsphinx": version("pocketsphinx"), "ctc": _carried(benchmark)}
            continue
        if task == LIKELIHOOD:
            rows += _likelihood_rows(benchmark, its, told, costs)
            paired |= {name: (LIKELIHOOD, metric) for name, metric in paired_metrics().items()}
            asked[LIKELIHOOD] = ASKED
            continue
        for system in systems:
            if row := _row(benchmark, system, task, its, metrics, told, costs[system]):
                rows.append(row)
        if len(benchmark.tested()) > 1:
            rows.append(_pooled(benchmark, task, its, metrics, told))
    return {
        "voiceflow": setup["voiceflow"],
        "date": datetime.now(UTC).date().isoformat(),
        "voice": {k: v for k, v in setup.items() if k not in ("protocol", "sha256")},
        "protocol": {
            "name": protocol.name, "settings": asdict(protocol), "seed": benchmark.seed,
            "trials": len(trials), "speakers": len({t.speaker for t in trials}),
            "sha256": setup["sha256"], "limit": setup["limit"], **setup.get("corpus", {}),
        },
        "machine": {**machine(), "scorers_device": benchmark.device},
        "scorers": asked,
        "metrics": {
            name: {
                "scorer": scorer, "better": metric.better, "unit": metric.unit,
                "columns": list(metric.columns) if isinstance(metric, Metric) else None,
            }
            for name, (scorer, metric) in {**metrics, **paired}.items()
        },
        "rows": rows,
        "reported": reported({t.task for t in trials}),
        "trials": [_trial(benchmark, t, systems, told, costs) for t in trials],
    }  # fmt: skip


def machine() -> dict[str, Any]:
    """Where it was run."""
    return {
        "device": "cpu", "cpu": processor(), "threads": torch.get_num_threads(),
        "dtype": "float32", "torch": str(torch.__version__), "python": platform.python_version(),
    }  # fmt: skip


def _scores(
    benchmark: Benchmark, judge: Judge, system: str, trials: Sequence[Trial]
) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {}
    for asked in judge.scorers:
        mine = found.setdefault(asked.name, {})
        for number, _ in parts(trials):
            path = benchmark.scores(asked.name, system, number)
            if path.exists():
                mine.update(read_json(path))
    return found


def _costs(benchmark: Benchmark, system: str, trials: Sequence[Trial]) -> dict[str, Any]:
    paths = {t.id: benchmark.sound(system, t).with_suffix(".json") for t in trials}
    return {id: read_json(path) for id, path in paths.items() if path.exists()}


def _row(
    benchmark: Benchmark,
    system: str,
    task: str,
    trials: Sequence[Trial],
    metrics: Mapping[str, tuple[str, Metric | SetMetric]],
    told: Mapping[str, Scores],
    costs: Mapping[str, Any],
) -> dict[str, Any] | None:
    made = [costs[t.id] for t in trials if t.id in costs and "failed" not in costs[t.id]]
    if not made and not any(t.id in costs for t in trials):
        return None
    seconds = [c["seconds"] for c in made if "seconds" in c]
    generated = [c["generated_seconds"] for c in made if "seconds" in c]
    return {
        "task": task,
        "system": system,
        "seed": benchmark.tested().get(system),
        "trials": len(made),
        "failed": sum("failed" in costs.get(t.id, {}) for t in trials),
        "nfe": _mean([c["nfe"] for c in made if "nfe" in c]),
        "network_passes": _mean([c["network_passes"] for c in made if "nfe" in c]),
        "rtf": sum(seconds) / sum(generated) if seconds and sum(generated) > 0 else None,
        "figures": _figures(trials, metrics, told[system], told.get("original")),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _figures(
    trials: Sequence[Trial],
    metrics: Mapping[str, tuple[str, Metric | SetMetric]],
    scores: Scores,
    original: Scores | None,
) -> dict[str, Any]:
    figures = {}
    for name, (scorer, metric) in metrics.items():
        mine = scores.get(scorer, {})
        its = [t for t in trials if t.id in mine]
        if isinstance(metric, Metric):
            found = estimate(metric, [mine[t.id] for t in its], [t.speaker for t in its])
        elif original is not None:
            theirs = original.get(scorer, {})
            found = set_distance(
                metric, [mine[t.id] for t in its],
                [theirs[t.id] for t in trials if t.id in theirs],
            )  # fmt: skip
        else:
            found = None
        if found is not None:
            figures[name] = {**asdict(found), "unit": metric.unit, "better": metric.better}
    return figures


def _pooled(
    benchmark: Benchmark,
    task: str,
    trials: Sequence[Trial],
    metrics: Mapping[str, tuple[str, Metric | SetMetric]],
    told: Mapping[str, Scores],
) -> dict[str, Any]:
    """All seeds of the voice together: each trial as often as there are seeds."""
    figures = {}
    for name, (scorer, metric) in metrics.items():
        if not isinstance(metric, Metric):
            continue
        pairs = [
            (told[system][scorer][t.id], t.speaker)
            for system in benchmark.tested()
            for t in trials
            if t.id in told[system].get(scorer, {})
        ]
        if pairs and (found := estimate(metric, *map(list, zip(*pairs, strict=True)))):
            figures[name] = {**asdict(found), "unit": metric.unit, "better": metric.better}
    return {
        "task": task, "system": f"{benchmark.name}, {benchmark.seeds} seeds", "seed": None,
        "trials": len(trials) * benchmark.seeds, "failed": 0, "nfe": None, "network_passes": None,
        "rtf": None, "figures": figures,
    }  # fmt: skip


def _trial(
    benchmark: Benchmark,
    trial: Trial,
    systems: Sequence[str],
    told: Mapping[str, Scores],
    costs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    sounds = {
        system: str(path.relative_to(benchmark.out))
        for system in (PROMPT, *systems)
        if (path := benchmark.sound(system, trial)).exists()
    }
    scores = {
        system: {
            scorer: {k: v for k, v in its[trial.id].items() if not isinstance(v, list)}
            for scorer, its in told[system].items()
            if trial.id in its
        }
        for system in systems
    }
    failed = {s: c[trial.id]["failed"] for s, c in costs.items() if "failed" in c.get(trial.id, {})}
    return {
        "id": trial.id, "task": trial.task, "speaker": trial.speaker, "text": trial.text,
        "sounds": sounds, "scores": scores, "failed": failed,
    }  # fmt: skip


def _duration_rows(
    benchmark: Benchmark,
    trials: Sequence[Trial],
    told: Mapping[str, dict[str, dict[str, Score]]],
) -> tuple[list[dict[str, Any]], dict[str, Metric]]:
    """Masked phones of the utterances by the duration networks, as each aligner finds them.

    Each trial's numbers go to what is told of it. Also returns the figures that they make.
    """
    voice = voice_of(benchmark.voice, benchmark.device)
    scores: dict[str, Score] = {}
    told[next(iter(benchmark.tested()))][DURATIONS] = scores
    rows: list[dict[str, Any]] = []
    metrics: dict[str, Metric] = {}
    for aligner in _references(voice):
        found, made = _durations_by(aligner, benchmark, voice, trials, scores)
        rows += found
        metrics |= made
    return rows, metrics


def _carried(benchmark: Benchmark) -> str | None:
    """The fingerprint of the aligner that the voice carries; None where it has none."""
    folder = voice_of(benchmark.voice, benchmark.device).folder
    return None if folder.config.aligner is None else fingerprint(folder.path, *ALIGNER)


def _references(voice: Voice) -> list[Aligner]:
    """Who says which durations are right: a voice errs less by the one that it learnt from."""
    carried = voice.folder.config.aligner is not None
    return [voice.aligner, *([voice.phone_aligner] if carried else [])]


def _durations_by(
    aligner: Aligner,
    benchmark: Benchmark,
    voice: Voice,
    trials: Sequence[Trial],
    scores: dict[str, Score],
) -> tuple[list[dict[str, Any]], dict[str, Metric]]:
    """The rows by one aligner's borders, and their figures; numbers are added to `scores`."""
    corpus, by = Corpus(utterances_of(benchmark.out)), aligner.name
    of = {t.id: _masked(aligner, voice, corpus, t, benchmark.seed) for t in trials}
    masked = [m for m in of.values() if m is not None]
    if not masked:
        raise UserError(f"none of the utterances could be aligned by {by}")
    rows, metrics = [], {}
    for way, predict in networks_of(voice.folder, benchmark.seed).items():
        row = duration_row(way, predicted := predict(masked), masked)
        sums, _ = masked_span_error(predicted, masked)
        aligned = [id for id, m in of.items() if m is not None]
        for id, (error, count) in zip(aligned, sums.tolist(), strict=True):
            scores.setdefault(id, {}).update(
                {f"{way}, {by}, error": error, f"{by}, masked phones": count}
            )
        metrics[f"MS-MAE (frames), {way}, {by}"] = Metric.ratio(
            f"{way}, {by}, error", f"{by}, masked phones", "lower", ""
        )
        figures: dict[str, Any] = {
            "MS-MAE (frames)": {"value": row.ms_mae, "low": row.low, "high": row.high},
            "correlation": {"value": row.correlation, "low": None, "high": None},
            "FDD": {"value": row.fdd, "low": None, "high": None},
            "FDD without pauses": {"value": row.fdd_spoken, "low": None, "high": None},
        }
        rows.append({
            "task": DURATIONS, "system": f"{benchmark.name}, {way}, {by}",
            "seed": benchmark.seed, "trials": len(masked), "failed": len(trials) - len(masked),
            "nfe": None, "network_passes": None, "rtf": None,
            "figures": {
                name: {**figure, "count": len(masked), "unit": "",
                       "better": "higher" if name == "correlation" else "lower"}
                for name, figure in figures.items() if figure["value"] is not None
            },
        })  # fmt: skip
    return rows, metrics


def _likelihood_rows(
    benchmark: Benchmark,
    trials: Sequence[Trial],
    told: Mapping[str, dict[str, dict[str, Score]]],
    costs: Mapping[str, dict[str, Any]],
) -> list[dict[str, Any]]:
    """A row for each way to make speech wrong; each trial's numbers go to what is told of it."""
    system = next(iter(benchmark.tested()))
    found = {t.id: read_json(benchmark.likelihoods(t.id)) for t in trials}
    for score in found.values():
        del score["seconds"]
    made = {id: score for id, score in found.items() if "failed" not in score}
    told[system][LIKELIHOOD] = {id: with_order(score) for id, score in made.items()}
    costs[system].update({id: score for id, score in found.items() if id not in made})
    scores, speakers = list(made.values()), [t.speaker for t in trials if t.id in made]
    return [
        {
            "task": LIKELIHOOD, "system": f"{benchmark.name}, {way}", "seed": benchmark.seed,
            "trials": len(made), "failed": len(found) - len(made), "nfe": None,
            "network_passes": None, "rtf": None, "figures": figures_of(way, scores, speakers),
        }
        for way in WAYS
    ]  # fmt: skip


def _masked(
    aligner: Aligner, voice: Voice, corpus: Corpus, trial: Trial, seed: int
) -> Masked | None:
    utterance: Utterance = corpus.utterances[trial.utterance]
    wave = load_mono(utterance.audio, SAMPLE_RATE)
    try:
        alignment = aligner.align(wave, words_of(utterance.text), utterance.id)
    except AlignmentError:
        return None
    n_frames = voice.features.n_frames(round(len(wave) * voice.features.sample_rate / SAMPLE_RATE))
    framed = to_frames(alignment, n_frames, voice.features.hop_seconds)
    task = load_group(TaskConfig, "task", "duration", ["p_unconditional=0"])
    generator = generator_for("durations", seed, trial.utterance)
    mask = draw_mask(torch.ones(len(framed.durations)), task, generator).mask.numpy()
    durations = np.asarray(framed.durations, dtype=np.int64)
    return Masked(trial.utterance, trial.speaker, tuple(framed.phones), durations, mask)


def write_results(benchmark: Benchmark, results: dict[str, Any]) -> None:
    """results.json, results.md and report.html, in the benchmark's folder."""
    from voiceflow.benchmark.report import write_report
    from voiceflow.benchmark.tables import markdown_table
    from voiceflow.files import replacing

    write_json(benchmark.out / "results.json", results)
    with replacing(benchmark.out / "results.md") as temporary:
        temporary.write_text(markdown_table(results), "utf-8")
    write_report(results, benchmark.out, benchmark.out / "report.html")


def without_times(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results but for what another run of the same gives otherwise: the date and the seconds."""
    rows = [{k: v for k, v in row.items() if k != "rtf"} for row in results["rows"]]
    return {**{k: v for k, v in results.items() if k not in ("date", "machine")}, "rows": rows}


