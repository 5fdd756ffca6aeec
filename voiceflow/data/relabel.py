"""Prepared data under other phone symbols: what a network would learn of a smaller phone set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from voiceflow.config import UserError
from voiceflow.data.inspect import read_rows
from voiceflow.data.shards import open_prepared, write_index, write_shard
from voiceflow.files import read_json, write_json

KEPT = ("features.json", "phones.json", "split.json")


def relabel(source: Path, out: Path, label: Callable[[str], str], name: str) -> None:
    """Copy prepared data, each phone under the symbol that `label` gives it.

    The table, the borders and the sound stay. name: of the labelling, which becomes part of the
    fingerprint. What is done already is kept. Raises UserError for a symbol that the table lacks,
    and for a folder that holds other data.
    """
    prepared = open_prepared(source)
    prepared.phones.ids(label(symbol) for symbol in prepared.phones.symbols)
    fingerprint = f"{prepared.info['fingerprint']}+{name}"
    if (out / "info.json").is_file():
        if read_json(out / "info.json")["fingerprint"] != fingerprint:
            raise UserError(f"{out} holds other data than {source} as {name}: remove it")
        return
    for shard in prepared.index.names:
        rows = []
        for row in read_rows(source / shard, prepared.features.n_mels):
            phones = tuple(map(label, row.alignment.phones))
            rows.append(replace(row, alignment=replace(row.alignment, phones=phones)))
        write_shard(out / shard, rows)
    for file in KEPT:
        if (source / file).is_file():
            shutil.copyfile(source / file, out / file)
    write_index(out)
    write_json(out / "info.json", {**prepared.info, "fingerprint": fingerprint})
