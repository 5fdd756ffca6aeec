"""What a run stands on: its data as it can use them, its start, and its folder."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from voiceflow import __version__
from voiceflow.config import RunConfig, UserError, as_dict, to_schema
from voiceflow.data.shards import Prepared
from voiceflow.files import replacing
from voiceflow.model_folder import ModelFolder, save_network
from voiceflow.models.aligner import PhoneRecogniser
from voiceflow.text.phones import PhoneTable, base_of
from voiceflow.training import checkpoint
from voiceflow.training.adapters import merged, of_phones
from voiceflow.training.tasks import Task

_UNCROPPED = 10**9  # frames
# Settings that may differ when a run is taken up again.
FREE_SETTINGS = ("train.workers", "train.checkpoint_every", "train.keep_checkpoints",
                 "train.log_every", "train.validate_every", "train.updates", "train.compile",
                 "train.memory_probe", "train.skip_limit", "train.stall_seconds",
                 "train.sample_every", "train.peak_tflops", "train.fsdp",
                 "train.sharded_checkpoints", "sample.")


def for_borders(config: RunConfig, prepared: Prepared) -> RunConfig:
    """The run as it can be on these data: what has no borders is not cropped at any.

    UserError where data whose phones are spread evenly are to teach where phones stand.
    """
    aligner = prepared.info.get("aligner")
    if aligner == "unaligned":
        if config.task.name not in ("velocity", "vocoder"):
            raise UserError(
                f"{prepared.address} is not aligned (--aligner unaligned): task=velocity alone can "
                "be trained on it"
            )
        return replace(config, train=replace(config.train, crop_frames=_UNCROPPED))
    if aligner != "even":
        return config
    if config.task.name != "aligner" or config.task.ctc_weight < 1:
        raise UserError(
            f"{prepared.address} has no borders (--aligner even): train task=aligner "
            "task.ctc_weight=1 on it, then prepare the corpus with --aligner ctc and that voice"
        )
    return replace(config, train=replace(config.train, crop_frames=_UNCROPPED))


def with_statistics_of(voice: str, prepared: Prepared) -> Prepared:
    """The data as a voice hears them: normalised by the mean and deviation that it was trained on.

    UserError where the front ends differ in anything else.
    """
    folder = ModelFolder.open(voice)
    mine = prepared.features.with_statistics(folder.features.mean, folder.features.std)
    folder.features.require(mine, str(folder.path), prepared.address)
    return replace(prepared, features=folder.features)


def start_from(
    voice: str, network: nn.Module, task: Task, prepared: Prepared, extend_phones: bool = False
) -> None:
    """Fill the network with a voice's weights.

    Its phones must be the data's; with `extend_phones` the data may have others, see `for_phones`.
    """
    folder = ModelFolder.open(voice)
    if folder.phones != prepared.phones and not extend_phones and task.name != "vocoder":
        raise UserError(
            f"{folder.path} and {prepared.address} have different phone tables "
            f"({what_differs(folder.phones, prepared.phones)}): train.extend_phones=true keeps "
            "what the voice knows of each phone, by its symbol, and lets it learn the others"
        )
    size = getattr(folder.config, task.name)
    if size is not None and task.part == "" and size != task.network_config:
        group = {"velocity": "model", "duration_flow": "duration"}.get(task.name, task.name)
        raise UserError(
            f"{folder.path} has a {task.name} network of another size: choose the same {group}= as "
            "it was trained with"
        )
    weights = folder.load(task.name).state_dict()
    network = network.get_submodule(task.part)
    if folder.phones != prepared.phones and task.name != "vocoder":
        weights = for_phones(network, weights, folder.phones, prepared.phones)
    network.load_state_dict(weights)


def what_differs(theirs: PhoneTable, wanted: PhoneTable) -> str:
    """What a voice's phone table lacks of the data's, the first few by name."""
    if not (missing := [s for s in wanted.symbols if s not in theirs.symbols]):
        return "the voice lacks none of the data's phones, but has others or another order"
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return f"the voice lacks {', '.join(missing[:5])}{more}"


def for_phones(
    network: nn.Module, weights: dict[str, Tensor], theirs: PhoneTable, wanted: PhoneTable
) -> dict[str, Tensor]:
    """A voice's weights for another phone table, that of the (fresh) network.

    Rows of known phones are kept, by their symbols. A phone that the voice lacks starts as the
    same phone in another place of the word, or else as the network's own fresh row.
    """
    old, new = list(theirs.symbols), list(wanted.symbols)
    same = {base_of(symbol): row for row, symbol in reversed(list(enumerate(old)))}
    if isinstance(network, PhoneRecogniser):
        old, new, same = theirs.bases(), wanted.bases(), {}
    row_of = {symbol: row for row, symbol in enumerate(old)}
    sources = [row_of.get(symbol, same.get(base_of(symbol))) for symbol in new]
    fresh = network.state_dict()
    found = dict(weights)
    for name in of_phones(network):
        found[name] = fresh[name].clone()
        for row, source in enumerate(sources):
            if source is not None:
                found[name][row] = weights[name][source]
    return found


def n_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def claim(
    folder: Path, config: RunConfig, prepared: Prepared, parameters: int, utterances: int
) -> None:
    """Write what the run uses to run.yaml, or refuse a folder that holds another run."""
    path = folder / "run.yaml"
    settings = as_dict(config)
    if path.is_file():
        before = yaml.safe_load(path.read_text("utf-8"))
        # What this version has settings for and that did not is as the default says.
        known = as_dict(to_schema(RunConfig, before["config"], str(path)))
        # Folders may move: the data are known by their fingerprint.
        old = flatten({**known, "data": before["data_fingerprint"], "out": ""})
        new = flatten({**settings, "data": prepared.info["fingerprint"], "out": ""})
        differing = sorted(
            key
            for key in {*old, *new}
            if old.get(key) != new.get(key) and not key.startswith(FREE_SETTINGS)
        )
        if differing:
            shown = ", ".join(f"{k}: {old.get(k)} then, {new.get(k)} now" for k in differing)
            raise UserError(
                f"{folder} holds a run with other settings ({shown}): choose another out="
            )
    record = {
        "config": settings,
        "data_fingerprint": prepared.info["fingerprint"],
        "parameters": parameters,
        "training_utterances": utterances,
        "versions": {
            "voiceflow": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(record, sort_keys=False), "utf-8")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def of_voice(task: Task, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a voice keeps of a network's weights, by its own names."""
    prefix = f"{task.part}." if task.part else ""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def save_voice(
    config: RunConfig, task: Task, prepared: Prepared, taken: checkpoint.Snapshot, folder: Path
) -> None:
    """Bring out/model up to date with the averaged weights."""
    values = taken.values
    training = {
        "updates": values["update"],
        "hours_of_data": round(float(prepared.info["hours"]), 2),
        "passes_over_data": round(values["frames"] / int(prepared.info["frames"]), 2),
        "wall_hours": round(values["seconds"] / 3600, 3),
        "data_fingerprint": prepared.info["fingerprint"],
        "aligner": prepared.info.get("aligner", ""),
        "run": str(folder),
    }
    save_network(
        Path(config.out) / "model",
        task.name,
        of_voice(task, merged(taken.averages(), config.train)),
        task.network_config,
        prepared.phones,
        prepared.features,
        replace(config.sample, path=config.task.path),
        training,
    )


def save_all(
    config: RunConfig, task: Task, prepared: Prepared, taken: checkpoint.Snapshot, folder: Path
) -> None:
    """The voice, then the checkpoint: a run whose last checkpoint is there is not gone on with."""
    save_voice(config, task, prepared, taken, folder)
    checkpoint.save(folder / "checkpoints", taken, config.train.keep_checkpoints)
