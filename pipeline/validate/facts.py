"""Columns of numbers and booleans that stand for the records: all that an expectation may see."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import InputError
from pipeline.params import Validate
from pipeline.records import (
    CHOICE_TASK_TYPES,
    INGESTED_SCHEMA,
    LANGUAGE_TAG,
    SPLITS,
    TASK_NAME,
    TASK_TYPES,
)

BLOCK_ROWS = 200_000
"""Rows that Great Expectations gets at once: some 30 MB of derived columns."""


def shard_facts(shards: list[Path]) -> pl.DataFrame:
    """``shard`` and whether its columns are those of INGESTED_SCHEMA."""
    return pl.DataFrame(
        {
            "shard": [path.stem for path in shards],
            "schema_fits": [pl.read_parquet_schema(path) == INGESTED_SCHEMA for path in shards],
        }
    )


def count(shards: list[Path]) -> int:
    """Rows of all shards, whatever their columns."""
    return sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in shards)


def across_shards(shards: list[Path]) -> pl.DataFrame:
    """What only all shards together tell of a record, row for row in the order of the shards.

    Columns ``shard, line, task, language, input_characters, group`` (a hash, null without a
    group) and the booleans ``sample_unique, group_in_one_owner_split, task_has_one_type``.
    """
    rows = pl.concat(
        pl.read_parquet(path, columns=[*INGESTED_SCHEMA]).select(
            "shard",
            "line",
            "task",
            "task_type",
            "language",
            "split",
            pl.col("input").str.len_chars().alias("input_characters"),
            pl.struct("source", "sample_id").hash().alias("sample"),
            pl.when(pl.col("group_id").is_not_null()).then(pl.col("group_id").hash()).alias("group"),
        )
        for path in shards
    )
    splits = rows.drop_nulls(["group", "split"]).group_by("group").agg(pl.col("split").n_unique())
    torn = splits.filter(pl.col("split") > 1)["group"]
    types = rows.group_by("task").agg(pl.col("task_type").n_unique())
    mixed = types.filter(pl.col("task_type") > 1)["task"]
    return rows.with_columns(
        sample_unique=pl.col("sample").is_unique(),
        group_in_one_owner_split=~pl.col("group").is_in(torn.implode()).fill_null(False),
        task_has_one_type=~pl.col("task").is_in(mixed.implode()).fill_null(False),
    ).drop("sample", "split", "task_type")


def record_facts(path: Path, across: pl.DataFrame, validate: Validate) -> pl.DataFrame:
    """Derived columns of one shard's records, for record_suite."""
    col = pl.col
    is_choice = col("task_type").is_in(CHOICE_TASK_TYPES).fill_null(False)
    choices = col("answer_choices")
    fit = (choices.list.len() > 1) & (choices.list.n_unique() == choices.list.len())
    known = col("task").is_in(validate.tasks) if validate.tasks is not None else pl.lit(True)
    facts = pl.read_parquet(path).select(
        "shard",
        "line",
        task_name_valid=col("task").str.contains(rf"\A(?:{TASK_NAME.pattern})\z"),
        task_known=known,
        task_type_known=col("task_type").is_in(TASK_TYPES),
        choices_fit=~is_choice | fit,
        target_in_choices=~is_choice | choices.list.contains(col("target")),
        language_valid=col("language").str.contains(rf"\A(?:{LANGUAGE_TAG.pattern})\z"),
        split_known=col("split").is_null() | col("split").is_in(SPLITS),
        input_characters=col("input").str.strip_chars().str.len_chars().cast(pl.Int64),
        target_characters=col("target").str.strip_chars().str.len_chars().cast(pl.Int64),
    )
    together = across.filter(pl.col("shard") == path.stem).select(
        "sample_unique", "group_in_one_owner_split", "task_has_one_type"
    )
    return pl.concat([facts, together], how="horizontal").with_columns(
        pl.col(pl.Boolean).fill_null(False), pl.col("input_characters", "target_characters").fill_null(0)
    )


def blocks(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Frames joined to blocks: many small files must not cost one suite run each."""
    block: list[pl.DataFrame] = []
    for frame in frames:
        block.append(frame)
        if sum(part.height for part in block) >= BLOCK_ROWS:
            yield pl.concat(block)
            block = []
    if block:
        yield pl.concat(block)


def task_facts(across: pl.DataFrame) -> pl.DataFrame:
    """Records and groups of each task; a record without a group is its own.

    Tasks of unsafe names are left out: they are reported by the rows that bear them.
    """
    safe = pl.col("task").str.contains(rf"\A(?:{TASK_NAME.pattern})\z")
    groups = pl.col("group").drop_nulls().n_unique() + pl.col("group").is_null().sum()
    return (
        across.filter(safe)
        .group_by("task")
        .agg(records=pl.len().cast(pl.Int64), groups=groups.cast(pl.Int64))
        .sort("task")
    )


def drift(profile: dict[str, Any], across: pl.DataFrame) -> pl.DataFrame:
    """Total variation distance of the data from a profile (pipeline.split): tasks, languages,
    and input lengths between the profile's edges."""
    try:
        tasks = {task: facts["rows"] for task, facts in profile["tasks"].items()}
        histograms = (facts["input_lengths"] for facts in profile["tasks"].values())
        lengths = [sum(counts) for counts in zip(*histograms, strict=True)]
        languages, edges = profile["languages"], profile["length_edges"]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(
            "validate.baseline: profile.json is not a profile of data: name another release"
        ) from None
    bins = pl.Series(edges).search_sorted(across["input_characters"], side="right") - 1
    counts = dict(bins.value_counts().iter_rows())
    distances = {
        "task_mix_distance": _distance(tasks, dict(across["task"].value_counts().iter_rows())),
        "language_mix_distance": _distance(languages, dict(across["language"].value_counts().iter_rows())),
        "input_length_distance": _distance(dict(enumerate(lengths)), counts),
    }
    return pl.DataFrame([distances])


def _distance(before: dict[Any, int], after: dict[Any, int]) -> float:
    """Half the sum of differences of shares: 0 for the same mix, 1 for nothing in common."""
    total_before, total_after = sum(before.values()) or 1, sum(after.values()) or 1
    names = before.keys() | after.keys()
    return sum(abs(before.get(n, 0) / total_before - after.get(n, 0) / total_after) for n in names) / 2
