"""How near predicted durations come to the spoken ones, beside three simple ways to guess them.

Utterances are masked as in the training of a duration network, but for dropped conditions; what
is measured is on masked phones alone, in frames (Le et al. 2023, appendix C.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from voiceflow import __version__
from voiceflow.config import TaskConfig, UserError, load_group
from voiceflow.data.masking import draw_mask, generator_for
from voiceflow.data.shards import Prepared
from voiceflow.files import write_json
from voiceflow.generation.durations import regressed_durations, sampled_durations
from voiceflow.measures.bootstrap import bootstrap_interval
from voiceflow.measures.subject import fingerprint
from voiceflow.model_folder import ModelFolder
from voiceflow.models.duration import DurationFlowNetwork
from voiceflow.text.phones import SILENCE, base_of

MEAN, PACED, DRAWN = "mean", "mean with pace", "histogram draw"
REGRESSION, FLOW = "regression", "flow"
FEWEST = 10  # durations of a phone, for it to be a class of its own
USUAL_FRAMES = 100  # of usual speech that stand beside a context: of a few phones, pace is noise
BATCH = 16  # utterances predicted at once


@dataclass(frozen=True)
class Masked:
    """An utterance's phones (N), their durations (N,) int64 frames, and which are to be guessed.

    mask: (N,) True on phones whose duration no way may look at.
    """

    id: str
    speaker: str
    phones: tuple[str, ...]
    durations: np.ndarray
    mask: np.ndarray


Predict = Callable[[Sequence[Masked]], list[np.ndarray]]
"""Utterances -> the durations (N,) of each, whole frames; on context they are not looked at."""


def utterances_of(prepared: Prepared) -> Iterator[tuple[str, str, tuple[str, ...], np.ndarray]]:
    """Id, speaker, phones (N) and durations (N,) int64 of every row."""
    for row in prepared.dataset.select_columns(["id", "speaker", "phones", "durations"]):
        durations = np.asarray(row["durations"], dtype=np.int64)
        yield str(row["id"]), str(row["speaker"]), tuple(map(str, row["phones"])), durations


def masked_utterances(prepared: Prepared, task: TaskConfig, seed: int) -> list[Masked]:
    """Every utterance with a mask drawn by seed and id, as `task` says, no condition dropped."""
    task = replace(task, p_unconditional=0.0)
    found = []
    for id, speaker, phones, durations in utterances_of(prepared):
        generator = generator_for("durations", seed, id)
        mask = draw_mask(torch.ones(len(durations)), task, generator).mask.numpy()
        found.append(Masked(id, speaker, phones, durations, mask))
    return found


class PhoneDurations:
    """The durations of training data by class: a phone in its place in the word (AH_B).

    The place counts since a word's last phone is longer, and the networks are told it as well. A
    phone of fewer than `FEWEST` durations is taken with its other places (AH), and a base phone of
    fewer with all phones.
    """

    def __init__(self, utterances: Sequence[tuple[Sequence[str], np.ndarray]]) -> None:
        """utterances: phones (N) and durations (N,) of each. UserError where there are none."""
        if not utterances:
            raise UserError("no training durations: prepare the training data first")
        phones = np.concatenate([np.asarray(p) for p, _ in utterances])
        self._all = np.concatenate([d for _, d in utterances])
        bases = np.asarray([base_of(phone) for phone in phones])
        self._phones = {p: self._all[phones == p] for p in np.unique(phones)}
        self._bases = {b: self._all[bases == b] for b in np.unique(bases)}
        self._means: dict[str, float] = {}

    @staticmethod
    def of(prepared: Prepared) -> PhoneDurations:
        """Of all utterances of prepared data."""
        return PhoneDurations([(p, d) for _, _, p, d in utterances_of(prepared)])

    def __getitem__(self, phone: str) -> np.ndarray:
        """The durations (n,) of the phone's class, frames."""
        for classes, name in ((self._phones, phone), (self._bases, base_of(phone))):
            if len(found := classes.get(name, self._all[:0])) >= FEWEST:
                return found
        return self._all

    def means(self, phones: Sequence[str]) -> np.ndarray:
        """(N,) mean frames of each phone's class, real numbers."""
        for phone in set(phones) - set(self._means):
            self._means[phone] = float(self[phone].mean())
        return np.array([self._means[phone] for phone in phones])

    def pace(self, utterance: Masked) -> float:
        """How much longer the context's spoken phones last than such phones' means; 1: no context.

        The ratio of the two sums, with `USUAL_FRAMES` added to each. Silences do not count: pauses
        are no measure of pace.
        """
        known = ~utterance.mask & (np.asarray(utterance.phones) != SILENCE)
        usual = float(self.means(utterance.phones)[known].sum())
        return (float(utterance.durations[known].sum()) + USUAL_FRAMES) / (usual + USUAL_FRAMES)


def by_means(classes: PhoneDurations, utterances: Sequence[Masked]) -> list[np.ndarray]:
    """Each phone's mean."""
    return [np.rint(classes.means(u.phones)) for u in utterances]


def by_means_with_pace(classes: PhoneDurations, utterances: Sequence[Masked]) -> list[np.ndarray]:
    """Each phone's mean, that of spoken ones times the pace of the utterance's context."""
    found = []
    for utterance in utterances:
        spoken = np.asarray(utterance.phones) != SILENCE
        scale = np.where(spoken, classes.pace(utterance), 1.0)
        found.append(np.rint(classes.means(utterance.phones) * scale))
    return found


def by_histograms(
    classes: PhoneDurations, seed: int, utterances: Sequence[Masked]
) -> list[np.ndarray]:
    """A draw from the durations of each phone's class, by seed and id."""
    found = []
    for utterance in utterances:
        generator = generator_for("histogram", seed, utterance.id)
        places = torch.rand(len(utterance.phones), generator=generator).tolist()
        pairs = zip(map(classes.__getitem__, utterance.phones), places, strict=True)
        found.append(np.array([seen[int(place * len(seen))] for seen, place in pairs], float))
    return found


def by_network(
    folder: ModelFolder,
    predict: Callable[..., Tensor],
    utterances: Sequence[Masked],
) -> list[np.ndarray]:
    """A network's durations, in batches of utterances of like length.

    predict: (utterances, phones, durations, mask (B, N) each, lengths (B,)) -> frames (B, N).
    """
    order = sorted(range(len(utterances)), key=lambda i: len(utterances[i].phones))
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        items = [utterances[i] for i in places]
        phones = [torch.tensor(folder.phones.ids(u.phones)) for u in items]
        durations = [torch.from_numpy(u.durations) for u in items]
        mask = [torch.from_numpy(u.mask) for u in items]
        lengths = torch.tensor([len(p) for p in phones])
        told = [pad_sequence(values, batch_first=True) for values in (phones, durations, mask)]
        frames = predict(items, *told, lengths).numpy()
        found |= {i: row[:n] for i, row, n in zip(places, frames, lengths.tolist(), strict=True)}
    return [found[i] for i in range(len(utterances))]


def networks_of(folder: ModelFolder, seed: int, **settings: Any) -> dict[str, Predict]:
    """The duration networks that a folder has; settings: of `sampled_durations`."""
    found: dict[str, Predict] = {}
    if folder.config.duration is not None:
        network = folder.load("duration")
        found[REGRESSION] = partial(
            by_network, folder, lambda _, *told: regressed_durations(network, *told)
        )
    if folder.config.duration_flow is not None:
        flow = folder.load("duration_flow")
        assert isinstance(flow, DurationFlowNetwork)

        def draw(items: Sequence[Masked], *told: Tensor) -> Tensor:
            generators = [generator_for("flow", seed, item.id) for item in items]
            return sampled_durations(flow, *told, generators=generators, **settings)

        found[FLOW] = partial(by_network, folder, draw)
    return found


def masked_span_error(
    predicted: Sequence[np.ndarray], utterances: Sequence[Masked]
) -> tuple[np.ndarray, float]:
    """Absolute error and number of masked phones of each utterance (U, 2), and MS-MAE in frames.

    MS-MAE is the sum of the errors over the number of phones, all utterances together (Le et al.
    2023, appendix C.2). predicted: (N,) of each utterance.
    """
    pairs = zip(predicted, utterances, strict=True)
    sums = np.array([[np.abs(p - u.durations)[u.mask].sum(), u.mask.sum()] for p, u in pairs])
    return sums, float(sums[:, 0].sum() / sums[:, 1].sum())


def correlation(predicted: np.ndarray, spoken: np.ndarray) -> float | None:
    """Pearson's, of durations (n,) phone by phone; None where one of them does not vary.

    The paper's MS-Corr is another: that of speaking rates (Le et al. 2023, appendix C.2).
    """
    if predicted.std() == 0 or spoken.std() == 0:
        return None
    return float(np.corrcoef(predicted, spoken)[0, 1])


def frechet_duration_distance(predicted: np.ndarray, spoken: np.ndarray) -> float:
    """FDD of durations (n,) and (m,): (m1 - m2)^2 + (s1 - s2)^2, in frames squared.

    m, s: means and deviations, the durations of each set being taken for one Gaussian (Le et al.
    2023, appendix C.2). Raises ValueError for an empty set.
    """
    if not len(predicted) or not len(spoken):
        raise ValueError("FDD needs durations on either side")
    between_means = predicted.mean() - spoken.mean()
    between_deviations = predicted.std() - spoken.std()
    return float(between_means**2 + between_deviations**2)


@dataclass(frozen=True)
class DurationRow:
    """One way's figures: ms_mae in frames, its 95 % interval over speakers, fdd in frames^2, and
    that of spoken phones alone: a few long pauses weigh more in fdd than all phones.
    """

    way: str
    ms_mae: float
    low: float
    high: float
    correlation: float | None
    fdd: float
    fdd_spoken: float | None

    def __str__(self) -> str:
        interval = f"{self.low:.3f} to {self.high:.3f}"
        phones = "-" if self.fdd_spoken is None else f"{self.fdd_spoken:.3f}"
        alike = "-" if self.correlation is None else f"{self.correlation:.3f}"
        figures = f"{self.ms_mae:>8.3f}{interval:>18}{alike:>13}{self.fdd:>9.3f}{phones:>11}"
        return f"{self.way:<16}{figures}"


HEADER = f"{'':<16}{'MS-MAE':>8}{'95 % interval':>18}{'correlation':>13}{'FDD':>9}{'of phones':>11}"


def duration_row(
    way: str, predicted: Sequence[np.ndarray], utterances: Sequence[Masked]
) -> DurationRow:
    """The figures of durations (N,) of each utterance, on its masked phones."""
    sums, error = masked_span_error(predicted, utterances)
    speakers = [u.speaker for u in utterances]
    low, high = bootstrap_interval(sums, speakers, lambda means: means[:, 0] / means[:, 1])
    made = np.concatenate([p[u.mask] for p, u in zip(predicted, utterances, strict=True)])
    spoken = np.concatenate([u.durations[u.mask] for u in utterances])
    alike, distance = correlation(made, spoken), frechet_duration_distance(made, spoken)
    phones = np.concatenate([np.asarray(u.phones)[u.mask] for u in utterances]) != SILENCE
    of_phones = frechet_duration_distance(made[phones], spoken[phones]) if phones.any() else None
    return DurationRow(way, error, low, high, alike, distance, of_phones)


def measure_durations(
    folder: ModelFolder,
    test: Prepared,
    train: Prepared,
    *,
    limit: int | None = None,
    seed: int = 0,
    steps: int = 16,
    guidance: float = 0.0,
    solver: str = "midpoint",
    out: Path | None = None,
) -> list[DurationRow]:
    """Mask phones of test utterances, guess their durations in every way, print the figures.

    train: where the simple ways have their durations from. The masks are those of
    conf/task/duration, the same for all ways; every way gives whole frames. steps, guidance and
    solver: the flow's, of which one sample is taken. out: where to write the figures as JSON.
    Raises UserError where front ends or phones differ, or there are no utterances.
    """
    for name, prepared in (("the test data", test), ("the training data", train)):
        _require_alike(folder, prepared, name)
    task = load_group(TaskConfig, "task", "duration")
    utterances = masked_utterances(test, task, seed)[:limit]
    if not utterances:
        raise UserError("the test data hold no utterances: prepare some with `voiceflow prepare`")
    classes = PhoneDurations.of(train)
    settings = {"steps": steps, "guidance": guidance, "solver": solver}
    ways: dict[str, Predict] = {
        MEAN: partial(by_means, classes),
        PACED: partial(by_means_with_pace, classes),
        DRAWN: partial(by_histograms, classes, seed),
        **networks_of(folder, seed, **settings),
    }
    rows = [duration_row(way, predict(utterances), utterances) for way, predict in ways.items()]
    shared = {u.id for u in utterances} & {id for id, *_ in utterances_of(train)}
    n_masked = sum(int(u.mask.sum()) for u in utterances)
    print(
        f"{n_masked} masked phones in {len(utterances)} utterances of "
        f"{len({u.speaker for u in utterances})} speakers, frames of "
        f"{1000 * test.features.hop_seconds:g} ms; {len(shared)} utterances are in the training "
        "data too"
    )
    print(HEADER, *rows, sep="\n")
    if out is not None:
        record = {
            "voiceflow": __version__,
            "voice": str(folder.path),
            "voice_fingerprint": fingerprint(folder.path),
            "data": test.info["fingerprint"],
            "training_data": train.info["fingerprint"],
            "seed": seed,
            "masks": {k: v for k, v in asdict(task).items() if k.startswith(("p_mask", "mask_"))},
            "flow": settings,
            "classes": f"phones in their places in words, of at least {FEWEST} durations",
            "utterances": len(utterances),
            "masked_phones": n_masked,
            "utterances_in_training_data": len(shared),
            "rows": [asdict(row) for row in rows],
        }
        write_json(out, record)
    return rows


def _require_alike(folder: ModelFolder, prepared: Prepared, name: str) -> None:
    """UserError unless the data have the model's phones and, statistics aside, its front end."""
    theirs = prepared.features
    mine = replace(folder.features, mean=theirs.mean, std=theirs.std)
    mine.require(theirs, str(folder.path), name)
    if folder.phones != prepared.phones:
        raise UserError(
            f"{folder.path} and {name} have different phone tables: prepare the data with the "
            "dictionary and the stress option the model was trained with"
        )
