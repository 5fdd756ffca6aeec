"""Batches: padding, the budget, and one order for any number of processes."""

from collections import Counter
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.data.batching import FrameBudgetSampler, collate
from voiceflow.data.dataset import Example

Key = tuple[int, int]

SEED = torch.Generator().manual_seed(0)
LENGTHS = [int(n) for n in torch.randint(20, 300, (57,), generator=SEED)]
ROWS = list(range(100, 157))


def sampler(rank: int = 0, world: int = 1, accumulate: int = 1, **kw: int) -> FrameBudgetSampler:
    options = {"budget": 900, "seed": 5, **kw}
    return FrameBudgetSampler(ROWS, LENGTHS, **options, rank=rank, world=world,
                              accumulate=accumulate)  # fmt: skip


def updates(of: FrameBudgetSampler, n: int) -> list[list[list[Key]]]:
    return [keys for keys, _ in islice(of.updates(), n)]


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=60),
    st.integers(1, 1500),
    st.integers(0, 50),
)
def test_an_epoch_has_every_row_once_within_the_budget(
    lengths: list[int], budget: int, epoch: int
) -> None:
    rows = [3 * i + 1 for i in range(len(lengths))]
    batches = FrameBudgetSampler(rows, lengths, budget, seed=1).epoch_batches(epoch)
    assert Counter(key for batch in batches for key in batch) == Counter((epoch, r) for r in rows)
    length = dict(zip(rows, lengths, strict=True))
    for batch in batches:
        padded = len(batch) * max(length[row] for _, row in batch)
        assert batch and (padded <= budget or len(batch) == 1)


def test_the_stream_is_epoch_after_epoch() -> None:
    given_out = [batch for update in updates(sampler(), 60) for batch in update]
    wanted = [batch for epoch in range(20) for batch in sampler().epoch_batches(epoch)]
    assert given_out == wanted[:60]
    assert given_out[-1][0][0] >= 3  # several epochs were seen


def test_an_epoch_is_shuffled_anew_and_batches_are_well_filled() -> None:
    first, second = (sampler().epoch_batches(epoch) for epoch in (0, 1))
    assert [r for b in first for _, r in b] != [r for b in second for _, r in b]
    assert first == sampler().epoch_batches(0)
    assert first != sampler(seed=6).epoch_batches(0)
    lengths = dict(zip(ROWS, LENGTHS, strict=True))
    padded = sum(len(b) * max(lengths[r] for _, r in b) for b in first)
    assert sum(LENGTHS) / padded > 0.85


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (2, 3), (4, 2)])
def test_processes_together_see_what_one_with_accumulation_sees(
    world: int, accumulate: int
) -> None:
    alone = updates(sampler(accumulate=world * accumulate), 40)
    ranks = [updates(sampler(rank, world, accumulate), 40) for rank in range(world)]
    for number, together in enumerate(alone):
        assert [batch for rank in ranks for batch in rank[number]] == together
        assert all(len(rank[number]) == accumulate for rank in ranks)


@pytest.mark.parametrize("stop", [1, 7, 11, 30])
@pytest.mark.parametrize(("rank", "world", "accumulate"), [(0, 1, 1), (1, 2, 2)])
def test_a_resumed_sampler_goes_on_as_it_would_have(
    stop: int, rank: int, world: int, accumulate: int
) -> None:
    whole = updates(sampler(rank, world, accumulate), stop + 25)
    stopped = list(islice(sampler(rank, world, accumulate).updates(), stop))
    state = stopped[-1][1]
    again = sampler(rank, world, accumulate)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert updates(again, 25) == whole[stop:]


def test_all_ranks_have_the_same_state() -> None:
    states = [[s for _, s in islice(sampler(r, 2, 2).updates(), 30)] for r in range(2)]
    assert states[0] == states[1]


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        FrameBudgetSampler([], [], 100, seed=0)


def example(id: str, durations: list[int], mask: list[bool], unconditional: bool) -> Example:
    n = sum(durations)
    generator = torch.Generator().manual_seed(n)
    return Example(
        id=id,
        mel=torch.randn(n, 4, generator=generator),
        phones=torch.arange(1, 1 + len(durations)),
        durations=torch.tensor(durations),
        mask=torch.tensor(mask),
        unconditional=unconditional,
        noise=torch.randn(n, 4, generator=generator),
        t=n / 100,
    )


def test_collate_pads_on_the_right() -> None:
    examples = [
        example("a", [2, 0, 1], [False, True, True], False),
        example("b", [1, 4, 2, 3], [True] * 4, True),
    ]
    batch = collate(examples)
    assert batch.ids == ("a", "b")
    assert batch.frame_lengths.tolist() == [3, 10]
    assert batch.phone_lengths.tolist() == [3, 4]
    assert batch.unconditional.tolist() == [False, True]
    assert batch.t.tolist() == pytest.approx([0.03, 0.1])
    for i, e in enumerate(examples):
        frames, phones = len(e.mel), len(e.phones)
        by_frame = {"mel": e.mel, "noise": e.noise, "frame_phones": e.frame_phones,
                    "frame_mask": e.frame_mask}  # fmt: skip
        by_phone = {"phones": e.phones, "durations": e.durations, "mask": e.mask}
        for n, values in ((frames, by_frame), (phones, by_phone)):
            for name, value in values.items():
                row = getattr(batch, name)[i]
                assert torch.equal(row[:n], value)
                assert not row[n:].any()
    assert batch.frame_phones[0].tolist() == [1, 1, 3] + [0] * 7
    assert batch.frame_mask[0].tolist() == [False, False, True] + [False] * 7
    assert not batch.frame_phones[1].any()
