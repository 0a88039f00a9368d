"""From predictions to the report's scores: each task, their mean, the worst, the comparisons."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline import metrics
from pipeline.evaluate import statistics
from pipeline.evaluate.statistics import Difference, Estimate
from pipeline.metrics import METRICS, Floats, metric_for
from pipeline.params import Evaluate

PREDICTION_COLUMNS = ("score", "tp", "fp", "fn")
"""What a row adds to its task's metric; null where the metric does not use it."""

Predictions = dict[str, pl.DataFrame]
"""System to its rows: those of the test split, plus ``prediction``."""


def score(
    tasks: Sequence[str], predictions: Predictions, params: Evaluate
) -> tuple[dict[str, Any], Predictions]:
    """The report's ``tasks``, ``mean``, ``worst``, and the predictions with their counts."""
    report: dict[str, Any] = {}
    scored: dict[str, list[pl.DataFrame]] = {name: [] for name in predictions}
    estimates: dict[str, dict[str, Estimate]] = {name: {} for name in predictions}
    differences: dict[str, dict[str, Difference]] = {"base": {}, "champion": {}, "reference": {}}
    for task in tasks:
        frames = {name: frame.filter(pl.col("task") == task) for name, frame in predictions.items()}
        if frames["candidate"].is_empty():
            chosen = params.tasks.get(task)
            nothing = {"score": None, "low": None, "high": None, "malformed": 0}
            report[task] = {
                "metric": chosen.metric if chosen else None,
                "rows": 0,
                "groups": 0,
                "base": nothing,
                "candidate": nothing,
                "comparison": None,
            }
            continue
        name = metric_for(task, frames["candidate"]["task_type"][0], params)
        frames, groups = _count(name, {system: f for system, f in frames.items() if len(f)})
        found = statistics.bootstrap(
            METRICS[name],
            groups,
            params.resamples,
            statistics.generator(params.seed, "bootstrap", task),
        )
        entry = {
            "metric": name,
            "rows": len(frames["candidate"]),
            "groups": len(groups["candidate"]),
            "comparison": None,
        }
        for system, frame in frames.items():
            scored[system].append(frame)
            estimates[system][task] = found[system]
            entry[system] = _entry(found[system]) | {"malformed": int(frame["malformed"].sum())}
        against = "champion" if "champion" in groups else "base"
        fields = {"comparison": against} | (
            {"reference_comparison": "reference"} if "reference" in groups else {}
        )
        for field, other in fields.items():
            difference = statistics.compare(
                METRICS[name],
                groups["candidate"],
                groups[other],
                (found["candidate"], found[other]),
                params.resamples,
                statistics.generator(params.seed, f"randomisation-{field}", task),
            )
            differences[other][task] = difference
            entry[field] = {"against": other} | _compared(difference)
        report[task] = entry
    compared = "champion" if differences["champion"] else "base"
    mean: dict[str, Any] = {name: _mean(found) for name, found in estimates.items()}
    mean["comparison"] = _mean_difference(compared, differences[compared])
    worst = {name: _worst(found) for name, found in estimates.items()}
    return {"tasks": report, "mean": mean, "worst": worst}, {
        name: pl.concat(frames) if frames else _no_predictions() for name, frames in scored.items()
    }


def _count(name: str, frames: Predictions) -> tuple[Predictions, dict[str, Floats]]:
    """One task's predictions with ``malformed`` and the metric's columns, and its statistics by
    group ``[groups, k]``, for each system."""
    first = frames["candidate"]
    rows = [
        metrics.Row(target, language, tuple(choices) if choices else None)
        for target, language, choices in first.select("target", "language", "answer_choices").iter_rows()
    ]
    answers = {system: frame["prediction"].to_list() for system, frame in frames.items()}
    labels = metrics.label_space(rows, *answers.values(), metric=name)
    counted, groups = {}, {}
    for system, frame in frames.items():
        counts = METRICS[name].statistics(rows, answers[system], labels)
        columns = METRICS[name].columns(counts)
        kinds = zip(frame["task_type"], rows, answers[system], strict=True)
        counted[system] = frame.select(
            "sample_id",
            "task",
            "group_id",
            "prediction",
            pl.Series("malformed", [metrics.malformed(*row, metric=name) for row in kinds], pl.Boolean),
            *(pl.Series(c, columns.get(c, [None] * len(frame)), pl.Float64) for c in PREDICTION_COLUMNS),
        )
        groups[system] = statistics.by_group(counts, first["group_id"].to_list())
    return counted, groups


def _no_predictions() -> pl.DataFrame:
    texts = dict.fromkeys(("sample_id", "task", "group_id", "prediction"), pl.String)
    return pl.DataFrame(
        schema={**texts, "malformed": pl.Boolean, **dict.fromkeys(PREDICTION_COLUMNS, pl.Float64)}
    )


def _entry(estimate: Estimate) -> dict[str, Any]:
    return {"score": estimate.score, "low": estimate.low, "high": estimate.high}


def _compared(difference: Difference) -> dict[str, Any]:
    return {
        "difference": difference.difference,
        "low": difference.low,
        "high": difference.high,
        "p_worse": difference.p_worse,
        "smallest_detectable": statistics.smallest_detectable(difference),
    }


def _mean(estimates: dict[str, Estimate]) -> dict[str, Any]:
    """Plain mean over a system's tasks; its interval takes tasks as independent."""
    if not estimates:
        return {"score": None, "low": None, "high": None, "tasks": 0}
    score = float(np.mean([estimate.score for estimate in estimates.values()]))
    draws = np.mean([estimate.draws for estimate in estimates.values()], axis=0)
    low, high = statistics.interval(score, draws)
    return {"score": score, "low": low, "high": high, "tasks": len(estimates)}


def _mean_difference(against: str, differences: dict[str, Difference]) -> dict[str, Any] | None:
    if not differences:
        return None
    found = list(differences.values())
    difference = float(np.mean([task.difference for task in found]))
    swapped = np.mean([task.swapped for task in found], axis=0)
    low, high = statistics.interval(difference, np.mean([task.draws for task in found], axis=0))
    p_worse = statistics.p_value(difference, swapped)
    return {
        "against": against,
        "tasks": len(found),
        "difference": difference,
        "low": low,
        "high": high,
        "p_worse": p_worse,
    }


def _worst(estimates: dict[str, Estimate]) -> dict[str, Any] | None:
    if not estimates:
        return None
    task = min(estimates, key=lambda task: (estimates[task].score, task))
    return {"task": task, "score": estimates[task].score}
