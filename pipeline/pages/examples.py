"""Rows of the test split beside the answers to them: text of records, for the local page alone."""

from dataclasses import dataclass

import polars as pl

from pipeline import paths
from pipeline.errors import DataError


@dataclass(frozen=True)
class Example:
    """A test row and each system's answer to it: ``answers`` holds (text, malformed) by system."""

    task: str
    input: str
    target: str
    answers: dict[str, tuple[str, bool]]


def read(systems: list[str], count: int) -> list[Example]:
    """At most ``count`` rows a task that ``systems`` answered, rows they answer differently first.

    Among equals the order is that of ``sample_id``, which is a keyed pseudonym: as good as by
    lot, and the same every time. DataError where the split or the predictions are missing.
    """
    try:
        rows = pl.read_parquet(paths.TEST_SPLIT, columns=["task", "sample_id", "input", "target"])
        for system in systems:
            answers = pl.read_parquet(
                paths.PREDICTIONS / f"{system}.parquet", columns=["sample_id", "prediction", "malformed"]
            )
            named = answers.rename({"prediction": system, "malformed": f"{system} malformed"})
            rows = rows.join(named, on="sample_id", how="inner" if system == "candidate" else "left")
    except FileNotFoundError:
        raise DataError(
            f"{paths.TEST_SPLIT} or {paths.PREDICTIONS} is missing: run `moelora stage evaluate` first"
        ) from None
    alike = pl.all_horizontal(pl.col(each).eq_missing(pl.col("candidate")) for each in systems)
    chosen = (
        rows.with_columns(alike=alike)
        .sort("task", "alike", "sample_id")
        .group_by("task", maintain_order=True)
        .head(count)
    )
    return [
        Example(
            row["task"],
            row["input"],
            row["target"],
            {each: (row[each], row[f"{each} malformed"]) for each in systems if row[each] is not None},
        )
        for row in chosen.iter_rows(named=True)
    ]
