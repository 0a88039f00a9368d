"""Uncertainty of scores: bootstrap and paired randomisation, by group.

A patient's rows are not independent, so groups are what is drawn and what is swapped. All works
on the statistics of pipeline.metrics summed by group, ``[groups, k]``: a resample is a row of
group weights, and its totals are a matrix product. Random numbers are drawn for each task by
its name, so that a task's figures do not move when another task comes or goes; the mean over
tasks therefore treats tasks as independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.digests import value_digest
from pipeline.metrics import Floats, Metric

CHUNK = 1_000
"""Resamples computed at once: bounds the weights to ``CHUNK x groups`` numbers."""

COVERAGE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A score, its 95 % percentile interval, and the score of each resample, ``[resamples]``."""

    score: float
    low: float
    high: float
    draws: Floats


@dataclass(frozen=True)
class Difference:
    """Candidate minus another system on the same rows.

    ``p_worse``: one-sided p of the randomisation test for "the candidate is worse".
    ``draws`` and ``swapped``: the difference in each bootstrap and each randomisation,
    ``[resamples]``.
    """

    difference: float
    low: float
    high: float
    p_worse: float
    draws: Floats
    swapped: Floats


def generator(seed: int, purpose: str, task: str) -> np.random.Generator:
    """Random numbers of one task and purpose, from the seed and the names alone."""
    return np.random.default_rng(int(value_digest([seed, purpose, task])[:32], 16))


def by_group(statistics: Floats, groups: Sequence[str]) -> Floats:
    """Row statistics ``[rows, k]`` summed by group, ``[groups, k]``, groups in order of name."""
    names, index = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
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

    ``systems``: name to statistics by group, ``[groups, k]``, the same groups in each.
    """
    groups = len(next(iter(systems.values())))
    draws: dict[str, list[Floats]] = {name: [] for name in systems}
    for start in range(0, resamples, CHUNK):
        weights = _resampled_weights(groups, min(CHUNK, resamples - start), rng)
        for name, totals in systems.items():
            draws[name].append(metric.score(weights @ totals))
    estimates = {}
    for name, totals in systems.items():
        score = float(metric.score(totals.sum(axis=0)))
        all_draws = np.concatenate(draws[name])
        low, high = interval(score, all_draws, unseen(groups))
        estimates[name] = Estimate(score, max(low, 0.0), min(high, 1.0), all_draws)
    return estimates


def _resampled_weights(groups: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each group is drawn, ``[resamples, groups]``; each row sums to ``groups``."""
    drawn = rng.integers(0, groups, (resamples, groups))
    drawn += groups * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * groups)
    return counts.reshape(resamples, groups).astype(np.float64)


def compare(
    metric: Metric,
    candidate: Floats,
    other: Floats,
    estimates: tuple[Estimate, Estimate],
    resamples: int,
    rng: np.random.Generator,
) -> Difference:
    """Paired comparison of two systems by group statistics ``[groups, k]``.

    The test swaps the two systems' answers in each group with probability one half: if the two
    were alike, every such swap would have been as likely as what was seen. ``estimates`` are
    the bootstrap of the two, drawn together, and give the interval.
    """
    difference = float(metric.score(candidate.sum(axis=0)) - metric.score(other.sum(axis=0)))
    both = candidate.sum(axis=0) + other.sum(axis=0)
    change = other - candidate
    # Groups that are equal in both systems are unmoved by a swap.
    change = change[np.any(change != 0, axis=1)]
    swapped: list[Floats] = []
    for start in range(0, resamples, CHUNK):
        swaps = rng.integers(0, 2, (min(CHUNK, resamples - start), len(change)), dtype=np.int8)
        totals = candidate.sum(axis=0) + swaps.astype(np.float64) @ change
        swapped.append(metric.score(totals) - metric.score(both - totals))
    all_swapped = np.concatenate(swapped)
    draws = estimates[0].draws - estimates[1].draws
    low, high = interval(difference, draws, unseen(len(candidate)))
    return Difference(
        difference, max(low, -1.0), min(high, 1.0), p_value(difference, all_swapped), draws, all_swapped
    )


def p_value(difference: float, swapped: Floats) -> float:
    """Share of randomisations at least as bad as ``difference``, which counts as one of them."""
    # Sums in another order differ in their last bits; such draws are ties, not better.
    return float((1 + np.count_nonzero(swapped <= difference + 1e-12)) / (1 + len(swapped)))


def smallest_detectable(comparison: Difference) -> float:
    """The loss that this test set shows four times in five (one-sided 5 %, 80 % power)."""
    standard_error = (comparison.high - comparison.low) / (2 * 1.959964)
    return float((1.644854 + 0.841621) * standard_error)


def rank_test(inserted: NDArray[np.float64], held_back: NDArray[np.float64]) -> float:
    """One-sided Mann-Whitney p for "inserted losses are lower than held-back ones"."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(inserted, held_back, alternative="less").pvalue)
