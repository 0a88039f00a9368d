"""What the pass over all shards needs of a record, in 48 bytes: which it equals, which comes first
of equals, whose group and which draw it belongs to."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

KEY = np.dtype([("same", "<u8", 2), ("content", "<u8"), ("group", "<u8", 2), ("cell", "<u8")])
"""``same``, ``content``: hashes of (task, input, target, split) and of the whole record. ``group``: the first
16 bytes of the SHA-256 of its group (of the record where it has none), as two numbers in the order of
the bytes. ``cell``: place of the record's (task, split) in a list beside."""

READ_ROWS = 2**19
"""Keys held at once: 24 MiB."""

Array = npt.NDArray[np.void]
Cell = tuple[str, str | None]


class Keys(NamedTuple):
    """Keys of records, row for row; ``cells``: (task, split), in the order of appearance."""

    rows: Array
    cells: list[Cell]

    @classmethod
    def of(cls, cells: pl.DataFrame, hashes: pl.DataFrame, groups: pl.Series) -> "Keys":
        """cells: ``task, split`` of each record. hashes: u64, two of ``same`` and one of ``content``.
        groups: digests of 16 bytes."""
        first, which = distinct(cells)
        rows = np.zeros(cells.height, KEY)
        rows["cell"] = which
        rows["same"], rows["content"] = hashes[:, :2].to_numpy(), hashes[:, 2].to_numpy()
        rows["group"] = np.frombuffer(b"".join(groups.to_list()), ">u8").reshape(-1, 2)
        return cls(rows, cells[first].rows())


def distinct(frame: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Rows that differ, each by the index of the first that is like it, in their order; and for every
    row, which of these is like it."""
    groups = frame.with_row_index("#row").group_by(frame.columns, maintain_order=True).agg("#row")["#row"]
    which = np.empty(frame.height, np.uint32)
    which[groups.explode().to_numpy()] = np.repeat(np.arange(len(groups)), groups.list.len().to_numpy())
    return groups.list.first(), pl.Series(which)


def read(file: Path) -> Iterator[Array]:
    """The keys of a file, READ_ROWS at a time."""
    with file.open("rb") as stream:
        while (rows := np.fromfile(stream, KEY, READ_ROWS)).size:
            yield rows
