"""Figures of durations in hand-made cases, the simple ways, and whole measurements."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from voiceflow.cli import app as cli
from voiceflow.config import DurationConfig, SampleConfig, TaskConfig, UserError, load_group
from voiceflow.data.shards import Prepared, open_prepared
from voiceflow.measures.durations import (
    DRAWN,
    FEWEST,
    FLOW,
    MEAN,
    PACED,
    REGRESSION,
    USUAL_FRAMES,
    Masked,
    PhoneDurations,
    by_histograms,
    by_means,
    by_means_with_pace,
    by_network,
    correlation,
    duration_row,
    frechet_duration_distance,
    masked_span_error,
    masked_utterances,
    measure_durations,
    networks_of,
    utterances_of,
)
from voiceflow.model_folder import (
    ModelFolder,
    build_duration,
    build_duration_flow,
    save_network,
)

TINY = load_group(DurationConfig, "duration", "tiny")
SPANS = load_group(TaskConfig, "task", "duration")


def masked(
    phones: str, durations: list[int], mask: str, id: str = "u", speaker: str = "s"
) -> Masked:
    """mask: an x for each phone that is to be guessed, a dot for the others."""
    hidden = np.array([m == "x" for m in mask])
    return Masked(id, speaker, tuple(phones.split()), np.array(durations), hidden)


def arrays(*rows: list[float]) -> list[np.ndarray]:
    return [np.array(row, float) for row in rows]


@pytest.fixture(scope="module")
def opened(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    copy = tmp_path_factory.mktemp("durations") / "prepared"
    shutil.copytree(prepared, copy, ignore=shutil.ignore_patterns(".cache"))
    return open_prepared(copy)


@pytest.fixture(scope="module")
def folder(opened: Prepared, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """Untrained networks of both kinds that fit the synthetic data."""
    path = tmp_path_factory.mktemp("durations") / "model"
    torch.manual_seed(0)
    networks = {"duration": build_duration, "duration_flow": build_duration_flow}
    for name, build in networks.items():
        weights = build(TINY, opened.phones).state_dict()
        save_network(
            path, name, weights, TINY, opened.phones, opened.features, SampleConfig(), {}
        )
    return ModelFolder.open(path)


def test_the_error_counts_masked_phones_alone_and_each_phone_once() -> None:
    utterances = [
        masked("SIL A_B B_E SIL", [4, 10, 20, 0], ".xx."),
        masked("SIL A_S SIL", [3, 6, 9], "xxx"),
    ]
    sums, error = masked_span_error(arrays([99, 12, 17, 99], [3, 7, 5]), utterances)
    assert sums.tolist() == [[2 + 3, 2], [0 + 1 + 4, 3]]
    assert error == 10 / 5  # not the mean of 5 / 2 and 5 / 3


@pytest.mark.parametrize(
    ("made", "spoken", "distance"),
    [
        ([1, 3], [2, 2], 1.0),  # means 2 and 2, deviations 1 and 0
        ([5, 7, 5, 7], [4, 2], 9.0),  # means 6 and 3, deviations 1 and 1
        ([0, 8], [1, 3], 4.0 + 9.0),  # means 4 and 2, deviations 4 and 1
        ([1, 2, 9], [9, 1, 2], 0.0),
    ],
)
def test_the_frechet_distance_of_durations(
    made: list[float], spoken: list[float], distance: float
) -> None:
    found = frechet_duration_distance(np.array(made, float), np.array(spoken, float))
    assert found == pytest.approx(distance, abs=1e-12)


def test_the_frechet_distance_needs_durations() -> None:
    with pytest.raises(ValueError, match="durations on either side"):
        frechet_duration_distance(np.array([]), np.array([1.0]))


def test_correlation() -> None:
    spoken = np.array([1.0, 4.0, 2.0])
    assert correlation(2 * spoken + 3, spoken) == pytest.approx(1)
    assert correlation(-spoken, spoken) == pytest.approx(-1)
    by_hand = np.array([1.0, 2.0, 3.0])  # deviations -1 0 1 and -4/3 5/3 -1/3
    assert correlation(by_hand, spoken) == pytest.approx(1 / (2 * 42 / 9) ** 0.5)
    assert correlation(np.ones(3), spoken) is None


def test_a_row_of_what_was_spoken_is_without_fault() -> None:
    utterances = [
        masked("SIL A_S SIL", [3, 6, 9], "xxx", speaker="a"),
        masked("SIL A_S SIL", [0, 5, 2], ".xx", speaker="b"),
    ]
    row = duration_row("oracle", [u.durations for u in utterances], utterances)
    assert (row.ms_mae, row.low, row.high, row.fdd) == (0, 0, 0, 0)
    assert row.correlation == pytest.approx(1)
    assert row.fdd_spoken == 0


def test_the_distance_of_phones_leaves_pauses_out() -> None:
    utterances = [masked("SIL A_S B_S SIL", [3, 6, 8, 90], "xxx.")]
    row = duration_row("way", arrays([50, 8, 10, 90]), utterances)
    assert row.fdd > 100
    assert row.fdd_spoken == pytest.approx(4)  # means 9 and 7, equal deviations
    silent = [masked("SIL A_S", [3, 6], "x.")]
    assert duration_row("way", arrays([4, 6]), silent).fdd_spoken is None


def test_the_interval_is_drawn_over_speakers() -> None:
    """Two speakers, errors 1 and 3: a draw of two has a mean of 1, 2 or 3."""
    utterances = [masked("A_S B_S", [9, 9], "xx", speaker=s) for s in "aabb"]
    predicted = arrays([8, 10], [10, 10], [6, 12], [12, 12])
    row = duration_row("way", predicted, utterances)
    assert (row.ms_mae, row.low, row.high) == (2, 1, 3)


def training(**durations: list[int]) -> PhoneDurations:
    """One utterance for each phone, all of that phone."""
    return PhoneDurations([([p] * len(d), np.array(d)) for p, d in durations.items()])


MANY = FEWEST + 10


def test_a_rare_phone_is_taken_with_its_other_places_and_a_rare_base_with_all() -> None:
    classes = training(
        AA_B=[4] * MANY, AA_E=[10] * MANY, AA_S=[90] * (FEWEST - 1), ZH_I=[50] * (FEWEST - 1)
    )
    assert classes["AA_B"].tolist() == [4] * MANY
    assert sorted(classes["AA_S"]) == [4] * MANY + [10] * MANY + [90] * (FEWEST - 1)
    assert len(classes["ZH_I"]) == len(classes["never"]) == 2 * MANY + 2 * (FEWEST - 1)
    assert classes.means(["AA_B", "AA_E", "AA_B"]).tolist() == [4, 10, 4]


def test_no_training_durations() -> None:
    with pytest.raises(UserError, match="no training durations"):
        PhoneDurations([])


def test_means_are_whole_frames() -> None:
    classes = training(AA_B=[4, 5] * MANY, SIL=[0, 0, 0, 7] * MANY)
    item = masked("SIL AA_B", [9, 9], "xx")
    assert [d.tolist() for d in by_means(classes, [item, item])] == [[2, 4], [2, 4]]


def test_the_pace_is_that_of_the_contexts_spoken_phones() -> None:
    """Of 40 and 60 usual frames, 200 were spoken; neither silence nor what is masked counts."""
    classes = training(SIL=[6] * MANY, AA_B=[40] * MANY, AA_E=[60] * MANY)
    item = masked("SIL AA_B AA_E SIL AA_B SIL", [70, 90, 110, 0, 99, 99], "....xx")
    assert USUAL_FRAMES == 100
    assert classes.pace(item) == pytest.approx(1.5)
    [found] = by_means_with_pace(classes, [item])
    assert found[item.mask].tolist() == [60, 6]  # a pause is not scaled
    alone = replace(item, mask=np.ones(6, bool))
    assert classes.pace(alone) == 1
    assert by_means_with_pace(classes, [alone])[0].tolist() == [6, 40, 60, 6, 40, 6]
    silent = masked("SIL AA_B", [60, 9], ".x")
    assert classes.pace(silent) == 1


def test_histograms_are_drawn_from_as_the_durations_occur() -> None:
    classes = training(SIL=[0] * 60 + [8] * 30 + [40] * 10, AA_B=[3] * MANY)
    items = [masked("SIL AA_B " * 50, [0] * 100, "x" * 100, id=f"u{i}") for i in range(40)]
    found = by_histograms(classes, 0, items)
    silences = np.concatenate([f[::2] for f in found])
    for frames, share in ((0, 0.6), (8, 0.3), (40, 0.1)):
        assert (silences == frames).mean() == pytest.approx(share, abs=0.04)
    assert all((f[1::2] == 3).all() for f in found)
    assert (found[0] != found[1]).any()
    again = by_histograms(classes, 0, items[::-1])[::-1]
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    assert any((a != b).any() for a, b in zip(found, by_histograms(classes, 1, items), strict=True))


def test_masks_depend_on_seed_and_id_alone_and_drop_no_condition(opened: Prepared) -> None:
    first = masked_utterances(opened, SPANS, 0)
    again = masked_utterances(opened, SPANS, 0)
    assert [u.id for u in first] == [str(i) for i in opened.dataset["id"]]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(first, again, strict=True))
    assert all(u.mask.any() and len(u.mask) == len(u.durations) for u in first)
    other = masked_utterances(opened, SPANS, 1)
    assert any((a.mask != b.mask).any() for a, b in zip(first, other, strict=True))
    always = replace(SPANS, p_unconditional=1.0, p_mask_all=0.0, mask_ratio_max=0.5)
    assert not any(u.mask.all() for u in masked_utterances(opened, always, 0))


def test_utterances_of_prepared_data(opened: Prepared) -> None:
    rows = list(utterances_of(opened))
    assert len(rows) == 24
    for i, (id, speaker, phones, durations) in enumerate(rows):
        row = opened.framed(i)
        assert (id, speaker) == (row[0], "speaker")
        assert opened.phones.ids(phones) == list(row[1])
        assert np.array_equal(durations, row[2])


def test_networks_are_asked_in_batches_and_answers_keep_their_places(
    opened: Prepared, folder: ModelFolder
) -> None:
    utterances = masked_utterances(opened, SPANS, 0)
    sizes = []

    def numbers(items: list[Masked], *told: torch.Tensor) -> torch.Tensor:
        phones, durations, mask, lengths = told
        assert lengths.tolist() == [len(u.phones) for u in items]
        assert torch.equal(mask[0, : lengths[0]], torch.from_numpy(items[0].mask))
        sizes.append(len(items))
        return durations + phones

    found = by_network(folder, numbers, utterances)
    assert sizes == [16, 8]
    for utterance, frames in zip(utterances, found, strict=True):
        ids = np.array(opened.phones.ids(utterance.phones))
        assert np.array_equal(frames, utterance.durations + ids)


def test_a_networks_durations_depend_on_the_seed_and_not_on_who_is_beside(
    opened: Prepared, folder: ModelFolder
) -> None:
    utterances = masked_utterances(opened, SPANS, 0)
    networks = networks_of(folder, 0, steps=2)
    assert list(networks) == [REGRESSION, FLOW]
    for predict in networks.values():
        together, some = predict(utterances), predict(utterances[5:7])
        assert np.array_equal(together[5], some[0]) and np.array_equal(together[6], some[1])
    other = networks_of(folder, 1, steps=2)
    assert any(
        (a != b).any()
        for a, b in zip(networks[FLOW](utterances), other[FLOW](utterances), strict=True)
    )


def test_a_measurement(
    opened: Prepared, folder: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = measure_durations(folder, opened, opened, steps=2, out=tmp_path / "figures.json")
    assert [row.way for row in rows] == [MEAN, PACED, DRAWN, REGRESSION, FLOW]
    shown = capsys.readouterr().out
    assert all(f"{row.way:<16}{row.ms_mae:8.3f}" in shown for row in rows)
    assert "24 utterances are in the training data too" in shown
    record = json.loads((tmp_path / "figures.json").read_text())
    assert [r["ms_mae"] for r in record["rows"]] == [row.ms_mae for row in rows]
    assert record["data"] == record["training_data"] == "synthetic"
    assert all(row.low == pytest.approx(row.ms_mae) for row in rows)  # of one speaker
    # Phones last 4 to 8 frames, evenly: a mean of 6 is off by 1.2, a draw by 1.6.
    assert rows[0].ms_mae < rows[2].ms_mae < rows[3].ms_mae
    again = measure_durations(folder, opened, opened, steps=2)
    assert again == rows


def test_the_verb(opened: Prepared, folder: ModelFolder) -> None:
    data = [f"--{name}={opened.store.address}" for name in ("data", "train")]
    told = ["measure", "durations", f"--voice={folder.path}", *data, "--limit=4", "--steps=1"]
    shown = CliRunner().invoke(cli.app, told)
    assert shown.exit_code == 0, shown.output
    assert "4 utterances of 1 speakers, frames of 10 ms" in shown.output
    assert [line.split()[0] for line in shown.output.splitlines()[2:]] == [
        "mean", "mean", "histogram", "regression", "flow",
    ]  # fmt: skip


def test_the_verb_shows_an_example() -> None:
    shown = CliRunner().invoke(cli.app, ["measure", "durations", "--help"], env={"COLUMNS": "100"})
    assert "voiceflow measure durations" in shown.output.split("Example:")[1]


def test_data_that_do_not_fit(opened: Prepared, folder: ModelFolder) -> None:
    slower = replace(opened, features=replace(opened.features, hop=200))
    with pytest.raises(UserError, match=r"the test data have different .* \(hop 160 / 200\)"):
        measure_durations(folder, slower, opened)
    louder = replace(opened, features=replace(opened.features, mean=-1.0))
    assert measure_durations(folder, louder, opened, limit=2, steps=1)
    stressed = replace(opened, phones=type(opened.phones).english(stress=True))
    with pytest.raises(UserError, match="the training data have different phone tables"):
        measure_durations(folder, opened, stressed)
