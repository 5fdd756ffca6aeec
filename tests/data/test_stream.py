"""A stream gives each utterance once an epoch, from anywhere, and goes on where it stopped."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voiceflow.config import TaskConfig, UserError, load_group
from voiceflow.data.batching import Batch
from voiceflow.data.dataset import ExampleMaker
from voiceflow.data.shards import Index, Prepared, index_table, open_prepared
from voiceflow.data.store import Store
from voiceflow.data.stream import POOL_SHARDS, Reader, StreamFeed

VELOCITY = load_group(TaskConfig, "task", "velocity")


def alone(states: list[Any]) -> list[Any]:
    """What gathering is with one process."""
    return states


@pytest.fixture(scope="module")
def sharded(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The synthetic data in 12 shards of 2 utterances."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened = open_prepared(prepared)
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "shards").mkdir()
    names = opened.store.names("shards", ".parquet")
    table = pa.concat_tables([opened.store.table(name) for name in names])
    for number in range(12):
        pq.write_table(table.slice(2 * number, 2), folder / "shards" / f"{number:05d}.parquet")
    for name in ("info.json", "features.json", "phones.json"):
        (folder / name).write_bytes((prepared / name).read_bytes())
    return open_prepared(folder)


def feed(data: Prepared, **more: Any) -> StreamFeed:
    make = ExampleMaker(data.features, VELOCITY, 400, 0)
    return StreamFeed(data, make, **{"left_out": (), "budget": 300, **more})


def taken(updates: Iterator[list[Batch]], count: int) -> list[Batch]:
    return [batch for update in islice(updates, count) for batch in update]


def first_epochs(data: Prepared, epochs: int, **more: Any) -> list[str]:
    """The ids of one reader's first epochs: it gives as many rows in each."""
    n_rows = len(data.index.ids) - len(more.get("left_out", ()))
    ids: list[str] = []
    for batches in feed(data, **more):
        ids += [id for batch in batches for id in batch.ids]
        if len(ids) >= epochs * n_rows:
            return ids
    raise AssertionError


def assert_same_batches(a: list[Batch], b: list[Batch]) -> None:
    assert [x.ids for x in a] == [y.ids for y in b]
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x.mel, y.mel)
        assert torch.equal(x.noise, y.noise)
        assert torch.equal(x.mask, y.mask)


def test_each_epoch_gives_each_utterance_once_in_a_new_order(sharded: Prepared) -> None:
    ids = first_epochs(sharded, 3)
    epochs = [ids[24 * i : 24 * i + 24] for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(sharded.index.ids)
    assert epochs[0] != epochs[1] != epochs[2]


def test_those_left_out_never_come(sharded: Prepared) -> None:
    left_out = sharded.index.ids[3:8]
    ids = first_epochs(sharded, 2, left_out=left_out)
    assert set(ids) == set(sharded.index.ids) - set(left_out)


def test_batches_keep_to_the_budget_and_examples_are_the_mapped_ones(sharded: Prepared) -> None:
    make = ExampleMaker(sharded.features, VELOCITY, 400, 0)
    rows = {id: i for i, id in enumerate(sharded.index.ids)}
    for batch in taken(iter(feed(sharded)), 5):
        assert batch.mel.shape[0] * batch.mel.shape[1] <= 300 or len(batch.ids) == 1
        for i, id in enumerate(batch.ids):
            wanted = make(0, sharded.framed(rows[id]))
            n = int(batch.frame_lengths[i])
            assert torch.equal(batch.mel[i, :n], wanted.mel)
            assert torch.equal(batch.noise[i, :n], wanted.noise)


@given(
    n_shards=st.integers(1, 60), n_readers=st.integers(1, 12), seed=st.integers(0, 5),
    epoch=st.integers(0, 5),
)  # fmt: skip
def test_shards_are_dealt_without_loss_or_repetition(
    n_shards: int, n_readers: int, seed: int, epoch: int
) -> None:
    readers = [Reader(i, n_readers) for i in range(n_readers)]
    if n_shards < n_readers:
        with pytest.raises(UserError, match=f"{n_shards} shards cannot be dealt to {n_readers}"):
            readers[0].pools(n_shards, seed, epoch)
        return
    pools = [pool for r in readers for pool in r.pools(n_shards, seed, epoch)]
    assert Counter(s for pool in pools for s in pool) == Counter(range(n_shards))
    assert max(map(len, pools)) <= POOL_SHARDS
    assert all(r.pools(n_shards, seed, epoch) for r in readers)  # nobody waits for ever


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_an_epoch(sharded: Prepared, workers: int) -> None:
    """Over whole epochs of all ranks every utterance comes as often."""
    counts: Counter[str] = Counter()
    for rank in range(2):
        updates = iter(feed(sharded, rank=rank, world=2, workers=workers, budget=1))
        # Each reader deals 12 / readers shards of 2 utterances an epoch, one a batch.
        for batch in taken(updates, 2 * 12):
            counts.update(batch.ids)
    assert counts == Counter({id: 2 for id in sharded.index.ids})


@pytest.mark.parametrize(("workers", "accumulate"), [(0, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("stop", [1, 5, 12])
def test_goes_on_with_the_very_next_batch(
    sharded: Prepared, workers: int, accumulate: int, stop: int
) -> None:
    settings = {"workers": workers, "accumulate": accumulate, "budget": 60}
    whole = taken(iter(feed(sharded, **settings)), 20)
    stopped = feed(sharded, **settings)
    before = taken(iter(stopped), stop)
    state = stopped.state_dict(alone)
    other = feed(sharded, **settings)
    assert other.load_state_dict(state) == ""
    assert_same_batches(before + taken(iter(other), 20 - stop), whole)


def test_another_number_of_readers_begins_the_epoch_anew_and_says_so(sharded: Prepared) -> None:
    stopped = feed(sharded, budget=60)
    taken(iter(stopped), 40)
    state = stopped.state_dict(alone)
    epoch = state["ranks"][0]["cursors"][0][0]
    assert epoch > 0
    other = feed(sharded, budget=60, rank=1, world=2)
    said = other.load_state_dict(state)
    assert f"2 readers of the stream where there were 1: epoch {epoch} begins anew" in said
    fresh = feed(sharded, budget=60, rank=1, world=2)
    fresh.cursors = [other.cursors[0]._replace(pool=0, batch=0)]
    assert_same_batches(taken(iter(other), 3), taken(iter(fresh), 3))


@pytest.fixture()
def remote(sharded: Prepared) -> Iterator[Prepared]:
    """The same data at an address."""
    memory = fsspec.filesystem("memory")
    memory.put(sharded.address, "/bucket/data", recursive=True)
    yield open_prepared("memory://bucket/data")
    memory.rm("/bucket", recursive=True)


def test_an_address_gives_what_the_disk_gives(sharded: Prepared, remote: Prepared) -> None:
    assert (remote.features, remote.phones) == (sharded.features, sharded.phones)
    assert remote.index.ids == sharded.index.ids
    assert_same_batches(taken(iter(feed(remote)), 10), taken(iter(feed(sharded)), 10))
    for row, wanted in zip(remote.rows([7, 2, 20]), map(sharded.framed, [7, 2, 20]), strict=True):
        assert row.id == wanted.id
        assert (row.mel == wanted.mel).all()
    with pytest.raises(UserError, match=r"memory://bucket/data is read as a stream"):
        _ = remote.dataset


def test_loaders_of_an_address_open_it_anew(sharded: Prepared) -> None:
    """In a process of its own, which shares no connection (here: `file://`)."""
    data = open_prepared(f"file://{sharded.address}")
    assert not data.is_local
    settings = {"workers": 2, "budget": 60}
    there = taken(iter(feed(data, **settings)), 3)
    assert_same_batches(there, taken(iter(feed(sharded, **settings)), 3))


def test_a_reading_that_fails_twice_is_tried_again(
    sharded: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow.data.store._PATIENCE_SECONDS", 0.0)
    store = Store(sharded.address)
    failures = [OSError("reset by peer")] * 2

    def flaky(path: str, *args: Any, **more: Any) -> bytes:
        if failures:
            raise failures.pop()
        return Path(path).read_bytes()

    monkeypatch.setattr(store._fs, "cat_file", flaky)
    assert store.read("info.json") == (Path(sharded.address) / "info.json").read_bytes()
    failures += [OSError("reset by peer")] * 3
    with pytest.raises(UserError, match=r"info.json cannot be read \(reset by peer\)"):
        store.read("info.json")


def test_what_is_no_prepared_data(tmp_path: Path, sharded: Prepared) -> None:
    with pytest.raises(UserError, match="memory://nowhere: no prepared data here"):
        open_prepared("memory://nowhere")
    with pytest.raises(UserError, match="no-such-scheme://x cannot be opened"):
        open_prepared("no-such-scheme://x")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "00000.parquet").write_bytes(b"PAR1 is not enough")
    broken = replace(sharded, address=str(tmp_path))
    with pytest.raises(UserError, match=r"shards/00000.parquet is damaged"):
        taken(iter(feed(broken)), 1)


@pytest.mark.parametrize("name", ["../other/00000.parquet", "shards/../x.parquet", "/etc/passwd"])
def test_an_index_that_leads_elsewhere_is_refused(sharded: Prepared, name: str) -> None:
    import pyarrow as pa

    table = index_table(sharded.store)
    shards = [name, *table["shard"].to_pylist()[1:]]
    place = table.column_names.index("shard")
    table = table.set_column(place, "shard", pa.array(shards))
    with pytest.raises(UserError, match=r"index.parquet names .* expected shards/<name>.parquet"):
        Index.of(table)
