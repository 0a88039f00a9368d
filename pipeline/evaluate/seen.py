"""What the adapter has seen in training, and unseen rows to hold beside it.

Whatever a model does better on rows it was trained on than on rows like them that it never saw, it
has not learnt about the task but about the rows. So probes of memorisation compare rows of the
training split with as many rows of the test split, task by task.
"""

from collections.abc import Collection

import polars as pl

from pipeline.digests import value_digest

COLUMNS = ("sample_id", "task", "task_type", "input", "target", "group_id")


def seen_ids(order: pl.DataFrame, draws: int) -> set[str]:
    """Ids of the records and canaries among the first ``draws`` of the training order: those that
    the saved weights have been trained on, once or more."""
    return set(order.sort("position").head(draws)["sample_id"])


def rows_of(split: pl.DataFrame, ids: Collection[str] | None, tasks: Collection[str]) -> pl.DataFrame:
    """COLUMNS of the rows of ``tasks`` whose ids are among ``ids``, or of all where that is None."""
    wanted = pl.col("task").is_in(list(tasks))
    if ids is not None:
        wanted &= pl.col("sample_id").is_in(list(ids))
    return split.filter(wanted).select(COLUMNS)


def matched(
    seen: pl.DataFrame, unseen: pl.DataFrame, count: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """At most ``count`` rows of each, of every task as many seen as unseen, tasks as even as they allow.

    Drawn by the hash of ``seed`` and sample_id, which is a keyed pseudonym: the same rows every time,
    wherever they stand.
    """
    frames = [_ranked(rows, seed) for rows in (seen, unseen)]
    both = frames[0].select("task", "rank").join(frames[1].select("task", "rank"), on=["task", "rank"])
    chosen = both.sort("rank", "task").head(count)
    first, second = (
        frame.join(chosen, on=["task", "rank"], how="semi").sort("task", "rank").select(rows.columns)
        for frame, rows in zip(frames, (seen, unseen), strict=True)
    )
    return first, second


def _ranked(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    drawn = pl.Series("drawn", [value_digest([seed, name]) for name in rows["sample_id"]], pl.String)
    return (
        rows.with_columns(drawn).sort("task", "drawn").with_columns(rank=pl.int_range(pl.len()).over("task"))
    )
