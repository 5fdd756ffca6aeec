"""Examples: what is drawn depends on seed, epoch and utterance alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from voiceflow.config import TaskConfig, compose, load_group
from voiceflow.data.dataset import Example, ExampleDataset, ExampleMaker, split
from voiceflow.data.feed import example_maker
from voiceflow.data.shards import Prepared, open_prepared

VELOCITY = load_group(TaskConfig, "task", "velocity")


@pytest.fixture(scope="module")
def opened(prepared: Path) -> Prepared:
    return open_prepared(prepared)


def assert_same(a: Example, b: Example) -> None:
    for name, value in vars(a).items():
        other = getattr(b, name)
        assert torch.equal(value, other) if torch.is_tensor(value) else value == other


def test_the_same_key_gives_the_same_example(opened: Prepared) -> None:
    dataset = ExampleDataset(opened, ExampleMaker(opened.features, VELOCITY, 400, 3))
    first = [dataset[1, row] for row in range(6)]
    torch.manual_seed(9)
    other = ExampleDataset(opened, ExampleMaker(opened.features, VELOCITY, 400, 3))
    for row in (5, 2, 0):
        assert_same(other[1, row], first[row])


@pytest.mark.parametrize(("seed", "epoch"), [(3, 2), (4, 1)])
def test_another_epoch_or_seed_draws_anew(opened: Prepared, seed: int, epoch: int) -> None:
    first = ExampleDataset(opened, ExampleMaker(opened.features, VELOCITY, 400, 3))[1, 0]
    other = ExampleDataset(opened, ExampleMaker(opened.features, VELOCITY, 400, seed))[epoch, 0]
    assert torch.equal(first.mel, other.mel)  # nothing was cropped
    assert first.t != other.t
    assert not torch.equal(first.noise, other.noise)


def test_fields_fit_together(opened: Prepared) -> None:
    dataset = ExampleDataset(opened, ExampleMaker(opened.features, VELOCITY, 400, 0))
    for row in range(24):
        example = dataset[0, row]
        id, phones, durations, mel = opened.framed(row)
        assert (example.id, example.phones.tolist()) == (id, phones)
        assert example.durations.tolist() == durations.tolist()
        wanted = opened.features.normalise(torch.tensor(mel).float())
        torch.testing.assert_close(example.mel, wanted)
        assert example.noise.shape == example.mel.shape
        assert 0 <= example.t < 1
        start = 0
        for phone, frames, masked in zip(phones, durations, example.mask, strict=True):
            part = slice(start, start + int(frames))
            assert (example.frame_mask[part] == masked).all()
            assert (example.frame_phones[part] == (0 if example.unconditional else phone)).all()
            start += int(frames)
        assert start == len(example.frame_mask) == len(example.frame_phones)
        if example.unconditional:
            assert example.mask.all()


def test_what_is_not_aligned_is_masked_at_any_frame(opened: Prepared) -> None:
    """Spans are as long as they shall be, wherever the filler behind unaligned text lies."""
    config = replace(VELOCITY, p_unconditional=0.0, p_mask_all=0.0)
    frames = len(opened.framed(0).mel)
    row = opened.framed(0)._replace(
        phones=[2, 3, 1], durations=np.array([1, 1, frames - 2], np.int64)
    )
    aligned = ExampleMaker(opened.features, config, 10**9, 0)
    unaligned = replace(aligned, aligned=False)
    firsts = set()
    for epoch in range(40):
        example, other = unaligned(epoch, row), aligned(epoch, row)
        mask = example.frame_mask
        share = mask.float().mean()
        assert config.mask_ratio_min - 1 / frames <= share <= config.mask_ratio_max
        [first, *_, last] = mask.nonzero().flatten().tolist()
        assert mask[first : last + 1].all()
        firsts.add(first)
        assert example.frame_phones.tolist() == other.frame_phones.tolist()
        assert torch.equal(example.noise, other.noise)
        assert example.t == other.t
        assert other.frame_mask.float().mean() >= (frames - 2) / frames
    assert len(firsts) > 5


def test_unaligned_data_say_so(opened: Prepared) -> None:
    config = compose(["task=velocity", "data=x", "out=y"])
    for aligner, wanted in (("unaligned", False), ("ctc", True)):
        prepared = replace(opened, info={**opened.info, "aligner": aligner})
        assert example_maker(config, prepared, 0).aligned is wanted


def test_a_crop_is_a_piece_of_the_utterance(opened: Prepared) -> None:
    dataset = ExampleDataset(opened, ExampleMaker(opened.features, VELOCITY, 25, 0))
    starts = set()
    for epoch in range(30):
        example = dataset[epoch, 3]
        _, phones, _, mel = opened.framed(3)
        whole = opened.features.normalise(torch.tensor(mel).float())
        n = len(example.mel)
        assert 25 - 9 < n == int(example.durations.sum()) <= 25
        found = [i for i in range(len(mel) - n + 1) if torch.equal(whole[i : i + n], example.mel)]
        assert len(found) == 1
        starts.add(found[0])
        wanted = example.phones.tolist()
        assert any(phones[i : i + len(wanted)] == wanted for i in range(len(phones)))
    assert 0 in starts
    assert len(starts) > 5


def test_a_phone_longer_than_the_crop_is_cut(opened: Prepared) -> None:
    dataset = ExampleDataset(opened, ExampleMaker(opened.features, VELOCITY, 3, 0))
    for epoch in range(20):
        example = dataset[epoch, 0]
        assert 1 <= len(example.mel) == int(example.durations.sum()) <= 3
        assert len(example.phones) == len(example.durations) == len(example.mask)
        assert len(example.frame_phones) == len(example.mel)


@pytest.mark.parametrize("name", ["velocity", "duration"])
def test_spans_are_measured_in_the_tasks_own_units(opened: Prepared, name: str) -> None:
    """Velocity masks half the frames, duration half the phones, however long they are."""
    config = TaskConfig(name, 0.0, 0.5, 0.5, 0.0)
    dataset = ExampleDataset(opened, ExampleMaker(opened.features, config, 400, 0))
    for row in range(24):
        example = dataset[0, row]
        frames, phones = float(example.frame_mask.sum()), float(example.mask.sum())
        if name == "velocity":
            assert abs(frames - len(example.mel) / 2) <= int(example.durations.max())
        else:
            assert abs(phones - len(example.phones) / 2) <= 1


def test_split_holds_out_whole_speakers_where_the_data_name_them(opened: Prepared) -> None:
    named = replace(opened, validation_speakers=frozenset({"s1"}))
    named.__dict__["index"] = replace(opened.index, speakers=[f"s{i % 3}" for i in range(24)])
    training, held_out = split(named, 5)
    assert len(held_out) == 5
    assert {i % 3 for i in held_out} == {1}
    assert training == [i for i in range(24) if i % 3 != 1]
    assert split(named, 0) == (list(range(24)), [])


def test_split_holds_out_by_id(opened: Prepared) -> None:
    training, held_out = split(opened, 32)
    assert len(held_out) == 24 // 10
    assert sorted(training + held_out) == list(range(24))
    ids = opened.index.ids
    backwards = replace(opened)
    backwards.__dict__["index"] = replace(opened.index, ids=ids[::-1])
    _, again = split(backwards, 32)
    assert {ids[23 - i] for i in again} == {ids[i] for i in held_out}
    assert split(opened, 1)[1][0] in held_out
    assert split(opened, 0) == (list(range(24)), [])
