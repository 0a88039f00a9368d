"""What only all shards together decide: which of two duplicates stays, which groups are drawn.

Both go by hashes of content, so that neither the order nor the number of arrivals matters.
"""

import polars as pl

from pipeline.errors import DataError


def winners(keys: pl.DataFrame) -> pl.DataFrame:
    """One row for each distinct (task, input, target, split): that of the smallest content hash.

    keys: KEYS_SCHEMA and ``shard``; shard and line decide between rows of equal content.
    """
    return keys.sort("content", "shard", "line").unique("same", keep="first", maintain_order=True)


def drawn(keys: pl.DataFrame, cap: int) -> pl.DataFrame:
    """At most ``cap`` rows for each task and split: whole groups in the order of their hash.

    The first group is kept whatever its size, so that no task disappears.
    """
    cell = ["task", "split"]
    groups = keys.group_by(*cell, "group").len().sort(*cell, "group")
    so_far = pl.col("len").cast(pl.Int64).cum_sum().over(cell)
    first = pl.int_range(pl.len()).over(cell) == 0
    kept = groups.filter((so_far <= cap) | first)
    return keys.join(kept, on=[*cell, "group"], how="semi", nulls_equal=True)


def check_labels(keys: pl.DataFrame) -> None:
    """Raise DataError where two spellings of owners become one task name."""
    spelt = keys.sort("shard", "line").unique(["task", "task_label"], keep="first", maintain_order=True)
    for (task,), rows in spelt.sort("task", maintain_order=True).group_by("task", maintain_order=True):
        if rows.height > 1:
            places = ", ".join(f"{shard}:{line}" for shard, line in rows.select("shard", "line").iter_rows())
            raise DataError(
                f"field task: {rows.height} spellings become one task {task} (shard:line {places}): "
                "write it in one way in all files"
            )
