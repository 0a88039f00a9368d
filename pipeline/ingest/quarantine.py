"""What stands in quarantine: reasons, counts and places, without the rows' text."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from pipeline import paths
from pipeline.records import TASK_NAME

NAMED_ROWS = 20
"""At most so many places of a group are named."""

SCHEMA = pl.Schema(
    {"shard": pl.String, "line": pl.Int64, "field": pl.String, "reason": pl.String, "task": pl.String}
)

_TASK = r'(?:^|[^\\])"task(?:_dataset)?"\s*:\s*"([^"\\]*)"'
"""The task that a row of JSON names, though it may be no JSON otherwise."""


def read() -> pl.DataFrame:
    """The quarantined rows of data/quarantine, by shard and line: columns SCHEMA.

    ``task`` is null where a row names none, or none that may be shown.
    """
    shards = sorted(paths.QUARANTINE.glob("*.parquet"))
    if not shards:
        return SCHEMA.to_frame()
    task = pl.col("raw").str.extract(_TASK).str.to_lowercase()
    shown = pl.when(task.str.contains(rf"\A(?:{TASK_NAME.pattern})\z")).then(task)
    rows = pl.scan_parquet(shards, glob=False).select("shard", "line", "field", "reason", task=shown)
    return rows.collect(engine="streaming").sort("shard", "line")


def grouped(rows: pl.DataFrame, names: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """``[{reason, field, task, rows, places}]``, the largest groups first.

    rows: see ``read``. names: what to call a shard; its digest, unless given. Places are the first
    rows, as "shard:line"; line 0 is the whole file.
    """
    by = ["reason", "field", "task"]
    groups = (
        rows.sort("shard", "line")
        .group_by(by)
        .agg(pl.len().alias("rows"), pl.col("shard", "line").head(NAMED_ROWS))
    )
    return [
        {name: group[name] for name in (*by, "rows")}
        | {
            "places": [
                f"{(names or {}).get(shard, shard)}:{line}"
                for shard, line in zip(group["shard"], group["line"], strict=True)
            ]
        }
        for group in groups.sort(
            "rows", *by, descending=[True, False, False, False], nulls_last=True
        ).to_dicts()
    ]
