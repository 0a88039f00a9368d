"""Arrays in files that are mapped: they need not fit memory, and no file stays open."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]


def write(file: Path, columns: Mapping[str, Array]) -> None:
    """``columns``, arrays of one dimension and length, as an Arrow file."""
    table = pa.table({name: np.ascontiguousarray(column) for name, column in columns.items()})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        # One batch, so that each column can be mapped as one array.
        writer.write_table(table, max_chunksize=max(1, table.num_rows))


def read(file: Path) -> dict[str, Array]:
    """The columns of ``file``, read-only; a page is read when it is used first."""
    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_file(source).read_all()
    return {
        name: column.chunk(0).to_numpy() if table.num_rows else column.to_numpy()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
