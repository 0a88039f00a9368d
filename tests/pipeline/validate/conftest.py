"""Shards of a few records, and the stage run on them."""

from typing import Any

import polars as pl

from pipeline import paths
from pipeline.params import Params
from pipeline.records import INGESTED_SCHEMA
from pipeline.stage import Progress, Report
from pipeline.validate.__main__ import run

NAME = "Featherstone"


def shard(digest: str, *changes: dict[str, Any], drop: str | None = None) -> None:
    """Write a shard with one record for each dict of changes; every text field holds NAME."""
    rows = [
        {
            "sample_id": f"{NAME} {digest} {line}",
            "task": "triage",
            "task_type": "classification",
            "input": f"{NAME} has chest pain",
            "target": f"Dr. {NAME}",
            "answer_choices": [f"Dr. {NAME}", "nobody"],
            "group_id": f"{NAME} {digest} {line}",
            "language": "en",
            "source": NAME,
            "split": None,
            "task_label": "triage",
            "shard": digest,
            "line": line,
        }
        | change
        for line, change in enumerate(changes, 1)
    ]
    paths.INGESTED.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame(rows, schema=INGESTED_SCHEMA)
    (frame.drop(drop) if drop else frame).write_parquet(paths.INGESTED / f"{digest}.parquet")


def validate(progress: Progress | None = None) -> Report:
    return run(Params.load(), progress or Progress("validate"))


def found(report: Report, column: str, level: str) -> dict[str, Any]:
    return next(e for e in report["expectations"] if (e["column"], e["level"]) == (column, level))
