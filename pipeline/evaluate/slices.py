"""Parts of a task's test rows where harm may hide: languages, lengths, rare labels.

    language:zh    rows of one language
    length:short   the third of the rows with the shortest input, in characters; medium; long
    labels:rare    rows whose wanted label has less than half an even share of the task's rows;
                   tasks with one choice as answer only

A slice that holds every row of its task says nothing new and is left out.
"""

from collections import Counter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.metrics import normalise
from pipeline.records import CHOICE_TASK_TYPES

LENGTHS = ("short", "medium", "long")

RARE = 0.5
"""A label is rare below this share of rows / labels."""


def slices(rows: pl.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Name of each slice of one task's rows and which rows are in it, ``[rows]``, sorted by name."""
    kinds = {"language": rows["language"].to_list(), "length": _lengths(rows), "labels": _rarity(rows)}
    found = {}
    for kind, values in kinds.items():
        for value in sorted({value for value in values if value is not None}):
            inside = np.array([each == value for each in values])
            if not inside.all():
                found[f"{kind}:{value}"] = inside
    return found


def _lengths(rows: pl.DataFrame) -> list[str]:
    """Equal inputs are of equal length, so thirds are cut between lengths and may be uneven."""
    lengths = rows["input"].str.len_chars().to_numpy()
    cuts = np.quantile(lengths, [1 / 3, 2 / 3], method="lower")
    return [LENGTHS[place] for place in np.searchsorted(cuts, lengths, side="left")]


def _rarity(rows: pl.DataFrame) -> list[str | None]:
    if rows["task_type"][0] not in CHOICE_TASK_TYPES:
        return [None] * len(rows)
    labels = [normalise(target) for target in rows["target"]]
    counts = Counter(labels)
    limit = RARE * len(labels) / len(counts)
    return ["rare" if counts[label] < limit else None for label in labels]
