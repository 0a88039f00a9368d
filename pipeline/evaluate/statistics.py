"""Uncertainty of scores: the bootstrap by group, and intervals made of it.

A patient's rows are not independent, so groups are what is drawn. All works on the statistics of
pipeline.metrics summed by group, ``[groups, k]``: a resample is a row of group weights, and its
totals are a matrix product. Random numbers are drawn for each task by its name, so that a task's
intervals do not move when another task comes or goes. The interval of a mean or a minimum over
tasks therefore treats tasks as independent; decisions do not rest on these intervals but on the
tests of pipeline.evaluate.randomisation, where a group that is in several tasks is one group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pipeline.digests import value_digest
from pipeline.metrics import Floats, Metric

WEIGHTS = 1 << 16
"""Group weights drawn at once (512 KiB): small enough for a processor's cache."""

TOTALS = 1 << 20
"""Totals of statistics computed at once (8 MiB), however many labels a metric has."""

COVERAGE = 0.95

NORMAL_80, NORMAL_95, NORMAL_975 = 0.841621, 1.644854, 1.959964
"""Quantiles of the standard normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A score, its 95 % percentile interval, and the score of each resample, ``[resamples]``."""

    score: float
    low: float
    high: float
    draws: Floats


def generator(seed: int, purpose: str, task: str) -> np.random.Generator:
    """Random numbers of one task and purpose, from the seed and the names alone."""
    return np.random.default_rng(int(value_digest([seed, purpose, task])[:32], 16))


def group_names(groups: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
    """The groups in order of name, and the place of each row's group among them, ``[rows]``."""
    names, index = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    return names.tolist(), index


def by_group(statistics: Floats, groups: Sequence[str]) -> Floats:
    """Row statistics ``[rows, k]`` summed by group, ``[groups, k]``, groups in order of name."""
    names, index = group_names(groups)
    totals = np.zeros((len(names), statistics.shape[1]))
    np.add.at(totals, index, statistics)
    return totals


def unseen(groups: int) -> float:
    """Largest rate that ``groups`` groups without a single case leave possible (97.5 %).

    The exact binomial form of the "rule of three". A bootstrap of a handful of groups, or of
    answers that are all alike, has a width of next to nothing; no interval here is narrower
    than this to either side.
    """
    return float(1 - ((1 - COVERAGE) / 2) ** (1 / groups))


def interval(score: float, draws: Floats, widen: float = 0.0) -> tuple[float, float]:
    """Percentile interval of ``draws``, at least ``widen`` wide to either side of ``score``."""
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(min(low, score - widen)), float(max(high, score + widen))


def bootstrap(
    metric: Metric, systems: dict[str, Floats], resamples: int, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Each system's score with its interval; all systems share each resample of the groups.

    ``systems``: name to statistics by group, ``[groups, k]``, the same groups in each. Memory is
    bounded by WEIGHTS and TOTALS, whatever the numbers of resamples and labels.
    """
    groups, k = next(iter(systems.values())).shape
    # Most statistics of a metric over many labels are zero: a group has few labels.
    columns = {name: csr_array(totals.T) for name, totals in systems.items()}
    draws = {name: np.empty(resamples) for name in systems}
    chunk = max(1, min(WEIGHTS // groups, TOTALS // k))
    for start in range(0, resamples, chunk):
        part = slice(start, min(start + chunk, resamples))
        weights = resampled_weights(groups, part.stop - start, rng)
        for name, totals in columns.items():
            draws[name][part] = metric.score((totals @ weights).T)
    estimates = {}
    for name, totals in systems.items():
        score = float(metric.score(totals.sum(axis=0)))
        low, high = interval(score, draws[name], unseen(groups))
        estimates[name] = Estimate(score, max(low, 0.0), min(high, 1.0), draws[name])
    return estimates


def resampled_weights(groups: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each group is drawn, ``[groups, resamples]``; each column sums to ``groups``."""
    drawn = rng.integers(0, groups, (resamples, groups))
    drawn += groups * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * groups)
    return np.ascontiguousarray(counts.reshape(resamples, groups).T, dtype=np.float64)


def smallest_detectable(low: float, high: float) -> float:
    """The loss that a test set with this interval of the difference shows four times in five
    (one-sided 5 %, 80 % power)."""
    standard_error = (high - low) / (2 * NORMAL_975)
    return (NORMAL_95 + NORMAL_80) * standard_error


def rank_test(inserted: NDArray[np.float64], held_back: NDArray[np.float64]) -> float:
    """One-sided Mann-Whitney p for "inserted losses are lower than held-back ones"."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(inserted, held_back, alternative="less").pvalue)
