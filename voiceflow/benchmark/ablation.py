"""The paper's choices one by one: the same small training, each with one thing otherwise.

Le et al. 2023 compare the path, the loss on masked frames with that on all, and guidance, which
needs the conditions dropped in training. Each variant fills the middle third of held-out
utterances, unheard, with the phones' own durations; a phone recogniser that was trained apart says
how many of its outputs there are the phone that they should be.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from voiceflow.config import SampleConfig, UserError
from voiceflow.data.dataset import split
from voiceflow.data.shards import Framed, Prepared, open_prepared
from voiceflow.generation.plan import Plan
from voiceflow.generation.sample import sample
from voiceflow.model_folder import ModelFolder
from voiceflow.models.aligner import BLANK, PhoneRecogniser
from voiceflow.text.phones import NONE, SILENCE, base_of
from voiceflow.training.samples import plans

SMALL = (
    "model=mini", "model.width=128", "model.layers=4", "model.feed_forward=512",
    "model.phone_width=128", "train=cpu", "train.updates=1500", "train.validation_utterances=32",
)  # fmt: skip
VARIANTS: dict[str, tuple[str, ...]] = {
    "the paper's": (),
    "loss on all frames": ("task.loss_frames=all",),
    "diffusion path": ("task.path=variance_preserving",),
    "conditions never dropped": ("task.p_unconditional=0",),
    "short spans (10 to 100 %)": ("task.mask_ratio_min=0.1",),
}
GUIDANCE = 0.7
SEED = 0


@dataclass(frozen=True)
class Row:
    """A variant's figures over the gaps of all utterances.

    error: mean absolute difference of natural log-mels of one sample; variance: over time and
    bands, relative to the original's; phones: share of the recogniser's outputs that are right.
    """

    name: str
    guidance: float
    error: float
    variance: float
    phones: float


class Judge:
    """A phone recogniser that hears mels, and counts its outputs that are as they should be."""

    def __init__(self, voice: str) -> None:
        folder = ModelFolder.open(voice)
        network = folder.load("aligner")
        assert isinstance(network, PhoneRecogniser)
        self._network, self._features = network, folder.features
        bases = folder.phones.bases()
        self._classes = {
            s: BLANK if s in (NONE, SILENCE) else bases.index(base_of(s))
            for s in folder.phones.symbols
        }

    @torch.no_grad()
    def right(self, mel: Tensor, plan: Plan) -> tuple[int, int]:
        """How many outputs in the gap are right, and how many there are; mel (T, M) as features."""
        heard = self._network(self._features.normalise(mel)[None], torch.tensor([len(mel)]))
        frames = torch.arange(heard.shape[1]) * self._network.stride
        labels = torch.tensor([self._classes[p] for p in plan.phones])
        wanted = labels.repeat_interleave(torch.tensor(plan.durations))[frames]
        inside = plan.mask[frames]
        return int((heard[0].argmax(-1) == wanted)[inside].sum()), int(inside.sum())


def train_variants(data: str, out: Path, overrides: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Train each variant in a process of its own, or go on with it; its name and model folder.

    Raises UserError when a training fails.
    """
    for name, own in VARIANTS.items():
        folder = out / "".join(c if c.isalnum() else "-" for c in name)
        words = ["task=velocity", f"data={data}", f"out={folder}", *SMALL, *overrides, *own]
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

    def filled(plan: Plan, _: Tensor) -> Tensor:
        drawn = sample(network, plan, folder.phones, settings, SEED).mel[0]
        return prepared.features.denormalise(drawn)

    return _row(name, guidance, prepared, rows, judge, filled)


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
    data: str, out: Path, overrides: Sequence[str], utterances: int, steps: int, judge: str
) -> Iterator[Row]:
    """The original's row, then each variant's as it is done; figures also in out/ablation.json."""
    from voiceflow.files import write_json

    prepared = open_prepared(data)
    _, held_out = split(prepared, utterances)
    if not held_out:
        raise UserError(f"{data} has too few utterances to hold any out: prepare more")
    rows = prepared.rows(held_out)
    listener = Judge(judge)
    made = [measure_original(prepared, rows, listener)]
    yield made[0]
    for name, model in train_variants(data, out, overrides):
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
