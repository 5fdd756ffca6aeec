"""The Frechet distance against its closed form, and what the vectors are made of."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.measures.frechet import LogMelVectors, ResemblyzerVectors, frechet_distance
from voiceflow.measures.scorer import Scorer, SetMetric, Sound, set_distance


def covariance(random: np.random.Generator, size: int) -> np.ndarray:
    factor = random.normal(size=(size, size))
    return factor @ factor.T + 0.1 * np.eye(size)


def with_moments(
    random: np.random.Generator, n: int, mean: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """n vectors of which the sample's mean and unbiased covariance are these."""
    raw = random.normal(size=(n, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T)).T)
    return white @ np.linalg.cholesky(covariance).T + mean


def closed_form(m1: np.ndarray, s1: np.ndarray, m2: np.ndarray, s2: np.ndarray) -> float:
    """By the eigenvalues of S1 S2, which are real and not negative."""
    roots = np.sqrt(np.linalg.eigvals(s1 @ s2).real.clip(min=0))
    return float(((m1 - m2) ** 2).sum() + np.trace(s1 + s2) - 2 * roots.sum())


@given(st.integers(0, 1000), st.integers(2, 8))
def test_sets_with_given_moments_are_apart_as_the_formula_says(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    m1, m2 = random.normal(size=(2, size))
    s1, s2 = covariance(random, size), covariance(random, size)
    one = with_moments(random, 3 * size, m1, s1)
    other = with_moments(random, 5 * size, m2, s2)
    wanted = closed_form(m1, s1, m2, s2)
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-6, abs=1e-8)


def test_many_samples_of_two_normal_distributions() -> None:
    random = np.random.default_rng(1)
    m1, m2 = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0])
    s1, s2 = covariance(random, 3), covariance(random, 3)
    one = random.multivariate_normal(m1, s1, 100_000)
    other = random.multivariate_normal(m2, s2, 100_000)
    wanted = closed_form(m1, s1, m2, s2)
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=0.02)


def test_by_hand() -> None:
    # Deviations sqrt(2) and 3 sqrt(2), means 0 and 5: 25 + (2 sqrt(2))^2.
    assert frechet_distance(np.array([[-1.0], [1]]), np.array([[2.0], [8]])) == pytest.approx(33)


@given(st.integers(0, 1000), st.integers(2, 40), st.integers(2, 40), st.integers(1, 30))
def test_symmetric_zero_for_itself_and_never_negative(seed: int, n: int, m: int, d: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(size=(n, d)), 3 * random.normal(size=(m, d)) + 1
    there, back = frechet_distance(one, other), frechet_distance(other, one)
    assert there == pytest.approx(back, rel=1e-9)
    assert there > 0
    assert 0 <= frechet_distance(one, one) < 1e-10
    assert 0 <= frechet_distance(one, random.permutation(one)) < 1e-10
    moved = one + np.arange(d)
    assert frechet_distance(moved, one) == pytest.approx((np.arange(d) ** 2).sum(), abs=1e-9)


def test_fewer_vectors_than_numbers_and_sets_without_any_spread() -> None:
    random = np.random.default_rng(2)
    one, other = random.normal(size=(5, 256)), random.normal(size=(7, 256))
    everything = np.concatenate([one, other])
    # The same in the space that the vectors span, where nothing is degenerate in excess.
    axes = np.linalg.svd(everything, full_matrices=False)[2].T
    assert frechet_distance(one, other) == pytest.approx(
        frechet_distance(one @ axes, other @ axes), rel=1e-9
    )
    still = np.ones((4, 3))
    assert frechet_distance(still, still) == 0
    assert frechet_distance(still, 3 * still) == pytest.approx(12)


def test_components_are_those_of_the_originals() -> None:
    random = np.random.default_rng(3)
    original = random.normal(size=(50, 6)) * [9, 5, 0.1, 0.1, 0.1, 0.1]
    made = original + [0, 1, 70, 0, 0, 0]  # far off only where the originals hardly go
    assert frechet_distance(made, original) > 4900
    assert frechet_distance(made, original, components=2) < 10
    turned = np.linalg.qr(random.normal(size=(6, 6)))[0]
    assert frechet_distance(made @ turned, original @ turned, components=2) == pytest.approx(
        frechet_distance(made, original, components=2)
    )


def test_no_more_components_are_taken_than_there_are() -> None:
    random = np.random.default_rng(4)
    made, original = random.normal(size=(20, 4)), random.normal(size=(30, 4))
    whole = frechet_distance(made, original)
    assert frechet_distance(made, original, components=4) == pytest.approx(whole)
    assert frechet_distance(made, original, components=100) == pytest.approx(whole)
    few = original[:3]
    assert frechet_distance(made, few, components=100) == pytest.approx(
        frechet_distance(made, few, components=2)
    )


def test_shapes_that_do_not_fit() -> None:
    good = np.zeros((4, 3))
    for bad in (np.zeros((4, 2)), np.zeros(3), np.zeros((1, 4, 3))):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(ValueError, match="expected"):
                frechet_distance(*pair)
    with pytest.raises(ValueError, match="two vectors"):
        frechet_distance(good[:1], good)
    with pytest.raises(ValueError, match="two vectors"):
        frechet_distance(good, good[:0])
    with pytest.raises(ValueError, match="components"):
        frechet_distance(good, good, components=0)


def sound(wave: np.ndarray, generated: tuple[int, int] | None = None) -> Sound:
    return Sound("trial", wave.astype(np.float32), "", generated or (0, len(wave)))


def heard(scorer: Scorer, *sounds: Sound) -> list[Any]:
    """What it tells of each."""
    return list(scorer.score(sounds))


def test_log_mel_vectors_are_of_what_was_generated() -> None:
    random = np.random.default_rng(5)
    part = random.normal(0, 0.1, 8000)
    whole = np.concatenate([random.normal(size=4000), part, np.zeros(1000)])
    scorer = LogMelVectors()
    found, alone, louder, short, silent = heard(
        scorer,
        sound(whole, (4000, 12000)),
        sound(part),
        sound(2 * part),
        sound(part[:512]),
        sound(np.zeros(2000)),
    )
    assert found == alone
    assert short == {"statistics": None}
    mel = scorer._log_mel(torch.from_numpy(part)).numpy()
    assert alone["statistics"] == pytest.approx([*mel.mean(0), *mel.std(0)], abs=1e-4)
    apart = np.subtract(louder["statistics"], alone["statistics"])
    assert apart == pytest.approx([np.log(2)] * 80 + [0] * 80, abs=1e-5)
    assert silent["statistics"] == pytest.approx([np.log(1e-5)] * 80 + [0] * 80, abs=1e-5)


def test_resemblyzer_vectors(short_ones: list[Utterance]) -> None:
    pytest.importorskip("resemblyzer")
    one, other = (load_mono(u.audio, SAMPLE_RATE) for u in short_ones)
    scorer = ResemblyzerVectors()
    n = len(one)
    around = np.concatenate([other, one])
    sounds = [sound(one), sound(around, (len(other), len(other) + n)), sound(other)]
    edges = [sound(np.zeros(8000)), sound(one, (5, 5)), sound(one, (16000, 16160))]
    first, same, second, *rest = (score["embedding"] for score in heard(scorer, *sounds, *edges))
    assert first == same and len(first) == 256
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert np.dot(first, second) < 0.9
    assert rest[:2] == [None, None] and np.isfinite(rest[2]).all()
    (metric,) = scorer.metrics.values()
    assert isinstance(metric, SetMetric)
    scores = heard(scorer, *sounds)
    itself = set_distance(metric, scores, scores)
    assert itself is not None and itself.value == pytest.approx(0, abs=1e-9)
    assert set_distance(metric, scores[:1], scores) is None


def test_without_the_library_there_is_no_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[eval\]'"):
        ResemblyzerVectors()
