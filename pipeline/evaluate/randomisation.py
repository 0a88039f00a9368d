"""Is the candidate worse than another system, beyond chance? Paired randomisation, by group.

If the two systems were alike, their answers to a patient's rows could as well have been each
other's. So all answers of a group are swapped between the two systems with probability one half,
many times; p is the share of these randomisations, the unswapped one among them, in which the
candidate looks at least as bad as it does. No distribution is assumed, the metric may be any, and
p <= alpha happens with probability at most alpha (Phipson and Smyth 2010).

A group that has rows in several tasks is swapped in all of them at once. So the scores of all
tasks in one randomisation belong together, and so do their mean, their minimum, and the smallest
p over tasks, which is what ``step_down`` needs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.digests import value_digest
from pipeline.evaluate.statistics import TOTALS
from pipeline.metrics import Floats, Metric

SUBSETS = np.unpackbits(np.arange(256, dtype=np.uint8)[None], axis=0).astype(np.float64)
"""Which of eight groups each of the 256 values of an octet swaps, ``[8, 256]``."""

DECIMALS = 12
"""Sums in another order differ in their last bits; differences that agree to this are ties."""


class Swaps:
    """Which groups are swapped in each of ``draws`` randomisations.

    Eight groups share an octet: a random byte for each randomisation, made from ``seed`` and the
    octet's number whenever it is needed (Philox, whose streams are told apart by a key). So
    nothing of the size groups x draws is ever held.
    """

    def __init__(self, seed: int, draws: int, groups: Iterable[str]) -> None:
        self.draws = draws
        self._key = int(value_digest([seed, "randomisation"])[:16], 16)
        self.places = {group: place for place, group in enumerate(dict.fromkeys(groups))}

    def octet(self, number: int) -> NDArray[np.uint8]:
        """The octet's value in each randomisation, ``[draws]``."""
        words = np.random.Philox(key=[self._key, number]).random_raw(-(-self.draws // 8))
        return words.astype("<u8", copy=False).view(np.uint8)[: self.draws]


@dataclass(frozen=True)
class Randomised:
    """The two systems' scores as they are and in each randomisation, ``[1 + draws]`` each."""

    candidate: Floats
    other: Floats

    @property
    def differences(self) -> Floats:
        """Candidate minus other, ``[1 + draws]``; equal differences are equal to the last bit."""
        return np.round(self.candidate - self.other, DECIMALS)


def randomise(
    metric: Metric, candidate: Floats, other: Floats, groups: Sequence[str], swaps: Swaps
) -> Randomised:
    """Both systems' scores in each randomisation, from statistics by group, ``[groups, k]``.

    ``groups`` names the rows of both. The totals of eight groups are looked up in a table of
    their 256 subsets, so that a randomisation costs an addition for eight groups.
    """
    as_it_is = candidate.sum(axis=0)
    both = (as_it_is + other.sum(axis=0))[:, None]
    tables = list(_tables(other - candidate, np.array([swaps.places[group] for group in groups])))
    scores = np.empty((2, 1 + swaps.draws))
    scores[:, 0] = metric.score(as_it_is), metric.score(other.sum(axis=0))
    chunk = max(1, TOTALS // len(as_it_is))
    for start in range(0, swaps.draws, chunk):
        part = slice(start, min(start + chunk, swaps.draws))
        totals = np.repeat(as_it_is[:, None], part.stop - start, axis=1)
        for number, columns, table in tables:
            totals[columns] += np.take(table, swaps.octet(number)[part], axis=1)
        scores[0, 1:][part] = metric.score(totals.T)
        scores[1, 1:][part] = metric.score((both - totals).T)
    return Randomised(*scores)


def _tables(change: Floats, places: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp], Floats]]:
    """Each octet's number, the statistics it moves, and by how much for each of its 256 values.

    ``change [groups, k]``: what swapping a group adds to the candidate's totals. Groups that are
    equal in both systems are unmoved by a swap.
    """
    moved = np.flatnonzero(change.any(axis=1))
    moved = moved[np.argsort(places[moved], kind="stable")]
    numbers, starts = np.unique(places[moved] // 8, return_index=True)
    bounds = np.append(starts, len(moved))
    for number, start, end in zip(numbers.tolist(), bounds[:-1], bounds[1:], strict=True):
        rows = moved[start:end]
        columns = np.flatnonzero(change[rows].any(axis=0))
        yield number, columns, change[np.ix_(rows, columns)].T @ SUBSETS[places[rows] % 8]


def over_tasks(tasks: Sequence[Randomised], how: Callable[[Floats], Floats]) -> Randomised:
    """The scores of several tasks as one: ``how`` reduces ``[tasks, 1 + draws]`` along its tasks."""
    return Randomised(
        how(np.stack([task.candidate for task in tasks])), how(np.stack([task.other for task in tasks]))
    )


def p_worse(differences: Floats) -> float:
    """One-sided p for "worse", of differences ``[1 + draws]`` of which the first is the real one."""
    return float(np.mean(differences <= differences[0]))


def step_down(differences: Sequence[Floats]) -> list[float]:
    """p for "worse" of each of several comparisons, adjusted for looking at all of them.

    Holm's step-down, with the joint distribution of the p-values in place of his bound by their
    sum: the min-p procedure of Westfall and Young (1993). Blocking where the adjusted p is at
    most alpha wrongly blocks any comparison with probability at most alpha, whichever of the
    others are truly worse. It is never larger than Holm's p, and smaller where tasks are small
    (p-values take few values) or share groups.

    ``differences``: for each comparison ``[1 + draws]``, the first the real one; the
    randomisations are the same in all.
    """
    if not differences:
        return []
    shares = np.stack([_as_if_real(each) for each in differences])
    order = np.argsort(shares[:, 0], kind="stable")
    # The smallest p among a comparison and all those with larger p, in each randomisation.
    smallest = np.minimum.accumulate(shares[order[::-1]], axis=0)[::-1]
    stepped = np.mean(smallest <= shares[order, :1], axis=1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(stepped)
    return [float(p) for p in adjusted]


def _as_if_real(differences: Floats) -> Floats:
    """The p that each randomisation would have, were it the real one, ``[1 + draws]``."""
    _, place, counts = np.unique(differences, return_inverse=True, return_counts=True)
    return np.cumsum(counts)[place] / len(differences)
