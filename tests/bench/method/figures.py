"""What the finished cells say: scores with intervals, the mean over tasks, the worst task.

Intervals are 95 % percentiles of a bootstrap over the groups of test rows and over the seeds
(three seeds are few: their part is understated). All methods share each draw, so that a
difference of two methods has an interval of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.evaluate import statistics
from pipeline.metrics import METRICS, Floats
from tests.bench.table import Row

MEAN = "mean over tasks"
SEED = 17


@dataclass(frozen=True)
class Score:
    """A score, its interval, and the score in each draw, ``[resamples]``."""

    value: float
    low: float
    high: float
    draws: Floats

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Scores = dict[str, dict[str, Score]]
"""Method, then task; ``MEAN`` stands among the tasks."""


def scores(cells: Mapping[str, Sequence[Mapping[str, Any]]], tasks: Sequence[str], resamples: int) -> Scores:
    """``cells``: for each method one entry a seed, task to what ``cell.run`` counted for it."""
    found: Scores = {method: {} for method in cells}
    chosen = {
        method: statistics.generator(SEED, "seeds", "all").integers(0, len(seeds), resamples)
        for method, seeds in cells.items()
    }
    for task in tasks:
        totals = {
            f"{method}/{number}": np.array(seed[task]["statistics"])
            for method, seeds in cells.items()
            for number, seed in enumerate(seeds)
        }
        metric = METRICS[next(iter(cells.values()))[0][task]["metric"]]
        random = statistics.generator(SEED, "bootstrap", task)
        estimates = statistics.bootstrap(metric, totals, resamples, random)
        groups = len(next(iter(totals.values())))
        for method, seeds in cells.items():
            each = [estimates[f"{method}/{number}"] for number in range(len(seeds))]
            draws = np.stack([estimate.draws for estimate in each])[chosen[method], np.arange(resamples)]
            value = float(np.mean([estimate.score for estimate in each]))
            low, high = statistics.interval(value, draws, statistics.unseen(groups))
            found[method][task] = Score(value, max(low, 0.0), min(high, 1.0), draws)
    for of_task in found.values():
        of_task[MEAN] = _mean([of_task[task] for task in tasks])
    return found


def _mean(of_tasks: Sequence[Score]) -> Score:
    value = float(np.mean([score.value for score in of_tasks]))
    draws = np.mean([score.draws for score in of_tasks], axis=0)
    return Score(value, *statistics.interval(value, draws), draws)


def worst(of_task: Mapping[str, Score]) -> str:
    """The task with the lowest score."""
    return min((task for task in of_task if task != MEAN), key=lambda task: (of_task[task].value, task))


def difference(one: Score, other: Score) -> Score:
    """``one`` minus ``other``, draw by draw."""
    value, draws = one.value - other.value, one.draws - other.draws
    return Score(value, *statistics.interval(value, draws), draws)


def rows(found: Scores, first: str) -> list[Row]:
    """``first`` minus each other method, mean over tasks: where the interval's lower end is above
    zero, ``first`` is better beyond chance; a NO says that this was not shown, not the contrary."""
    table = []
    for method, of_task in found.items():
        if method != first:
            gap = difference(found[first][MEAN], of_task[MEAN])
            note = f"lower end of the difference {gap}"
            table.append(Row(f"{MEAN}, {first} minus {method}", gap.low, None, ">=", 0.0, note))
    return table


def as_json(found: Scores) -> dict[str, Any]:
    """Every score with its interval, by method and task."""
    return {
        method: {
            task: {"score": score.value, "low": score.low, "high": score.high}
            for task, score in of_task.items()
        }
        | {"worst task": worst(of_task)}
        for method, of_task in found.items()
    }


def plot(found: Scores, target: Path) -> None:
    """A PNG: tasks down, scores across, a dot with its interval for each method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(next(iter(found.values())))
    names.sort(key=lambda name: (name != MEAN, name), reverse=True)  # the mean on top
    figure = Figure(figsize=(9, 1.5 + 0.75 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (method, of_task) in enumerate(found.items()):
        shift = 0.36 - 0.72 * number / max(len(found) - 1, 1)
        values = np.array([of_task[name].value for name in names])
        errors = [
            values - [of_task[name].low for name in names],
            [of_task[name].high for name in names] - values,
        ]
        # A difference of floats may be a hair below zero.
        places = [place + shift for place in range(len(names))]
        axes.errorbar(values, places, xerr=np.maximum(errors, 0), fmt="o", markersize=4, lw=1, label=method)
    axes.set_yticks(range(len(names)), names)
    for line in range(1, len(names)):
        axes.axhline(line - 0.5, color="#dddddd", lw=0.6)
    axes.set_xlabel("score by each task's own metric, 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(target, dpi=120)
