"""Spans, drops and crops: whole phones, the shares asked for, the same for the same key."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from voiceflow.config import TaskConfig, load_group
from voiceflow.data.masking import crop_phones, draw_mask, generator_for, uniform

SPANS = TaskConfig(p_mask_all=0.0, p_unconditional=0.0)
lengths_of_phones = st.lists(st.integers(0, 40), min_size=1, max_size=60)
seeds = st.integers(0, 10**6)


def runs(mask: Tensor) -> int:
    """How many runs of True there are."""
    padded = torch.nn.functional.pad(mask.int(), (1, 1))
    return int((padded.diff() == 1).sum())


@given(lengths_of_phones, seeds, st.sampled_from(["velocity", "duration"]))
def test_the_mask_is_one_run_of_whole_phones(lengths: list[int], seed: int, task: str) -> None:
    draw = draw_mask(
        torch.tensor(lengths), load_group(TaskConfig, "task", task), generator_for(seed)
    )
    assert draw.mask.shape == (len(lengths),)
    assert runs(draw.mask) == 1
    if draw.unconditional:
        assert draw.mask.all()
    if sum(lengths):
        assert int(torch.tensor(lengths)[draw.mask].sum()) > 0


@given(lengths_of_phones, seeds, st.floats(0.05, 1.0))
def test_the_span_is_within_a_phone_of_the_ratio(
    lengths: list[int], seed: int, ratio: float
) -> None:
    config = replace(SPANS, mask_ratio_min=ratio, mask_ratio_max=ratio)
    sizes = torch.tensor(lengths)
    masked = int(sizes[draw_mask(sizes, config, generator_for(seed)).mask].sum())
    assert abs(masked - ratio * sum(lengths)) <= max(lengths) + 1e-3


def test_draws_depend_on_the_key_alone() -> None:
    lengths = torch.randint(1, 20, (80,), generator=torch.Generator().manual_seed(0))
    first = [draw_mask(lengths, SPANS, generator_for(0, 3, f"u{i}")).mask for i in range(20)]
    torch.manual_seed(5)
    backwards = reversed(range(20))
    again = [draw_mask(lengths, SPANS, generator_for(0, 3, f"u{i}")).mask for i in backwards]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    others = [draw_mask(lengths, SPANS, generator_for(0, 4, f"u{i}")).mask for i in range(20)]
    assert sum(torch.equal(a, b) for a, b in zip(first, others, strict=True)) < 5


@pytest.mark.parametrize("task", ["velocity", "duration"])
def test_the_shares_are_those_of_the_configuration(task: str) -> None:
    """2000 draws over 500 phones: 3 standard deviations of each share."""
    config = load_group(TaskConfig, "task", task)
    lengths = torch.ones(500, dtype=torch.long)
    draws = [draw_mask(lengths, config, generator_for(task, i)) for i in range(2000)]
    unconditional = np.mean([d.unconditional for d in draws])
    assert unconditional == pytest.approx(config.p_unconditional, abs=3 * (0.2 * 0.8 / 2000) ** 0.5)
    conditional = [d.mask for d in draws if not d.unconditional]
    ratios = np.array([float(m.float().mean()) for m in conditional])
    low, high = config.mask_ratio_min, config.mask_ratio_max
    whole_by_chance = 0.001 / (high - low) * (1 - config.p_mask_all)  # a span of 499.5 or more
    share = config.p_mask_all + whole_by_chance
    sigma = (share * (1 - share) / len(ratios)) ** 0.5
    assert np.mean(ratios == 1) == pytest.approx(share, abs=3 * sigma)
    spans = ratios[ratios < 1]
    assert low - 0.003 <= spans.min() < low + 0.02
    assert high - 0.02 < spans.max() <= high
    sigma = (high - low) / (12 * len(spans)) ** 0.5
    assert spans.mean() == pytest.approx((low + high) / 2, abs=3 * sigma + 0.002)


def test_spans_begin_anywhere() -> None:
    config = replace(SPANS, mask_ratio_min=0.5, mask_ratio_max=0.5)
    lengths = torch.ones(100, dtype=torch.long)
    masks = [draw_mask(lengths, config, generator_for(i)).mask for i in range(2000)]
    starts = np.array([int(m.nonzero()[0]) for m in masks])
    shares = np.histogram(starts, bins=5, range=(0, 50))[0] / 2000
    assert shares == pytest.approx([0.2] * 5, abs=0.04)


def test_one_phone_and_no_frames_are_masked_whole() -> None:
    assert draw_mask(torch.tensor([5]), SPANS, generator_for(0)).mask.tolist() == [True]
    assert draw_mask(torch.tensor([0, 0]), SPANS, generator_for(0)).mask.all()


@given(lengths_of_phones, st.integers(1, 200), seeds)
@example([0, 40, 0], 3, 0)
@example([5, 0, 40], 3, 1)
def test_a_crop_is_whole_phones_within_the_budget(
    lengths: list[int], budget: int, seed: int
) -> None:
    durations = np.array(lengths)
    crop = crop_phones(durations, budget, generator_for(seed))
    kept = durations[crop]
    assert 0 <= crop.start < crop.stop <= len(lengths)
    if sum(lengths) <= budget:
        assert len(kept) == len(lengths)
        return
    assert kept.sum() > 0
    assert kept.sum() <= budget or (kept > 0).sum() == 1
    if crop.stop < len(lengths) and kept.sum() <= budget:
        assert kept.sum() + durations[crop.stop] > budget  # no room is left unused


@given(st.lists(st.integers(0, 9), min_size=3, max_size=8), st.integers(1, 30))
def test_every_phone_is_in_some_crop(lengths: list[int], budget: int) -> None:
    durations = np.array(lengths)
    seen: set[int] = set()
    for seed in range(200):
        crop = crop_phones(durations, budget, generator_for(seed))
        seen.update(range(crop.start, crop.stop))
    heard = {i for i, n in enumerate(lengths) if n}
    assert heard <= seen


def test_the_ends_are_cropped_to_as_often_as_the_rest() -> None:
    durations = np.full(20, 10)
    starts = [crop_phones(durations, 100, generator_for(i)).start for i in range(2200)]
    counts = np.bincount(starts, minlength=11)
    assert len(counts) == 11  # from phone 10 on the rest just fits
    assert counts == pytest.approx([200] * 11, abs=60)


def test_uniform_keeps_its_bounds() -> None:
    generator = generator_for("u")
    drawn = [uniform(generator, 2.0, 3.0) for _ in range(1000)]
    assert 2.0 <= min(drawn) < 2.02
    assert 2.98 < max(drawn) < 3.0
