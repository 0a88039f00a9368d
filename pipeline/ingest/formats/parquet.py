"""Parquet: columns as text, ``a.b`` being field ``b`` of a struct ``a``; a row group at a time."""

import json
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import polars as pl

from pipeline.ingest.formats.block import (
    BLOCK_BYTES,
    FIELD,
    LINE,
    REASON,
    RECORD,
    SHOWN_CHARACTERS,
    Ask,
    Rows,
    Unreadable,
    faulty,
    schema,
)
from pipeline.ingest.formats.compression import SMALL_BYTES
from pipeline.ingest.formats.content import Content

BATCH_ROWS = 16 * 2**10


def read(content: Content, ask: Ask) -> Iterator[Rows]:
    """Rows of a Parquet file, numbered as records. A damaged row group costs its own rows only: one
    faulty row stands for those that could not be read."""
    # pyarrow says what is wrong with a damaged file; polars' own reader panics, loudly.
    import pyarrow
    import pyarrow.parquet

    damage = (pyarrow.ArrowException, pl.exceptions.PolarsError, OSError, ValueError)
    with content.file() as stream:
        try:
            file = pyarrow.parquet.ParquetFile(stream)
            columns = {name: path for name in ask.wanted if (path := _path(file.schema_arrow, name))}
            heads = list(dict.fromkeys(path[0] for path in columns.values()))
            texts = [name for name in heads if _is_text(file.schema_arrow.field(name).type)]
            # As dictionaries: one long text that stands in a million rows must not be copied as often.
            file = pyarrow.parquet.ParquetFile(stream, read_dictionary=texts)
        except damage:
            raise Unreadable("unreadable_file") from None
        if file.metadata.num_columns > ask.limits.columns:
            raise Unreadable("too_many_columns")
        _refuse_bombs(file.metadata, ask)
        number = 1
        for group in range(file.num_row_groups):
            described = file.metadata.row_group(group)
            end = number + described.num_rows
            rows_at_once = max(
                1, min(BATCH_ROWS, BLOCK_BYTES * described.num_rows // max(described.total_byte_size, 1))
            )
            try:
                for batch in file.iter_batches(rows_at_once, [group], heads, use_threads=False):
                    batch.validate(full=True)
                    for part in _parts(batch):
                        yield _rows(part, number, columns, ask)
                        number += part.num_rows
            except damage:
                yield faulty(number, "unreadable_file", ask.wanted, by_line=False)
            number = end


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    of_text = (types.is_string, types.is_large_string, types.is_string_view)  # polars writes large ones
    return any(is_one(kind) for is_one in of_text)


def _refuse_bombs(metadata: Any, ask: Ask) -> None:
    every = product(range(metadata.num_row_groups), range(metadata.num_columns))
    for column in (metadata.row_group(group).column(at) for group, at in every):
        size = column.total_uncompressed_size
        if size > ask.limits.file_bytes:
            raise Unreadable("file_too_large")
        if size > SMALL_BYTES and size > ask.limits.ratio * column.total_compressed_size:
            raise Unreadable("zip_bomb")


def _path(found: Any, name: str) -> list[str] | None:
    """Where a wanted name lies in an Arrow schema: a column, or a field within structs."""
    import pyarrow

    if name in found.names:
        return [name]
    head, *rest = name.split(".")
    if head not in found.names or not rest:
        return None
    kind = found.field(head).type
    for part in rest:
        if not pyarrow.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return [head, *rest]


def _parts(batch: Any) -> Iterator[Any]:
    """Slices of a batch that hold about BLOCK_BYTES of text each."""
    import pyarrow
    import pyarrow.compute

    sizes = pl.zeros(batch.num_rows, pl.Int64, eager=True)
    for column in batch.columns:
        if pyarrow.types.is_dictionary(column.type):
            lengths = pyarrow.compute.binary_length(column.dictionary).take(column.indices)
            sizes += pl.Series(pl.from_arrow(lengths)).cast(pl.Int64).fill_null(0)
        elif batch.num_rows:
            sizes += column.nbytes // batch.num_rows
    start, size = 0, 0
    for at, more in enumerate(sizes):
        if size and size + more > BLOCK_BYTES:
            yield batch.slice(start, at - start)
            start, size = at, 0
        size += more
    if batch.num_rows > start:
        yield batch.slice(start)


def _rows(batch: Any, first: int, columns: dict[str, list[str]], ask: Ask) -> Rows:
    import pyarrow

    found: dict[str, pl.Series] = {}
    for name, path in columns.items():
        values = batch.column(path[0])
        for part in path[1:]:
            values = pyarrow.compute.struct_field(values, part)
        if pyarrow.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        found[name] = pl.Series(name, pl.from_arrow(values))
    texts = pl.DataFrame([_text(values) for values in found.values()])
    height = batch.num_rows
    too_large = pl.sum_horizontal(pl.col(pl.String).str.len_bytes().fill_null(0)) > ask.limits.row_bytes
    no_text = [
        pl.when(
            values.is_not_null()
            & (
                values.dtype.is_nested()
                | texts[name].is_null()
                | texts[name].str.contains("\0", literal=True)
            )
        ).then(pl.lit(name))
        for name, values in found.items()
        if name not in ask.lists
    ]
    numbers = pl.DataFrame({LINE: range(first, first + height)}, schema={LINE: pl.Int64})
    rows = numbers.hstack(texts)
    fault = pl.coalesce(
        pl.when(too_large).then(pl.lit(RECORD)) if texts.width else None, *no_text, pl.lit(None, pl.String)
    )
    frame = rows.with_columns(
        *(pl.lit(None, pl.String).alias(name) for name in ask.wanted if name not in found), fault.alias(FIELD)
    ).with_columns(
        pl.when(pl.col(FIELD) == RECORD)
        .then(pl.lit("row_too_large"))
        .when(pl.col(FIELD).is_not_null())
        .then(pl.lit("not_text"))
        .alias(REASON)
    )

    def raw(indices: Sequence[int]) -> list[str]:
        limit = ask.limits.row_bytes
        texts = (json.dumps(row, ensure_ascii=False) for row in rows[indices].drop(LINE).to_dicts())
        return [text if len(text) <= 2 * limit else text[:SHOWN_CHARACTERS] for text in texts]

    return Rows(frame.select(list(schema(ask.wanted))), raw, by_line=False)


def _text(values: pl.Series) -> pl.Series:
    """Values as text, nested ones as JSON; null where they are none, as bytes."""
    if not values.dtype.is_nested():
        return values.cast(pl.String, strict=False)
    texts = [
        None if value is None else json.dumps(value, ensure_ascii=False, default=lambda _: None)
        for value in values.to_list()
    ]
    return pl.Series(values.name, texts, dtype=pl.String)
