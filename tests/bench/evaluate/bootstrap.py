"""The bootstrap's time and memory: candidate and champion, every row a group of its own."""

import time
from collections.abc import Iterator

import numpy as np

from pipeline.evaluate.statistics import bootstrap, generator
from pipeline.metrics import METRICS, Floats
from tests.bench.children import Result, measure
from tests.bench.table import Row

TASKS, ROWS, RESAMPLES = 14, 1_000, 10_000
LABELS = {"accuracy": 2, "macro_f1": 100}
"""Metric to the number of labels; the F1 of labels has three statistics for each."""


def rows(tasks: int = TASKS) -> list[Row]:
    """Seconds and bytes of each metric, each in a process of its own."""
    return [row for metric in LABELS for row in _rows(metric, tasks)]


def _rows(metric: str, tasks: int) -> Iterator[Row]:
    found = measure(f"{__name__}:run", metric=metric, tasks=tasks)
    what = f"bootstrap of {tasks} tasks x {ROWS} rows x {RESAMPLES} resamples, {metric}"
    note = f"2 systems, {LABELS[metric]} labels"
    yield Row(f"{what}: seconds", found["seconds"], None, "<=", 5.0, note)
    yield Row(f"{what}: GB", found["peak"] / 1e9, None, "<=", 1.0, f"{note}; of the whole process")


def run(metric: str, tasks: int) -> Result:
    """``seconds`` of all tasks, one after another as the stage does."""
    seconds = 0.0
    for task in range(tasks):
        rng = np.random.default_rng(task)
        systems = {name: answers(metric, rng) for name in ("candidate", "champion")}
        start = time.perf_counter()
        bootstrap(METRICS[metric], systems, RESAMPLES, generator(17, "bootstrap", str(task)))
        seconds += time.perf_counter() - start
    return {"seconds": seconds}


def answers(metric: str, rng: np.random.Generator) -> Floats:
    """Statistics of one system, ``[ROWS, k]``, three answers in four right."""
    gold = rng.integers(0, LABELS[metric], ROWS)
    answered = np.where(rng.random(ROWS) < 0.75, gold, rng.integers(0, LABELS[metric], ROWS))
    if metric == "accuracy":
        return np.stack([gold == answered, np.ones(ROWS)], axis=1)
    one_hot = np.eye(LABELS[metric])
    return np.concatenate([one_hot[gold], one_hot[answered], one_hot[gold] * one_hot[answered]], axis=1)
