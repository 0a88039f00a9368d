"""The stage's report, and the description of its data that a release carries."""

from typing import Any

import numpy as np
import polars as pl

from pipeline.records import CHOICE_TASK_TYPES, SPLITS
from pipeline.stage import Report

LENGTH_EDGES = (0, 50, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200, 4800, 6400, 12800)
"""Lower edges, in characters, of the profile's length histograms; the last one is open."""

MAX_LABELS = 64
MIN_LABEL_GROUPS = 5
"""A task's label is named in the profile when at least this many groups have it."""


def report(records: pl.DataFrame) -> Report:
    """Counts of ``records``: the index of parts with ``split``, ``held_out`` and ``conflict``.

    ``lacking`` names the tasks without a row in a split. ``conflicts`` counts, for each task that
    has any, the records whose input another record of the task has with another target: in the
    same words (``same``), or only in a near-duplicate (``near``). ``profile`` describes all records
    that came in, and holds no text but names of tasks, languages and common labels.
    """
    place = pl.when("held_out").then(pl.lit("held_out")).otherwise("split").alias("place")
    counts = records.group_by("task", place).len()
    tasks: dict[str, dict[str, int]] = {
        task: dict.fromkeys((*SPLITS, "held_out"), 0) for task in sorted(records["task"].unique())
    }
    for task, name, count in counts.iter_rows():
        tasks[task][name] = count
    held_out = sum(places["held_out"] for places in tasks.values())
    return {
        "rows": {"in": records.height, "out": records.height - held_out, "held_out": held_out},
        "splits": {name: sum(places[name] for places in tasks.values()) for name in SPLITS},
        "tasks": tasks,
        "lacking": {name: [task for task, places in tasks.items() if not places[name]] for name in SPLITS},
        "conflicts": _conflicts(records),
        "profile": profile(records),
    }


def _conflicts(records: pl.DataFrame) -> dict[str, dict[str, int]]:
    counts = records.drop_nulls("conflict").group_by("task", "conflict").len().sort("task")
    tasks: dict[str, dict[str, int]] = {}
    for task, kind, count in counts.iter_rows():
        tasks.setdefault(task, {"same": 0, "near": 0})[kind] = count
    return tasks


def profile(records: pl.DataFrame) -> dict[str, Any]:
    """Counts and histograms of the data, for a release and for measuring drift against it.

    ``{"rows", "languages", "task_types", "length_edges", "labels_named", "independent", "tasks":
    {task: {"rows", "groups", "task_type", "languages", "input_lengths", "target_lengths", "labels",
    "independent"}}}``. Lengths are characters, counted between ``length_edges``. ``labels`` is null
    unless the task offers every record the same choices: options made for one record may identify
    somebody. ``labels_named`` says how many groups name a label, and how many are named at most.

    ``independent`` counts one record of each group, drawn by its pseudonym: languages and tasks of
    all data, lengths and labels within each task. Tests of drift need independent draws.
    """
    by_pseudonym = records.sort("sample_id")
    drawn = by_pseudonym.unique("group_id", keep="first")
    by_task = by_pseudonym.unique(["group_id", "task"], keep="first").partition_by("task", as_dict=True)
    return {
        "rows": records.height,
        "languages": _counts(records["language"]),
        "task_types": _counts(records["task_type"]),
        "length_edges": list(LENGTH_EDGES),
        "labels_named": {"groups": MIN_LABEL_GROUPS, "most": MAX_LABELS},
        "independent": {"languages": _counts(drawn["language"]), "tasks": _counts(drawn["task"])},
        "tasks": {
            task: {
                "rows": rows.height,
                "groups": rows["group_id"].n_unique(),
                "task_type": rows["task_type"].sort()[0],
                "languages": _counts(rows["language"]),
                **_distributions(rows),
                "independent": _distributions(by_task[task,]),
            }
            for (task,), rows in sorted(records.partition_by("task", as_dict=True).items())
        },
    }


def _distributions(rows: pl.DataFrame) -> dict[str, Any]:
    return {
        "input_lengths": _histogram(rows["input_length"]),
        "target_lengths": _histogram(rows["target_length"]),
        "labels": _labels(rows),
    }


def _counts(values: pl.Series) -> dict[str, int]:
    return {str(value): count for value, count in sorted(values.value_counts().iter_rows())}


def _histogram(lengths: pl.Series) -> list[int]:
    at = np.searchsorted(LENGTH_EDGES, lengths.to_numpy(), side="right") - 1
    return [int(count) for count in np.bincount(at, minlength=len(LENGTH_EDGES))]


def _labels(rows: pl.DataFrame) -> dict[str, int] | None:
    """Rows by label; rare labels, and those past MAX_LABELS, are pooled as ``other``."""
    choice = set(rows["task_type"]) <= set(CHOICE_TASK_TYPES)
    if not choice or rows["choices"].n_unique() > 1 or rows["choices"].has_nulls():
        return None
    labels = rows.group_by("label").agg(rows=pl.len(), groups=pl.col("group_id").n_unique())
    named = labels.filter(pl.col("groups") >= MIN_LABEL_GROUPS).sort(
        "rows", "label", descending=[True, False]
    )
    counts = dict(sorted(named.head(MAX_LABELS).select("label", "rows").iter_rows()))
    other = rows.height - sum(counts.values())
    return counts | ({"other": counts.get("other", 0) + other} if other else {})
