"""What the pass over all shards needs of a record, in 56 bytes: which it equals, which comes first
of equals, whose group and which draw it belongs to."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

KEY = np.dtype([("same", "<u8", 2), ("content", "<u8", 2), ("group", "<u8", 2), ("cell", "<u8")])
"""The first 16 bytes of SHA-256 digests, as two numbers in the order of the bytes: of (task, input, target,
split), of the whole record, and of its group (the record where it has none). ``cell``: place of the
record's (task, split) in a list beside."""

READ_ROWS = 2**19
"""Keys held at once: 28 MiB."""

Array = npt.NDArray[np.void]
Cell = tuple[str, str | None]


class Keys(NamedTuple):
    """Keys of records, row for row; ``cells``: (task, split), in the order of appearance."""

    rows: Array
    cells: list[Cell]

    @classmethod
    def of(
        cls, cells: pl.DataFrame, same: Sequence[bytes], content: Sequence[bytes], group: Sequence[bytes]
    ) -> "Keys":
        """cells: ``task, split`` of each record. The others: digests of 16 bytes."""
        named = cells.unique(maintain_order=True)
        numbers = cells.join(
            named.with_row_index("cell"), on=["task", "split"], nulls_equal=True, maintain_order="left"
        )
        rows = np.zeros(cells.height, KEY)
        rows["cell"] = numbers["cell"].to_numpy()
        for name, digests in (("same", same), ("content", content), ("group", group)):
            rows[name] = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2)
        return cls(rows, named.rows())


def read(file: Path) -> Iterator[Array]:
    """The keys of a file, READ_ROWS at a time."""
    with file.open("rb") as stream:
        while (rows := np.fromfile(stream, KEY, READ_ROWS)).size:
            yield rows
