"""The candidate beside another system on the same rows: one task, a slice, or several tasks as one.

Two summaries of tasks exist, for scores and for comparisons alike: ``mean``, where each task
counts the same, and ``worst``, the lowest score of any task, whichever that is.

The worst is a minimum of noisy scores, so it tends to lie below the lowest true score, and its
bootstrap repeats that tilt: read its interval as a cautious one. The test does not suffer: both
systems' minima are tilted alike when their answers are swapped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluate import randomisation, statistics
from pipeline.evaluate.randomisation import Randomised, p_worse, step_down
from pipeline.evaluate.statistics import Estimate
from pipeline.metrics import Floats


def mean(tasks: Floats) -> Floats:
    """``[tasks, n]`` to ``[n]``: plain mean over tasks."""
    averages: Floats = np.mean(tasks, axis=0)
    return averages


def worst(tasks: Floats) -> Floats:
    """``[tasks, n]`` to ``[n]``: the lowest of the tasks."""
    lowest: Floats = np.min(tasks, axis=0)
    return lowest


Summary = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Comparison:
    """Two systems resampled together and swapped; ``groups`` is None where it is of several tasks."""

    against: str
    candidate: Estimate
    other: Estimate
    swapped: Randomised
    groups: int | None = None

    def figures(self) -> dict[str, Any]:
        """``against, difference, low, high, p_worse``: candidate minus other, its 95 % interval, and
        the one-sided p of the randomisation test for "the candidate is worse"."""
        difference = self.candidate.score - self.other.score
        widen = statistics.unseen(self.groups) if self.groups else 0.0
        low, high = statistics.interval(difference, self.candidate.draws - self.other.draws, widen)
        return {
            "against": self.against,
            "difference": difference,
            "low": max(low, -1.0),
            "high": min(high, 1.0),
            "p_worse": p_worse(self.swapped.differences),
        }


def estimate_over(estimates: Sequence[Estimate], summary: Summary) -> Estimate:
    """Several tasks' scores as one, each task drawn apart from the others."""
    score = float(summary(np.array([[each.score] for each in estimates]))[0])
    draws = summary(np.stack([each.draws for each in estimates]))
    return Estimate(score, *statistics.interval(score, draws), draws)


def compare_over(tasks: Sequence[Comparison], summary: Summary) -> Comparison:
    """Several tasks' comparisons with one system as one comparison."""
    return Comparison(
        tasks[0].against,
        estimate_over([task.candidate for task in tasks], summary),
        estimate_over([task.other for task in tasks], summary),
        randomisation.over_tasks([task.swapped for task in tasks], summary),
    )


def figures_of_all(comparisons: Mapping[Any, Comparison]) -> dict[Any, dict[str, Any]]:
    """The figures of each, with ``p_adjusted`` for looking at all of them (see ``step_down``)."""
    adjusted = step_down([each.swapped.differences for each in comparisons.values()])
    return {
        name: each.figures() | {"p_adjusted": p}
        for (name, each), p in zip(comparisons.items(), adjusted, strict=True)
    }
