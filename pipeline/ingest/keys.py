"""What the pass over all shards needs of a record, in 56 bytes: which it equals, which comes first
of equals, whose group and which draw it belongs to."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

KEY = np.dtype([("same", "<u8", 2), ("content", "<u8", 2), ("group", "<u8", 2), ("cell", "<u8")])
"""``same``, ``content``: hashes of (task, input, target, split) and of the whole record. ``group``: the first
16 bytes of the SHA-256 of its group (of the record where it has none), as two numbers in the order of
the bytes. ``cell``: place of the record's (task, split) in a list beside."""

READ_ROWS = 2**19
"""Keys held at once: 28 MiB."""

Array = npt.NDArray[np.void]
Cell = tuple[str, str | None]


class Keys(NamedTuple):
    """Keys of records, row for row; ``cells``: (task, split), in the order of appearance."""

    rows: Array
    cells: list[Cell]

    @classmethod
    def of(cls, cells: pl.DataFrame, hashes: pl.DataFrame, groups: pl.Series) -> "Keys":
        """cells: ``task, split`` of each record. hashes: u64, two ``same`` and two ``content``. groups:
        digests of 16 bytes."""
        named = cells.unique(maintain_order=True)
        numbers = cells.join(
            named.with_row_index("cell"), on=["task", "split"], nulls_equal=True, maintain_order="left"
        )
        rows = np.zeros(cells.height, KEY)
        rows["cell"] = numbers["cell"].to_numpy()
        rows["same"], rows["content"] = np.hsplit(hashes.to_numpy(), 2)
        rows["group"] = np.frombuffer(b"".join(groups.to_list()), ">u8").reshape(-1, 2)
        return cls(rows, named.rows())


def read(file: Path) -> Iterator[Array]:
    """The keys of a file, READ_ROWS at a time."""
    with file.open("rb") as stream:
        while (rows := np.fromfile(stream, KEY, READ_ROWS)).size:
            yield rows
