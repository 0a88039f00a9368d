"""One cell of the grid: an adapter trained by the pipeline's own stage, and its answers counted.

Runs in a process of its own and in a folder of its own, laid out as a checkout. A cell that was
interrupted goes on from its newest checkpoint.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import metrics, paths, resample
from pipeline.evaluate.statistics import by_group
from pipeline.metrics import METRICS, metric_for
from pipeline.params import Params
from pipeline.stage import Progress
from tests.bench import records
from tests.bench.children import Result


def run(
    folder: str,
    train: dict[str, Any] | None,
    tasks: Sequence[str],
    learnt: Sequence[str],
    seed: int,
    draws: int,
    validation: int,
    rows: int,
) -> Result:
    """Each learnt task's ``metric``, ``malformed`` answers and ``statistics`` by group [groups, k].

    ``train``: knobs of params.yaml's section that differ; None: the bare base model, untrained.
    ``tasks``: those that share the budget of ``draws`` records; ``learnt``: those of them that this
    adapter learns, with the draws that are theirs. ``validation``, ``rows``: records of a task that
    choose the best checkpoint, and that are answered.
    """
    from pipeline import base
    from pipeline.evaluate.answers import answer, question
    from pipeline.evaluate.system import System
    from pipeline.moelora import saving
    from pipeline.train.__main__ import run as train_stage

    params = Params.load()
    test = some(records.read("test").filter(pl.col("task").is_in(list(learnt))), rows)
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    models = paths.BASE.resolve()
    os.chdir(where)
    paths.BASE.parent.mkdir(exist_ok=True)
    if not paths.BASE.exists():
        paths.BASE.symlink_to(models)
    if train is not None:
        steps = lay_out(params, tasks, learnt, seed, draws, validation)
        params = with_train(params, train | {"seed": seed, "validate_every": max(1, steps // 4)})
        train_stage(params, Progress("train"))
    model, tokenizer = base.load(params.compute)
    router = Plain() if train is None else saving.load(model, paths.ADAPTER)
    limits = params.evaluate
    asked = [
        question(tokenizer, task, kind, text, choices, limits.max_tokens)
        for task, kind, text, choices in test.select(
            "task", "task_type", "input", "answer_choices"
        ).iter_rows()
    ]
    progress, done = Progress("evaluate"), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress.update(done, len(asked), "rows answered")

    answers = answer(
        System(model, tokenizer, router), asked, limits.max_new_tokens, limits.batch_tokens, tell
    )
    return {
        "tasks": _count(
            test.with_columns(prediction=pl.Series([each.text for each in answers], dtype=pl.String)), params
        )
    }


class Plain:
    """A model without an adapter, as a router of tasks."""

    def tasks(self, _names: Sequence[Any]) -> nullcontext[None]:
        return nullcontext()

    def token_tasks(self, _names: Sequence[Any], _lengths: Sequence[int]) -> nullcontext[None]:
        return nullcontext()


def some(frame: pl.DataFrame, count: int) -> pl.DataFrame:
    """At most ``count`` records of each task, drawn by the hash of their ids: the same every time."""
    digest = pl.col("sample_id").map_elements(
        lambda name: hashlib.sha256(name.encode()).hexdigest(), return_dtype=pl.String
    )
    drawn = frame.sort(digest, "sample_id").group_by("task", maintain_order=True).head(count)
    return drawn.select(frame.columns).sort("task", "sample_id")


def lay_out(
    params: Params, tasks: Sequence[str], learnt: Sequence[str], seed: int, draws: int, validation: int
) -> int:
    """What the stage train reads, below the working directory; returns its number of steps."""
    train = records.read("train").filter(pl.col("task").is_in(list(tasks)))
    sizes = dict(train.group_by("task").len().sort("task").iter_rows())
    knobs = params.resample.model_copy(update={"records": draws, "seed": seed, "canaries": 0})
    order = resample.order(train.select("sample_id", "task"), resample.allot(sizes, knobs), seed)
    mine = pl.col("task").is_in(list(learnt))
    for folder in (paths.SPLIT, paths.RESAMPLED):
        folder.mkdir(parents=True, exist_ok=True)
    train.filter(mine).write_parquet(paths.TRAIN_SPLIT)
    some(records.read("validation").filter(mine), validation).write_parquet(paths.VALIDATION_SPLIT)
    order = order.filter(mine)
    order.write_parquet(paths.ORDER)
    resample.canaries([], knobs).write_parquet(paths.CANARIES)
    return -(-len(order) // params.train.batch_records)


def with_train(params: Params, train: dict[str, Any]) -> Params:
    """All validation records that are there are used. Validated anew, so that a wrong knob is an error."""
    values = params.model_dump(by_alias=True)
    values["train"] |= train | {"validation_records": 10**6}
    return Params.model_validate(values)


def _count(answered: pl.DataFrame, params: Params) -> dict[str, Any]:
    found = {}
    for (task,), frame in answered.partition_by("task", as_dict=True).items():
        kind = frame["task_type"][0]
        name = metric_for(str(task), kind, params.evaluate)
        answers = frame["prediction"].to_list()
        rows = [
            metrics.Row(target, language, tuple(choices) if choices else None)
            for target, language, choices in frame.select("target", "language", "answer_choices").iter_rows()
        ]
        counts = METRICS[name].statistics(rows, answers, metrics.label_space(rows, answers, metric=name))
        found[str(task)] = {
            "metric": name,
            "rows": len(rows),
            "malformed": sum(
                metrics.malformed(kind, *pair, name) for pair in zip(rows, answers, strict=True)
            ),
            "statistics": by_group(counts, frame["group_id"].to_list()).tolist(),
        }
    return found
