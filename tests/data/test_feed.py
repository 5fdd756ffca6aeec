"""What a run is fed: refused before it starts where it cannot be, balanced where asked."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from voiceflow.config import RunConfig, UserError, compose
from voiceflow.data.batching import FrameBudgetSampler, balanced, bucketed
from voiceflow.data.feed import MappedFeed, make_feed
from voiceflow.data.shards import Prepared, open_prepared


@pytest.fixture()
def data(prepared: Path) -> Prepared:
    return open_prepared(prepared)


def config(*more: str) -> RunConfig:
    return compose(["data=d", "out=o", "train=tiny", *more])


def test_a_budget_below_the_longest_utterance(data: Prepared) -> None:
    longest = int(data.index.n_frames.max())
    rows = list(range(24))
    make_feed(config(f"train.batch_frames={longest}"), data, rows)
    with pytest.raises(UserError, match=rf"longest utterance has {longest} frames.*batch_frames"):
        make_feed(config(f"train.batch_frames={longest - 1}"), data, rows)
    with pytest.raises(UserError, match=r"train.batch_square_frames 100; raise these or lower"):
        make_feed(config("train.batch_square_frames=100"), data, rows)
    cropped = config("train.batch_frames=30", "train.crop_frames=30")
    make_feed(cropped, data, rows)


def test_nothing_to_train_on(data: Prepared) -> None:
    with pytest.raises(UserError, match="leaves no utterance to train on: all are held out"):
        make_feed(config(), data, [])


def test_what_cannot_be_balanced(data: Prepared) -> None:
    with pytest.raises(UserError, match=r"train\.balance must be one of none, speaker, language"):
        make_feed(config("train.balance=sex"), data, [0, 1])
    with pytest.raises(UserError, match="a stream cannot be balanced"):
        make_feed(config("train.balance=speaker", "train.stream=true"), data, [0, 1])
    with pytest.raises(UserError, match=r"train.balance_power must lie in \[0, 1\], found 2"):
        make_feed(config("train.balance=speaker", "train.balance_power=2"), data, [0, 1])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_shares_are_sizes_to_the_power(power: float) -> None:
    groups = ["a"] * 64 + ["b"] * 16 + ["c"] * 4
    weights = balanced(groups, power)
    share = {g: sum(w for w, x in zip(weights, groups, strict=True) if x == g) for g in "abc"}
    assert share["a"] == 64  # the largest comes as it is
    assert share["b"] / share["a"] == pytest.approx((16 / 64) ** power)
    assert share["c"] / share["a"] == pytest.approx((4 / 64) ** power)


def test_an_epoch_draws_rows_as_often_as_they_weigh() -> None:
    weights = [1.0, 2.5, 4.0]
    sampler = FrameBudgetSampler([7, 8, 9], [10, 10, 10], 40, seed=0, weights=weights)
    times: Counter[int] = Counter()
    for epoch in range(400):
        drawn = Counter(row for batch in sampler.epoch_batches(epoch) for _, row in batch)
        assert (drawn[7], drawn[9]) == (1, 4)
        assert drawn[8] in (2, 3)
        times.update(drawn)
    assert times[8] / 400 == pytest.approx(2.5, abs=0.1)
    assert sampler.epoch_batches(3) == sampler.epoch_batches(3)


def test_small_speakers_come_more_often(data: Prepared) -> None:
    named = replace(data)
    speakers = ["rare" if i < 4 else "common" for i in range(24)]
    named.__dict__["index"] = replace(data.index, speakers=speakers)
    feed = make_feed(config("train.balance=speaker", "train.balance_power=0"), named, range(24))
    assert isinstance(feed, MappedFeed)
    drawn = Counter(r < 4 for b in feed.sampler.epoch_batches(0) for _, r in b)
    assert drawn == {True: 20, False: 20}


def test_squares_bound_long_batches() -> None:
    lengths = [100] * 10 + [400] * 10
    for batch in bucketed(range(20), lengths, 4000, 640_000):
        longest = max(lengths[i] for i in batch)
        assert len(batch) * longest**2 <= 640_000
    assert max(map(len, bucketed(range(20), lengths, 4000))) == 10


def test_a_feed_goes_on_where_it_was(data: Prepared) -> None:
    settings = config("train.batch_frames=400", "train.balance=speaker")
    whole = [b.ids for u in islice(iter(make_feed(settings, data, range(24))), 12) for b in u]
    stopped = make_feed(settings, data, range(24))
    before = [b.ids for u in islice(iter(stopped), 5) for b in u]
    other = make_feed(settings, data, range(24))
    assert other.load_state_dict(stopped.state_dict(list)) == ""
    assert before + [b.ids for u in islice(iter(other), 7) for b in u] == whole
    two = make_feed(settings, data, range(24), rank=0, world=2)
    assert "2 batches an update where there were 1" in two.load_state_dict(stopped.state_dict(list))
