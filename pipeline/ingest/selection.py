"""What only all shards together decide: which of two duplicates stays, which groups are drawn.

Both go by hashes of content, so that neither the order nor the number of arrivals matters. Of all
records at once only a mask is held; keys are read shard by shard, as often as need be.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import DataError
from pipeline.ingest.keys import Array
from pipeline.ingest.shards import Shard

PASS_ROWS = 2**24
"""Records whose duplicates are looked for at once: 128 MiB of digests, and few keys beside them."""

DRAW_ROWS = 2**20
"""Keys that are counted at once when groups are drawn."""

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.uint64]


class Selection(NamedTuple):
    """Masks over the records of each shard, in its order: ``unique`` ones, and of those the ``kept``."""

    unique: list[Mask]
    kept: list[Mask]


def choose(shards: Sequence[Shard], cap: int | None) -> Selection:
    """What stays of shards in the order of their digests.

    One record for each distinct (task, input, target, split): that of the smallest content hash; shard
    and line decide between equal contents. Of these at most ``cap`` for each task and split: whole
    groups in the order of their hash, the first whatever its size, so that no task disappears.
    """
    starts = np.cumsum([0, *(shard.facts["out"] for shard in shards)])
    unique = np.ones(starts[-1], bool)
    bits = max(0, (int(starts[-1]) - 1) // PASS_ROWS).bit_length()
    for part in range(2**bits):
        unique[_repeated(shards, bits, part)] = False
    kept = unique
    if cap:
        kept = unique.copy()
        _draw(shards, kept, cap)
    each = list(pairwise(starts.tolist()))
    return Selection([unique[start:end] for start, end in each], [kept[start:end] for start, end in each])


def _numbered(shards: Sequence[Shard]) -> Iterator[tuple[Shard, slice, Array]]:
    """Keys with the numbers their records have among all."""
    start = 0
    for shard in shards:
        for keys in shard.read_keys():
            yield shard, slice(start, start + len(keys)), keys
            start += len(keys)


def _repeated(shards: Sequence[Shard], bits: int, part: int) -> Numbers:
    """Numbers of the records that leave, of those whose digest begins with ``bits`` bits that are ``part``.

    First the digests that occur twice are found by their first half, then their keys are compared whole.
    """
    firsts = [_of_part(keys["same"][:, 0], bits, part) for _, _, keys in _numbered(shards)]
    digests = np.concatenate(firsts) if firsts else np.empty(0, np.uint64)
    del firsts
    digests.sort()
    twice = np.unique(digests[1:][digests[1:] == digests[:-1]])
    del digests
    if not twice.size:
        return np.empty(0, np.uint64)
    numbers, found = [], []
    for _, where, keys in _numbered(shards):
        at = np.flatnonzero(_is_in(keys["same"][:, 0], twice))
        numbers.append(at.astype(np.uint64) + np.uint64(where.start))
        found.append(keys[at])
    number, keys = np.concatenate(numbers), np.concatenate(found)
    same, content = keys["same"], keys["content"]
    order = np.lexsort((number, content, same[:, 1], same[:, 0]))
    same, number = same[order], number[order]
    leave: Numbers = number[1:][(same[1:] == same[:-1]).all(axis=1)]
    return leave


def _of_part(digests: Numbers, bits: int, part: int) -> Numbers:
    return digests[digests >> np.uint64(64 - bits) == part] if bits else digests.copy()


def _is_in(values: Numbers, ordered: Numbers) -> Mask:
    at = np.searchsorted(ordered, values).clip(max=ordered.size - 1)
    found: Mask = ordered[at] == values
    return found


def _draw(shards: Sequence[Shard], kept: Mask, cap: int) -> None:
    """Take from ``kept`` the records of groups that are not drawn."""
    last = {cell: (high, low) for cell, high, low in _last_groups(shards, kept, cap).iter_rows()}
    names = _cells(shards)
    for shard, where, keys in _numbered(shards):
        of_shard = [last.get(names[cell], (0, 0)) for cell in shard.cells]
        limits = np.array(of_shard, np.uint64).reshape(-1, 2)[keys["cell"]]
        group = keys["group"]
        first, second = group[:, 0], group[:, 1]
        kept[where] &= (first < limits[:, 0]) | ((first == limits[:, 0]) & (second <= limits[:, 1]))


def _last_groups(shards: Sequence[Shard], kept: Mask, cap: int) -> pl.DataFrame:
    """``cell, high, low``: the last group that is drawn of each cell.

    Groups behind those that fill the cap are forgotten as soon as that is known: more records never
    bring them back.
    """
    names = _cells(shards)
    groups = pl.DataFrame(schema=dict.fromkeys(("cell", "high", "low", "records"), pl.UInt64))
    by = ["cell", "high", "low"]

    def counted() -> pl.DataFrame:
        sums = pl.concat([groups, *waiting]).group_by(by).agg(pl.col("records").sum()).sort(by)
        before = pl.col("records").cum_sum().over("cell") - pl.col("records")
        return sums.filter(before < cap)

    waiting: list[pl.DataFrame] = []
    rows = 0
    for shard, where, keys in _numbered(shards):
        of_shard = np.array([names[cell] for cell in shard.cells], np.uint64)
        stay = keys[kept[where]]
        waiting.append(
            pl.DataFrame(
                {
                    "cell": of_shard[stay["cell"]],
                    "high": stay["group"][:, 0],
                    "low": stay["group"][:, 1],
                    "records": np.ones(len(stay), np.uint64),
                }
            )
        )
        rows += len(stay)
        if rows >= DRAW_ROWS:
            groups, waiting, rows = counted(), [], 0
    so_far = pl.col("records").cum_sum().over("cell")
    first = pl.int_range(pl.len()).over("cell") == 0
    return counted().filter((so_far <= cap) | first).group_by("cell", maintain_order=True).last().select(by)


def _cells(shards: Sequence[Shard]) -> dict[tuple[str, str | None], int]:
    """A number for each task and split."""
    cells: dict[tuple[str, str | None], int] = {}
    for shard in shards:
        for cell in shard.cells:
            cells.setdefault(cell, len(cells))
    return cells


def check_labels(shards: Sequence[Shard]) -> None:
    """Raise DataError where two spellings of owners become one task name."""
    spelt: dict[str, dict[str, tuple[str, int]]] = {}
    for shard in shards:
        for task, labels in shard.facts["labels"].items():
            for label, line in labels.items():
                spelt.setdefault(task, {}).setdefault(label, (shard.file.digest, line))
    for task, found in sorted(spelt.items()):
        if len(found) > 1:
            places = ", ".join(f"{digest}:{line}" for digest, line in sorted(found.values()))
            raise DataError(
                f"field task: {len(found)} spellings become one task {task} (shard:line {places}): "
                "write it in one way in all files"
            )
