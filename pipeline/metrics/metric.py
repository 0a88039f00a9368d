"""What a metric is: sums that add up over rows, and the score of their totals."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One test row as a metric sees it; ``choices`` are labels, or an inventory of types."""

    target: str
    language: str
    choices: tuple[str, ...] | None = None


def no_labels(_rows: Sequence[Row], _systems: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The labels of a metric that counts none."""
    return ()


@dataclass(frozen=True)
class Metric:
    """``statistics(rows, answers, labels) -> [rows, k]``, ``score(totals [..., k]) -> [...]``.

    ``labels`` order the columns of the F1 of labels; they must be those of ``labels(rows,
    systems)`` over all systems that are to be compared. Other metrics ignore them.
    """

    statistics: Callable[[Sequence[Row], Sequence[str], Sequence[str]], Floats]
    score: Callable[[Floats], Floats]
    columns: Callable[[Floats], dict[str, Floats]]
    """The statistics as columns of data/predictions: ``score``, or ``tp``, ``fp``, ``fn``, or none."""
    labels: Callable[[Sequence[Row], Sequence[Sequence[str]]], tuple[str, ...]] = no_labels
    malformed: Callable[[Row, str], bool] | None = None
    """Whether an answer is not of the metric's own format; None where the task type says."""
    package: str | None = None
    """A package of an optional extra that the metric needs."""


def normalise(text: str) -> str:
    """The form in which answers, labels and mentions are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient in which 0/0 is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)


def mean_of(
    row_score: Callable[[Row, str], float],
    malformed: Callable[[Row, str], bool] | None = None,
    package: str | None = None,
) -> Metric:
    """The plain mean over rows of ``row_score(row, answer)``; its statistics are score and 1."""

    def statistics(rows: Sequence[Row], answers: Sequence[str], _labels: Sequence[str]) -> Floats:
        scores = [row_score(row, answer) for row, answer in zip(rows, answers, strict=True)]
        return np.stack([np.array(scores, np.float64), np.ones(len(scores))], axis=1)

    return Metric(statistics, mean_score, score_column, malformed=malformed, package=package)


def mean_score(totals: Floats) -> Floats:
    """Score of the totals ``[..., sum and count]``."""
    return ratio(totals[..., 0], totals[..., 1])


def score_column(statistics: Floats) -> dict[str, Floats]:
    """Each row's mean of what it sums, as the column ``score``."""
    return {"score": mean_score(statistics)}
