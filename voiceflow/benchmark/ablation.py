"""Choices one by one: the same small training, each with one thing otherwise.

Le et al. 2023 compare the path, the loss on masked frames with that on all, and guidance, which
needs the conditions dropped in training. What they do not compare are the network's choices: how it
is told positions and the flow step, its width against the number of updates, and whether its phones
tell stress and their place in a word. Each variant fills the middle third of held-out utterances,
unheard, with the phones' own durations; a phone recogniser that was trained apart says how many of
its outputs there are the phone that they should be.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from voiceflow.config import SampleConfig, UserError, compose
from voiceflow.data.dataset import split
from voiceflow.data.relabel import relabel
from voiceflow.data.shards import Framed, Prepared, open_prepared
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import sample
from voiceflow.model_folder import ModelFolder
from voiceflow.models.aligner import BLANK, PhoneRecogniser
from voiceflow.text.phones import (
    NONE,
    SILENCE,
    PhoneTable,
    base_of,
    unmarked,
    unplaced,
    without_stress,
)
from voiceflow.training.run import n_parameters
from voiceflow.training.samples import plans

SMALL = (
    "model=mini", "model.width=128", "model.layers=4", "model.feed_forward=512",
    "model.phone_width=128", "train=cpu", "train.updates=1500",
)  # fmt: skip
PAPER = "the paper's"
VARIANTS: dict[str, tuple[str, ...]] = {
    PAPER: (),
    "loss on all frames": ("task.loss_frames=all",),
    "diffusion path": ("task.path=variance_preserving",),
    "conditions never dropped": ("task.p_unconditional=0",),
    "short spans (10 to 100 %)": ("task.mask_ratio_min=0.1",),
    "rotary positions": ("model.position=rotary",),
    "flow step in every block": ("model.time=adaln",),
    "twice as wide, a quarter of the updates": (
        "model.width=256", "model.feed_forward=1024", "model.phone_width=256"
    ),
}  # fmt: skip
# Of data with stress marks the first is a choice too; the table stays, and so the parameters.
LABELS: dict[str, Callable[[str], str]] = {
    "phones without stress": unmarked,
    "phones without place in the word": unplaced,
}
UPDATES = {"twice as wide, a quarter of the updates": 0.25}  # a share of what the others have
GUIDANCE = 0.7
SEED = 0


@dataclass(frozen=True)
class Row:
    """A variant's figures over the gaps of all utterances.

    error: mean absolute difference of natural log-mels of one sample; variance: over time and
    bands, relative to the original's; phones: share of the recogniser's outputs that are right;
    parameters: how many numbers the network has learnt.
    """

    name: str
    guidance: float
    error: float
    variance: float
    phones: float
    parameters: int = 0


class Judge:
    """A phone recogniser that hears mels, and counts its outputs that are as they should be."""

    def __init__(self, voice: str) -> None:
        folder = ModelFolder.open(voice)
        network = folder.load("aligner")
        assert isinstance(network, PhoneRecogniser)
        self._network, self._features = network, folder.features
        self._bases = folder.phones.bases()

    @torch.no_grad()
    def right(self, mel: Tensor, plan: Plan) -> tuple[int, int]:
        """How many outputs in the gap are right, and how many there are; mel (T, M) as features."""
        heard = self._network(self._features.normalise(mel)[None], torch.tensor([len(mel)]))
        frames = torch.arange(heard.shape[1]) * self._network.stride
        labels = torch.tensor([self._class_of(p) for p in plan.phones])
        wanted = labels.repeat_interleave(torch.tensor(plan.durations))[frames]
        inside = plan.mask[frames]
        return int((heard[0].argmax(-1) == wanted)[inside].sum()), int(inside.sum())

    def _class_of(self, phone: str) -> int:
        """The recogniser's output for a phone, whose stress it may not tell."""
        if phone in (NONE, SILENCE):
            return BLANK
        base = base_of(phone)
        return self._bases.index(base if base in self._bases else without_stress(base))


def variants_of(phones: PhoneTable) -> list[str]:
    """The names of those that differ on data with these phones."""
    told = [n for n, label in LABELS.items() if any(label(s) != s for s in phones.symbols)]
    return [*VARIANTS, *told]


def train_variants(
    data: str, out: Path, overrides: Sequence[str], names: Sequence[str]
) -> Iterator[tuple[str, Path]]:
    """Train each variant in a process of its own, or go on with it; its name and model folder.

    Raises UserError when a training fails.
    """
    shared = [f"data={data}", "task=velocity", *SMALL, *overrides]
    updates = compose([*shared, f"out={out}"]).train.updates
    for name in names:
        folder = out / "".join(c if c.isalnum() else "-" for c in name)
        words = [*shared, f"out={folder}", *VARIANTS.get(name, ())]
        if name in LABELS:
            relabel(Path(data), folder / "data", LABELS[name], name)
            words.append(f"data={folder / 'data'}")
        if name in UPDATES:
            words.append(f"train.updates={max(round(UPDATES[name] * updates), 1)}")
        done = subprocess.run([sys.executable, "-m", "voiceflow", "train", *words], check=False)
        if done.returncode:
            raise UserError(f"the training of '{name}' in {folder} failed: its message is above")
        yield name, folder / "model"


def measure(
    name: str, model: Path, prepared: Prepared, rows: Sequence[Framed], judge: Judge, steps: int
) -> Row:
    """Fill the gaps of held-out rows with a variant's network; a guided sample where it can be."""
    folder = ModelFolder.open(model)
    guidance = 0.0 if name == "conditions never dropped" else GUIDANCE
    settings = replace(folder.config.sample, steps=steps, solver="midpoint", guidance=guidance)
    network = folder.load("velocity")

    label = LABELS.get(name, str)

    def filled(plan: Plan, _: Tensor) -> Tensor:
        plan = replace(plan, phones=tuple(map(label, plan.phones)))
        drawn = sample(network, plan, folder.phones, settings, SEED).mel[0]
        return prepared.features.denormalise(drawn)

    row = _row(name, guidance, prepared, rows, judge, filled)
    return replace(row, parameters=n_parameters(network))


def measure_original(prepared: Prepared, rows: Sequence[Framed], judge: Judge) -> Row:
    """The original's own figures, which are the judge's."""
    return _row("original", 0.0, prepared, rows, judge, lambda plan, mel: mel)


def _row(
    name: str,
    guidance: float,
    prepared: Prepared,
    rows: Sequence[Framed],
    judge: Judge,
    filled: Callable[[Plan, Tensor], Tensor],
) -> Row:
    errors, variances, right, heard = [], [], 0, 0
    for row in rows:
        plan, mel = plans(row, prepared.features, prepared.phones)["gap"]
        made = filled(plan, mel)
        gap = plan.mask
        whole = torch.where(gap.unsqueeze(1), made, mel)
        errors.append(float((whole - mel)[gap].abs().mean()))
        variances.append(float(whole[gap].var() / mel[gap].var()))
        found, outputs = judge.right(whole, plan)
        right, heard = right + found, heard + outputs
    n = len(rows)
    return Row(name, guidance, sum(errors) / n, sum(variances) / n, right / max(heard, 1))


def run(
    data: str, out: Path, overrides: Sequence[str], utterances: int, steps: int, judge: str,
    names: Sequence[str] = (),
) -> Iterator[Row]:  # fmt: skip
    """The original's row, then each variant's as it is done; figures also in out/ablation.json.

    names: which variants; all that differ on these data if none is given. Raises UserError for a
    name that is unknown, or that changes nothing of these data, before anything is trained.
    """
    from voiceflow.files import write_json

    prepared = open_prepared(data)
    known = variants_of(prepared.phones)
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"no variant '{unknown[0]}' of these data: there are {', '.join(known)}")
    _, held_out = split(prepared, utterances)
    if not held_out:
        raise UserError(f"{data} has too few utterances to hold any out: prepare more")
    rows = prepared.rows(held_out)
    listener = Judge(judge)
    made = [measure_original(prepared, rows, listener)]
    yield made[0]
    # Training must hold out at least what is measured.
    overrides = [*overrides, f"train.validation_utterances={utterances}"]
    for name, model in train_variants(data, out, overrides, names or known):
        made.append(measure(name, model, prepared, rows, listener, steps))
        write_json(
            out / "ablation.json",
            {
                "data_fingerprint": prepared.info["fingerprint"],
                "overrides": [*SMALL, *overrides],
                "utterances": len(rows),
                "sample": asdict(SampleConfig(steps=steps, guidance=GUIDANCE)),
                "rows": [asdict(row) for row in made],
            },
        )
        yield made[-1]
