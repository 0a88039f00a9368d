"""Accuracy, exact match and F1 over labels, as scikit-learn defines them.

    accuracy, exact_match  rows whose answer equals the target / rows
    macro_f1               plain mean of F1 over the labels seen in gold or answers
    micro_f1               F1 of the counts of all labels together
    weighted_f1            F1 of each label, weighted by its rows in gold

A malformed answer is no label: it costs its gold label recall and adds no label of its own.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pipeline.metrics.metric import Floats, Metric, Row, mean_of, normalise, ratio


@lru_cache(maxsize=1024)
def normalised(choices: tuple[str, ...]) -> frozenset[str]:
    """Normalised labels; rows of one task mostly share theirs."""
    return frozenset(map(normalise, choices))


def is_malformed(row: Row, answer: str) -> bool:
    """Whether an answer is empty or, where there are choices, none of them."""
    label = normalise(answer)
    return not label or (row.choices is not None and label not in normalised(row.choices))


def label_space(rows: Sequence[Row], systems: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Sorted normalised labels of gold and of the well-formed answers of ``systems``."""
    labels = {normalise(row.target) for row in rows}
    for answers in systems:
        for row, answer in zip(rows, answers, strict=True):
            if not is_malformed(row, answer):
                labels.add(normalise(answer))
    return tuple(sorted(labels))


def _label(row: Row, answer: str) -> str | None:
    return None if is_malformed(row, answer) else normalise(answer)


def _statistics(rows: Sequence[Row], answers: Sequence[str], labels: Sequence[str]) -> Floats:
    gold = [normalise(row.target) for row in rows]
    return one_hot(gold, [_label(*pair) for pair in zip(rows, answers, strict=True)], labels)


def one_hot(gold: Sequence[str], answered: Sequence[str | None], labels: Sequence[str]) -> Floats:
    """Columns [gold | answered | both], a block of len(labels) each; None is no label.

    Raises ValueError where ``labels`` lack one that was counted.
    """
    index = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(gold), 3, len(labels)))
    for i, (wanted, found) in enumerate(zip(gold, answered, strict=True)):
        if wanted not in index or (found is not None and found not in index):
            raise ValueError("labels: take those of label_space(rows, *systems, metric=NAME) for this metric")
        counts[i, 0, index[wanted]] = 1
        if found is not None:
            counts[i, 1, index[found]] = 1
            counts[i, 2, index[found]] = wanted == found
    return counts.reshape(len(gold), 3 * len(labels))


def correct_column(statistics: Floats) -> dict[str, Floats]:
    """1 for each row whose answer is its label."""
    return {"score": np.split(statistics, 3, axis=1)[2].sum(axis=1)}


def _label_f1(totals: Floats) -> tuple[Floats, Floats, Floats]:
    gold, answered, both = np.split(totals, 3, axis=-1)
    return ratio(2 * both, gold + answered), gold, answered


def macro(totals: Floats) -> Floats:
    f1, gold, answered = _label_f1(totals)
    seen = (gold + answered) > 0
    return ratio((f1 * seen).sum(-1), seen.sum(-1).astype(np.float64))


def micro(totals: Floats) -> Floats:
    gold, answered, both = np.split(totals, 3, axis=-1)
    return ratio(2 * both.sum(-1), gold.sum(-1) + answered.sum(-1))


def weighted(totals: Floats) -> Floats:
    f1, gold, _ = _label_f1(totals)
    return ratio((f1 * gold).sum(-1), gold.sum(-1))


def _equal(row: Row, answer: str) -> float:
    """An empty answer is malformed, so wrong even where the target is empty."""
    found = normalise(answer)
    return float(bool(found) and normalise(row.target) == found)


METRICS: dict[str, Metric] = {
    "accuracy": mean_of(_equal),
    "macro_f1": Metric(_statistics, macro, correct_column, label_space),
    "micro_f1": Metric(_statistics, micro, correct_column, label_space),
    "weighted_f1": Metric(_statistics, weighted, correct_column, label_space),
    "exact_match": mean_of(_equal),
}
