"""Intervals against what can be counted and what is known of means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.measures.bootstrap import bootstrap_interval


def first(means: np.ndarray) -> np.ndarray:
    return means[:, 0]


def share(means: np.ndarray) -> np.ndarray:
    return means[:, 0] / means[:, 1]


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=9))
def test_one_speaker_leaves_nothing_to_draw(values: list[float]) -> None:
    found = bootstrap_interval(np.array(values)[:, None], ["a"] * len(values), first, draws=50)
    assert found == pytest.approx((np.mean(values),) * 2)


def test_of_two_speakers_a_quarter_of_the_draws_holds_each_twice() -> None:
    values, speakers = np.array([[0.0], [1.0]]), ["a", "b"]
    assert bootstrap_interval(values, speakers, first) == (0.0, 1.0)
    assert bootstrap_interval(values, speakers, first, level=0.52) == (0.0, 1.0)
    assert bootstrap_interval(values, speakers, first, level=0.48) == (0.5, 0.5)


def test_a_speaker_brings_all_utterances() -> None:
    # a: 0, 0, 0; b: 1. A draw of both has the mean over utterances, not over speakers.
    values, speakers = np.array([[0.0], [1.0], [0.0], [0.0]]), ["a", "b", "a", "a"]
    assert bootstrap_interval(values, speakers, first, level=0.48) == (0.25, 0.25)
    assert bootstrap_interval(values, speakers, first) == (0.0, 1.0)


def test_rows_stay_paired() -> None:
    random = np.random.default_rng(0)
    whole = random.uniform(1, 5, size=40)
    values = np.stack([0.25 * whole, whole], axis=1)
    found = bootstrap_interval(values, [f"s{i // 2}" for i in range(40)], share)
    assert found == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize(("level", "deviations"), [(0.95, 1.960), (0.6827, 1.0)])
def test_of_many_speakers_it_is_the_normal_interval_of_the_mean(
    level: float, deviations: float
) -> None:
    values = np.random.default_rng(1).normal(3, 2, size=(400, 1))
    speakers = [str(i) for i in range(400)]
    low, high = bootstrap_interval(values, speakers, first, level=level)
    half = deviations * values.std() / 400**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_utterances_of_one_speaker_are_no_further_evidence() -> None:
    values = np.random.default_rng(2).normal(size=(30, 1))
    speakers = [str(i) for i in range(30)]
    once = bootstrap_interval(values, speakers, first)
    assert bootstrap_interval(np.tile(values, (9, 1)), speakers * 9, first) == pytest.approx(once)


def test_order_does_not_count_and_the_seed_does() -> None:
    random = np.random.default_rng(3)
    values = random.uniform(1, 2, size=(20, 2))
    speakers = [f"s{i % 7}" for i in range(20)]
    found = bootstrap_interval(values, speakers, share, seed=4)
    order = random.permutation(20)
    shuffled = bootstrap_interval(values[order], [speakers[i] for i in order], share, seed=4)
    assert shuffled == pytest.approx(found, rel=1e-12)
    assert bootstrap_interval(values, speakers, share, seed=5) != found
    assert found[0] < values[:, 0].sum() / values[:, 1].sum() < found[1]


@pytest.mark.parametrize(("rows", "speakers"), [(0, []), (2, ["a"]), (1, ["a", "b"])])
def test_a_speaker_for_each_row(rows: int, speakers: list[str]) -> None:
    with pytest.raises(ValueError, match="a speaker for each row"):
        bootstrap_interval(np.zeros((rows, 1)), speakers, first)
