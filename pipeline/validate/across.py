"""What only all shards together tell: ids that occur twice, groups in two splits, tasks.

Only columns of ids and labels are read, and a number of eight bytes a record is kept of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.records import CHOICE_TASK_TYPES, TASK_NAME

SAMPLE = pl.struct("source", "sample_id").hash()
"""A record's identity, u64."""

GROUP = pl.when(pl.col("group_id").is_not_null()).then(pl.col("group_id").hash()).otherwise(SAMPLE)
"""A record's group, u64; a record without a group is its own."""

DRIFT_GROUPS = 200_000
"""About so many groups tell whether the data drifted; of more, these are drawn by hash."""

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Across:
    """``rows``; ``repeated``: SAMPLE of ids that occur twice; ``torn``: GROUP of groups in two owner
    splits; ``mixed``: tasks of two types; ``tasks``: task, records (i64), and the booleans
    ``several_groups`` and ``several_answers`` (true but for choice tasks of one answer alone).
    """

    rows: int
    repeated: pl.Series
    torn: pl.Series
    mixed: pl.Series
    tasks: pl.DataFrame

    @property
    def unique(self) -> pl.Expr:
        return ~SAMPLE.is_in(self.repeated.implode())

    @property
    def in_one_split(self) -> pl.Expr:
        return ~GROUP.is_in(self.torn.implode())

    @property
    def of_one_type(self) -> pl.Expr:
        return ~pl.col("task").is_in(self.mixed.implode())

    def flagged(self, shards: Sequence[Path]) -> dict[str, list[int]]:
        """Numbers for the records of a shard that are part of this: its findings change as they do."""
        if not (self.repeated.len() or self.torn.len() or self.mixed.len()):
            return {}
        rows = _scan(shards).select(
            "shard", "line", unique=self.unique, one_split=self.in_one_split, one_type=self.of_one_type
        )
        odd = rows.filter(~pl.all_horizontal("unique", "one_split", "one_type")).group_by("shard")
        counted = odd.agg(pl.len(), pl.struct("line", "unique", "one_split", "one_type").hash().sum())
        return {str(shard): numbers for shard, *numbers in counted.collect(engine="streaming").iter_rows()}


def across(shards: Sequence[Path]) -> Across:
    """Read it off all shards."""
    scan = _scan(shards)
    answer = pl.when(pl.col("task_type").is_in(CHOICE_TASK_TYPES)).then(pl.col("target").hash())
    by_task = scan.group_by("task").agg(
        records=pl.len().cast(pl.Int64),
        types=pl.col("task_type").n_unique(),
        several_groups=GROUP.min() != GROUP.max(),
        several_answers=(answer.min() != answer.max()).fill_null(True),
    )
    in_split = scan.drop_nulls(["group_id", "split"]).select(GROUP.alias("group"), "split").unique()
    tasks, samples, groups = pl.collect_all(
        [by_task, scan.select(SAMPLE.alias("sample")), in_split], engine="streaming"
    )
    safe = pl.col("task").str.contains(rf"\A(?:{TASK_NAME.pattern})\z")
    return Across(
        rows=samples.height,
        repeated=_repeated(samples["sample"].to_numpy(writable=True)),
        torn=_repeated(groups["group"].to_numpy(writable=True)),
        mixed=tasks.filter(pl.col("types") > 1)["task"].sort(),
        # Tasks of unsafe names are reported by the rows that bear them.
        tasks=tasks.filter(safe).drop("types").sort("task"),
    )


def independent(shards: Sequence[Path]) -> pl.DataFrame:
    """For each task, one record of each group, drawn by hash; of all groups or of some DRIFT_GROUPS.

    Columns ``group`` (u64), ``task, language`` (without script and region, as after deidentify),
    ``input_length, target_length`` (characters), ``label`` (the target of choice tasks, else null).
    The first row of a group is drawn from all its tasks.
    """
    scan = _scan(shards)
    groups = scan.select(GROUP.approx_n_unique()).collect(engine="streaming").item()
    limit = min(2**64 - 1, int(2**64 * DRIFT_GROUPS / max(groups, 1)))
    return (
        scan.with_columns(group=GROUP, record=SAMPLE)
        .filter(pl.col("group") <= pl.lit(limit, pl.UInt64))
        .select(
            "group",
            "record",
            "task",
            pl.col("language").str.extract("^([^-]*)").str.to_lowercase(),
            input_length=pl.col("input").str.len_chars(),
            target_length=pl.col("target").str.len_chars(),
            label=pl.when(pl.col("task_type").is_in(CHOICE_TASK_TYPES)).then("target"),
        )
        .group_by("group", "task")
        .agg(pl.all().min_by("record"))
        .collect(engine="streaming")
        .sort("record")
        .drop("record")
    )


def _scan(shards: Sequence[Path]) -> pl.LazyFrame:
    return pl.scan_parquet(list(shards), glob=False)


def _repeated(hashes: Hashes) -> pl.Series:
    """Hashes that occur twice; sorts the array in place."""
    hashes.sort()
    return pl.Series(np.unique(hashes[1:][hashes[1:] == hashes[:-1]]), dtype=pl.UInt64)
