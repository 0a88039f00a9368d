"""Columns of numbers and booleans that stand for the records: all that an expectation may see."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from pipeline.params import Params
from pipeline.records import (
    CHOICE_TASK_TYPES,
    INGESTED_SCHEMA,
    LANGUAGE_TAG,
    SPLITS,
    TASK_NAME,
    TASK_TYPES,
)
from pipeline.validate.across import Across
from pipeline.validate.drift import Judged
from pipeline.validate.forms import in_form

READ_ROWS = 100_000
"""Records that are read at once: what bounds memory is their text."""

BLOCK_ROWS = 400_000
"""Rows that Great Expectations gets at once; a run of its suite costs half a second anyway."""


def shard_facts(shards: Sequence[Path]) -> pl.DataFrame:
    """``shard`` and whether its columns are those of INGESTED_SCHEMA."""
    return pl.DataFrame(
        {
            "shard": [path.stem for path in shards],
            "schema_fits": [pl.read_parquet_schema(path) == INGESTED_SCHEMA for path in shards],
        }
    )


def count(shards: Sequence[Path]) -> int:
    """Rows of all shards, whatever their columns."""
    return sum(map(_height, shards))


def record_facts(shards: Sequence[Path], across: Across, params: Params) -> Iterator[pl.DataFrame]:
    """Derived columns of the shards' records for record_suite, in their order, in blocks."""
    block: list[pl.DataFrame] = []
    for records in _read(shards):
        block.append(_derived(records, across, params))
        if sum(part.height for part in block) >= BLOCK_ROWS:
            yield pl.concat(block)
            block = []
    if block:
        yield pl.concat(block)


def _height(shard: Path) -> int:
    rows: int = pl.scan_parquet(shard).select(pl.len()).collect().item()
    return rows


def _read(shards: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """Records, READ_ROWS at a time: parts of large shards, and many small ones together.

    Polars' own batches would be read ahead of whoever uses them.
    """
    together: list[Path] = []
    rows = 0
    for shard in shards:
        height = _height(shard)
        if together and rows + height > READ_ROWS:
            yield pl.read_parquet(together, glob=False)
            together, rows = [], 0
        if height <= READ_ROWS:
            together.append(shard)
            rows += height
        else:
            for at in range(0, height, READ_ROWS):
                yield pl.scan_parquet(shard, glob=False).slice(at, READ_ROWS).collect()
    if together:
        yield pl.read_parquet(together, glob=False)


def _derived(records: pl.DataFrame, across: Across, params: Params) -> pl.DataFrame:
    col, validate = pl.col, params.validate_
    is_choice = col("task_type").is_in(CHOICE_TASK_TYPES).fill_null(False)
    choices = col("answer_choices")
    fit = (choices.list.len() > 1) & (choices.list.n_unique() == choices.list.len())
    known = col("task").is_in(validate.tasks) if validate.tasks is not None else pl.lit(True)
    characters = {
        f"{name}_characters": col(name).str.strip_chars().str.len_chars().cast(pl.Int64).fill_null(0)
        for name in ("input", "target")
    }
    return records.select(
        "shard",
        "line",
        in_form(records, params.evaluate).alias("target_in_form"),
        task_name_valid=col("task").str.contains(rf"\A(?:{TASK_NAME.pattern})\z"),
        task_known=known,
        task_type_known=col("task_type").is_in(TASK_TYPES),
        task_has_one_type=across.of_one_type,
        choices_fit=~is_choice | fit,
        target_in_choices=~is_choice | choices.list.contains(col("target")),
        target_differs_from_input=is_choice | (col("target") != col("input")),
        summary_is_shorter=(col("task_type") != "summarization")
        | (characters["target_characters"] < characters["input_characters"]),
        language_valid=col("language").str.contains(rf"\A(?:{LANGUAGE_TAG.pattern})\z"),
        split_known=col("split").is_null() | col("split").is_in(SPLITS),
        sample_unique=across.unique,
        group_in_one_owner_split=across.in_one_split,
        **characters,
    ).with_columns(pl.col(pl.Boolean).fill_null(False))


def drift_facts(judged: Sequence[Judged]) -> pl.DataFrame:
    """``figure`` and how much the share changed that moved most, beyond chance."""
    return pl.DataFrame(
        {"figure": [str(each.figure) for each in judged], "share_change": [each.change for each in judged]},
        schema={"figure": pl.String, "share_change": pl.Float64},
    )
