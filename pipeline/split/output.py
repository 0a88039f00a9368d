"""The three files of the split, sorted by task and sample_id, at any size.

Sorted in two passes: a record first goes to a piece that holds CHUNK_ROWS neighbours of the final
order, then each piece is sorted by itself.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet

from pipeline import paths
from pipeline.files import new_folder
from pipeline.records import RECORD_SCHEMA, SPLITS
from pipeline.split.parts import PART_ROWS, Part, rows

CHUNK_ROWS = 100_000
"""Rows sorted and written at once; bounds memory."""

SCHEMA = pl.Schema({name: kind for name, kind in RECORD_SCHEMA.items() if name != "split"})


def write(parts: Sequence[Part], records: pl.DataFrame) -> None:
    """``data/split`` of the records that are not held out.

    ``records``: the index of all parts with ``row``, ``split`` and ``held_out``.
    """
    order = ["task", "sample_id"]
    places = (
        records.lazy()
        .filter(~pl.col("held_out"))
        .select("row", "split", *order)
        .sort("split", *order)
        .select("row", "split", chunk=pl.int_range(pl.len()).over("split") // CHUNK_ROWS)
        .sort("row")
        .collect()
    )
    with new_folder(paths.SPLIT) as folder:
        pieces = folder / "pieces"
        pieces.mkdir()
        for number, batch in enumerate(_batches(parts, places)):
            for (split, chunk), piece in batch.group_by("split", "chunk"):
                to = pieces / str(split) / f"{chunk:08}"
                to.mkdir(parents=True, exist_ok=True)
                piece.select(SCHEMA.names()).write_ipc(to / f"{number}.arrow")
        for split in SPLITS:
            _merge(sorted((pieces / split).glob("*")), folder / f"{split}.parquet", order)
        shutil.rmtree(pieces)


def _batches(parts: Sequence[Part], places: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Records with their ``split`` and ``chunk``, about CHUNK_ROWS at once."""
    firsts = [part.first for part in parts]
    starts = [*np.searchsorted(places["row"].to_numpy(), firsts), places.height]
    read: list[pl.DataFrame] = []
    height = 0
    for number, part in enumerate(parts):
        kept = places[int(starts[number]) : int(starts[number + 1])]
        of_part = rows(part.shards, part.start, SCHEMA.names())[kept["row"] - part.first]
        read.append(of_part.hstack(kept.select("split", "chunk")))
        height += kept.height
        if number + 1 == len(parts) or height + PART_ROWS > CHUNK_ROWS:
            yield pl.concat(read)
            read, height = [], 0


def _merge(chunks: Sequence[Path], target: Path, order: list[str]) -> None:
    schema = pl.DataFrame(schema=SCHEMA).to_arrow().schema
    with pyarrow.parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for chunk in chunks:
            pieces = [pl.read_ipc(piece) for piece in sorted(chunk.glob("*.arrow"))]
            writer.write_table(pl.concat(pieces).sort(order).to_arrow())
