"""From predictions to the report's scores: each task and its slices, their mean, the worst."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline import metrics
from pipeline.evaluate import comparison, statistics
from pipeline.evaluate.comparison import Comparison, compare_over, estimate_over
from pipeline.evaluate.randomisation import Swaps, randomise
from pipeline.evaluate.slices import slices
from pipeline.evaluate.statistics import Estimate
from pipeline.metrics import METRICS, Floats, metric_for
from pipeline.params import Evaluate

PREDICTION_COLUMNS = ("score", "tp", "fp", "fn")
"""What a row adds to its task's metric; null where the metric does not use it."""

Predictions = dict[str, pl.DataFrame]
"""System to its rows: those of the test split, plus ``prediction``."""


@dataclass(frozen=True)
class Counted:
    """One task's rows and each system's statistics of them, ``[rows, k]``, columns the same in all."""

    metric: str
    rows: pl.DataFrame
    statistics: dict[str, Floats]

    @property
    def against(self) -> str:
        """What the candidate is compared with: a task new since the champion has the base alone."""
        return "champion" if "champion" in self.statistics else "base"

    def part(self, inside: NDArray[np.bool_], systems: Sequence[str]) -> "Counted":
        """Some of the rows and systems."""
        counts = {system: self.statistics[system][inside] for system in systems}
        return Counted(self.metric, self.rows.filter(inside), counts)


def score(
    tasks: Sequence[str], predictions: Predictions, params: Evaluate
) -> tuple[dict[str, Any], Predictions]:
    """The report's ``tasks``, ``mean``, ``worst``, and the predictions with their counts."""
    report: dict[str, Any] = {}
    scored: dict[str, list[pl.DataFrame]] = {name: [] for name in predictions}
    estimates: dict[str, dict[str, Estimate]] = {name: {} for name in predictions}
    compared: dict[str, dict[str, Comparison]] = {"comparison": {}, "reference_comparison": {}}
    sliced: dict[tuple[str, str], Comparison] = {}
    swaps = Swaps(
        params.seed, params.resamples, predictions["candidate"].sort("task", "group_id")["group_id"]
    )
    for task in tasks:
        frames = {name: frame.filter(pl.col("task") == task) for name, frame in predictions.items()}
        if frames["candidate"].is_empty():
            report[task] = _untested(task, params)
            continue
        name = metric_for(task, frames["candidate"]["task_type"][0], params)
        counted, columns = _count(name, {system: frame for system, frame in frames.items() if len(frame)})
        measured = _Measured(counted, params, task, swaps)
        report[task] = measured.entry(columns) | {"comparison": None, "slices": {}}
        for system, frame in columns.items():
            scored[system].append(frame)
            estimates[system][task] = measured.estimates[system]
        compared["comparison"][task] = measured.compare(counted.against)
        if "reference" in counted.statistics:
            compared["reference_comparison"][task] = measured.compare("reference")
        for label, inside in slices(counted.rows).items():
            part = counted.part(inside, ("candidate", counted.against))
            measured = _Measured(part, params, f"{task}/{label}", swaps)
            report[task]["slices"][label] = measured.entry()
            sliced[task, label] = measured.compare(counted.against)
    for field, comparisons in compared.items():
        for task, figures in comparison.figures_of_all(comparisons).items():
            smallest = statistics.smallest_detectable(figures["low"], figures["high"])
            report[task][field] = figures | {"smallest_detectable": smallest}
    for (task, label), figures in comparison.figures_of_all(sliced).items():
        report[task]["slices"][label]["comparison"] = figures
    return {
        "tasks": report,
        "mean": _mean(estimates, compared["comparison"]),
        "worst": _worst(estimates, compared["comparison"]),
    }, {name: pl.concat(frames) if frames else _no_predictions() for name, frames in scored.items()}


class _Measured:
    """Estimates of each system on the rows of a task or of a slice."""

    def __init__(self, counted: Counted, params: Evaluate, name: str, swaps: Swaps) -> None:
        self.counted, self.swaps = counted, swaps
        groups = counted.rows["group_id"].to_list()
        self.names = statistics.group_names(groups)[0]
        self.groups = {
            system: statistics.by_group(counts, groups) for system, counts in counted.statistics.items()
        }
        self.estimates = statistics.bootstrap(
            METRICS[counted.metric],
            self.groups,
            params.resamples,
            statistics.generator(params.seed, "bootstrap", name),
        )

    def entry(self, columns: Predictions | None = None) -> dict[str, Any]:
        """The report's figures; with ``columns`` also the metric and the malformed answers."""
        entry: dict[str, Any] = {"rows": len(self.counted.rows), "groups": len(self.names)}
        if columns is not None:
            entry["metric"] = self.counted.metric
        for system, estimate in self.estimates.items():
            malformed = {"malformed": int(columns[system]["malformed"].sum())} if columns else {}
            entry[system] = _entry(estimate) | malformed
        return entry

    def compare(self, other: str) -> Comparison:
        """The candidate with another system."""
        swapped = randomise(
            METRICS[self.counted.metric], self.groups["candidate"], self.groups[other], self.names, self.swaps
        )
        return Comparison(other, self.estimates["candidate"], self.estimates[other], swapped, len(self.names))


def _untested(task: str, params: Evaluate) -> dict[str, Any]:
    chosen = params.tasks.get(task)
    nothing = {"score": None, "low": None, "high": None, "malformed": 0}
    return {
        "metric": chosen.metric if chosen else None,
        "rows": 0,
        "groups": 0,
        "base": nothing,
        "candidate": nothing,
        "comparison": None,
        "slices": {},
    }


def _count(name: str, frames: Predictions) -> tuple[Counted, Predictions]:
    """One task's statistics, and its predictions with ``malformed`` and the metric's columns."""
    first = frames["candidate"]
    rows = [
        metrics.Row(target, language, tuple(choices) if choices else None)
        for target, language, choices in first.select("target", "language", "answer_choices").iter_rows()
    ]
    answers = {system: frame["prediction"].to_list() for system, frame in frames.items()}
    labels = metrics.label_space(rows, *answers.values())
    columns, statistics_of = {}, {}
    for system, frame in frames.items():
        counts = METRICS[name].statistics(rows, answers[system], labels)
        of_metric = METRICS[name].columns(counts)
        kinds = zip(frame["task_type"], rows, answers[system], strict=True)
        columns[system] = frame.select(
            "sample_id",
            "task",
            "group_id",
            "prediction",
            pl.Series("malformed", [metrics.malformed(*row) for row in kinds], pl.Boolean),
            *(pl.Series(c, of_metric.get(c, [None] * len(frame)), pl.Float64) for c in PREDICTION_COLUMNS),
        )
        statistics_of[system] = counts
    return Counted(name, first, statistics_of), columns


def _no_predictions() -> pl.DataFrame:
    texts = dict.fromkeys(("sample_id", "task", "group_id", "prediction"), pl.String)
    return pl.DataFrame(
        schema={**texts, "malformed": pl.Boolean, **dict.fromkeys(PREDICTION_COLUMNS, pl.Float64)}
    )


def _entry(estimate: Estimate) -> dict[str, Any]:
    return {"score": estimate.score, "low": estimate.low, "high": estimate.high}


def _shared(comparisons: dict[str, Comparison]) -> dict[str, Comparison]:
    """Those with the champion, or with the base where there is none: one system, not a mixture."""
    champion = {task: each for task, each in comparisons.items() if each.against == "champion"}
    return champion or comparisons


def _mean(estimates: dict[str, dict[str, Estimate]], comparisons: dict[str, Comparison]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for system, found in estimates.items():
        nothing = {"score": None, "low": None, "high": None}
        over = _entry(estimate_over(list(found.values()), comparison.mean)) if found else nothing
        report[system] = over | {"tasks": len(found)}
    shared = _shared(comparisons)
    over_tasks = compare_over(list(shared.values()), comparison.mean).figures() if shared else None
    return report | {"comparison": over_tasks and over_tasks | {"tasks": len(shared)}}


def _worst(estimates: dict[str, dict[str, Estimate]], comparisons: dict[str, Comparison]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for system, found in estimates.items():
        over = estimate_over(list(found.values()), comparison.worst) if found else None
        report[system] = over and {"task": _lowest(found)} | _entry(over)
    shared = _shared(comparisons)
    if not shared:
        return report | {"comparison": None}
    figures = compare_over(list(shared.values()), comparison.worst).figures()
    tasks = {
        "tasks": len(shared),
        "task": _lowest({task: each.candidate for task, each in shared.items()}),
        "against_task": _lowest({task: each.other for task, each in shared.items()}),
    }
    return report | {"comparison": figures | tasks}


def _lowest(estimates: dict[str, Estimate]) -> str:
    return min(estimates, key=lambda task: (estimates[task].score, task))
