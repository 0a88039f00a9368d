"""Duplicates and draws over shards, against the same said in a few lines over one table."""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.ingest import selection
from pipeline.ingest.formats import Kind
from pipeline.ingest.inbox import File
from pipeline.ingest.index import Stamp
from pipeline.ingest.keys import KEY
from pipeline.ingest.shards import FACTS, KEYS, Shard

CELLS = [("a", "train"), ("a", None), ("b", None)]


def shard(folder: Path, number: int, rows: list[tuple[int, int, int, int]]) -> Shard:
    """A shard of records (same, content, group, cell), digests of two halves a small number in both."""
    entry = folder / str(number)
    entry.mkdir()
    keys = np.zeros(len(rows), KEY)
    for at, (same, content, group, cell) in enumerate(rows):
        # The first half spreads over all parts of a pass; the second decides where it is equal.
        keys[at] = ((same % 7 << 61, same), content, (group % 5, group), cell)
    keys.tofile(entry / KEYS)
    facts = {"out": len(rows), "cells": [[*cell, 0] for cell in CELLS]}
    (entry / FACTS).write_text(json.dumps(facts))
    stamp = Stamp(0, 0, 0, 0)
    return Shard(File(f"{number:016}", Path("x"), stamp, Kind("jsonl", None), None), "key", entry)


def expected(tables: list[list[tuple[int, int, int, int]]], cap: int | None) -> tuple[list[bool], list[bool]]:
    table = pl.DataFrame(
        [row for rows in tables for row in rows],
        schema=dict.fromkeys(("same", "content", "group", "cell"), pl.Int64),
        orient="row",
    ).with_row_index("number")
    order = ["content", "number"]
    unique = table.sort(order).unique("same", keep="first", maintain_order=True)
    groups = unique.group_by("cell", "group").len().sort("cell", pl.col("group") % 5, "group")
    so_far = pl.col("len").cast(pl.Int64).cum_sum().over("cell")
    first = pl.int_range(pl.len()).over("cell") == 0
    kept = (
        unique if cap is None else unique.join(groups.filter((so_far <= cap) | first), on=["cell", "group"])
    )
    return tuple(table["number"].is_in(each["number"].implode()).to_list() for each in (unique, kept))  # type: ignore[return-value]


@pytest.mark.parametrize("passes", [10**6, 50])
@pytest.mark.parametrize("cap", [None, 1, 9, 40])
def test_what_stays_is_what_one_table_would_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cap: int | None, passes: int
) -> None:
    monkeypatch.setattr(selection, "PASS_ROWS", passes)
    monkeypatch.setattr(selection, "DRAW_ROWS", passes)
    rng = random.Random(str((cap, passes)))
    tables = [
        [
            (same, rng.randrange(99), same % 30, same % 3)
            for same in (rng.randrange(200) for _ in range(rng.randrange(80)))
        ]
        for _ in range(9)
    ]
    tables += [[], tables[0]]
    shards = [shard(tmp_path, number, rows) for number, rows in enumerate(tables)]
    chosen = selection.choose(shards, cap)
    unique, kept = expected(tables, cap)
    assert np.concatenate(chosen.unique).tolist() == unique
    assert np.concatenate(chosen.kept).tolist() == kept
    assert [len(mask) for mask in chosen.kept] == [len(rows) for rows in tables]
