"""Score the candidate, the bare base and the champion on the same test rows.

    python -m pipeline.evaluate

Reads data/split/{train,test}.parquet, data/resampled, reports/train.json, models/base,
models/release and, where ``evaluate.champion`` or ``evaluate.reference`` name one, a pulled release.
Writes data/predictions/<system>.parquet, the only place that holds answers, and
reports/evaluate.json::

    release_digest        of the models/release that was evaluated
    champion, reference   ids of the releases compared with, or null
    other_base            {champion or reference: id} of those trained on another base model, which
                          are not scored
    systems               base, candidate and those of champion, reference that are set
    rows                  in = out + held_out; held out are rows of tasks the adapter has not learnt
    untrained             {task: rows} of those
    tasks                 {task: metric, rows, groups, one score with its interval and the number
                          of malformed answers a system, comparison, reference_comparison,
                          slices: {slice: rows, groups, scores, comparison}}
    mean, worst           a system, with intervals; comparison: candidate minus the other over the
                          tasks both know
    champion_rows         {task: test rows the champion was judged on}, null where unknown
    gone                  tasks the champion serves and the candidate does not
    calibration           {task: {system: expected calibration error}}, where choices are scored
    canaries              random strings: inserted, held_back, loss_inserted, loss_held_back (nats a
                          token), p, exposure, exposure_by_chance, exposure_limit (bits), completed,
                          held_back_completed; null where none were planted
    extraction            training rows continued by heart: extractable (in training), rows,
                          unseen_rows, completed, by_base, unseen_completed, unseen_by_base, p; null
                          where evaluate.extraction_rows is 0
    membership            telling training rows by their loss: rows, unseen_rows, auc, low, high,
                          loss_seen, loss_unseen, champion_auc (or null); null where
                          evaluate.membership_rows is 0
    load_check            {task: largest difference of logits, stock PEFT against native}

A task the champion does not know (new since) is compared with the base, and says so in
``comparison.against``. A comparison holds ``against, difference, low, high, p_worse``; those of
tasks and slices also ``p_adjusted`` for looking at all of them. Intervals are those of
pipeline.evaluate.statistics, tests of pipeline.evaluate.randomisation; what slices, calibration,
canaries, extraction and membership are stands in the files of these names.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from pipeline import base, paths
from pipeline.digests import folder_digest
from pipeline.errors import DataError, InputError, ReleaseCorrupt
from pipeline.evaluate import calibration, load_check
from pipeline.evaluate.answers import Question, answer, question
from pipeline.evaluate.lineage import has_this_base
from pipeline.evaluate.memorisation import Probes
from pipeline.evaluate.scores import Predictions, score
from pipeline.evaluate.seen import seen_ids
from pipeline.evaluate.system import Bare, System
from pipeline.files import new_folder
from pipeline.metrics import metric_for
from pipeline.moelora import saving
from pipeline.params import Evaluate, Params
from pipeline.stage import Progress, Report, main


def run(params: Params, progress: Progress) -> Report:
    """Answer every test row with every system, and compare."""
    test = _read(paths.TEST_SPLIT, "split")
    releases = {"champion": params.evaluate.champion, "reference": params.evaluate.reference}
    pulled = {name: _pulled(release) for name, release in releases.items() if release}
    others = {name: folder for name, folder in pulled.items() if has_this_base(folder)}
    for task, task_type in test.select("task", "task_type").unique().sort("task").iter_rows():
        metric_for(task, task_type, params.evaluate)  # a wrong name must not cost a whole run
    model, tokenizer = base.load(params.compute)
    adapter = saving.load(model, paths.RELEASE_NATIVE)
    tasks = sorted(adapter.config.tasks)
    rows = test.filter(pl.col("task").is_in(tasks)).sort("task", "sample_id")
    train, planted = _read(paths.TRAIN_SPLIT, "split"), _read(paths.CANARIES, "resample")
    seen = seen_ids(_read(paths.ORDER, "resample"), _draws_trained_on())
    probes = Probes.draw(train, test, planted, seen, tasks, params.evaluate)
    asked = [
        question(tokenizer, task, task_type, text, choices, params.evaluate.max_tokens)
        for task, task_type, text, choices in rows.select(
            "task", "task_type", "input", "answer_choices"
        ).iter_rows()
    ]
    count = _Counter(progress, len(rows) * (2 + len(others)) + probes.rows)
    candidate = System(model, tokenizer, adapter)
    bare = System(model, tokenizer, Bare(adapter))
    predictions = {
        "base": _predict(bare, rows, asked, params.evaluate, count),
        "candidate": _predict(candidate, rows, asked, params.evaluate, count),
    }
    champion = _metrics(pulled.get("champion"))
    # Gains are over a base, so that an area with another base is no measure.
    area = (champion.get("membership") or {}).get("auc") if "champion" in others else None
    memorised = probes.measure(candidate, bare, area, params.evaluate, count)
    champion_rows = {task: each["rows"] for task, each in sorted(champion.get("tasks", {}).items())}
    known = {"champion": set(champion_rows)}
    for name, folder in others.items():
        adapter.unload()
        adapter = saving.load(model, folder / paths.RELEASE_NATIVE.name)
        known[name] = set(adapter.config.tasks)
        system = System(model, tokenizer, adapter)
        shared = rows["task"].is_in(sorted(known[name]))
        predictions[name] = _predict(
            system,
            rows.filter(shared),
            [asked[i] for i in shared.arg_true()],
            params.evaluate,
            count,
        )
    scores, scored = score(tasks, predictions, params.evaluate)
    _write(scored, predictions)
    outside = test.filter(~pl.col("task").is_in(tasks))
    return {
        "release_digest": folder_digest(paths.RELEASE),
        **{name: release if name in others else None for name, release in releases.items()},
        "other_base": {name: releases[name] for name in pulled if name not in others},
        "systems": list(predictions),
        "rows": {"in": len(test), "out": len(rows), "held_out": len(outside)},
        "untrained": dict(outside.group_by("task").len().sort("task").iter_rows()),
        **_rounded(scores),
        "champion_rows": champion_rows if champion else None,
        "gone": sorted(known["champion"] - set(tasks)),
        "calibration": _rounded(calibration.by_task(predictions)),
        **_rounded(memorised),
        "load_check": _rounded(load_check.differences(params.compute)),
    }


class _Counter:
    """Progress over all systems, and the place where the stage may be stopped."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, rows: int) -> None:
        self.progress.check_stop()
        self.done += rows
        self.progress.update(self.done, self.total, "rows answered")
        self.progress.count(rows_answered=self.done)


def _read(path: Path, stage: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `python -m pipeline.{stage}` first") from None


def _draws_trained_on() -> int:
    """Of the training order, those before the step whose weights were kept."""
    path = paths.report("train")
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["best_records"])
    except (FileNotFoundError, ValueError, KeyError):
        raise DataError(f"{path} is missing or of another version: run `python -m pipeline.train`") from None


def _pulled(release: str) -> Path:
    """The verified folder of a pulled release; InputError with the command that pulls it."""
    from pipeline.registry import pulled, verify_folder

    folder = pulled(release)
    if not folder.is_dir():
        raise InputError(f"release {release} is not on this machine: moelora pull {release}")
    try:
        verify_folder(folder, release)
    except ReleaseCorrupt as error:
        raise InputError(str(error)) from None
    return folder


def _metrics(folder: Path | None) -> dict[str, Any]:
    """A release's metrics.json, its own evaluation; empty where there is none."""
    if folder is None or not (folder / "metrics.json").is_file():
        return {}
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def _predict(
    system: System, rows: pl.DataFrame, asked: Sequence[Question], params: Evaluate, count: _Counter
) -> pl.DataFrame:
    answers = answer(system, asked, params.max_new_tokens, params.batch_tokens, count)
    return rows.with_columns(
        pl.Series("prediction", [each.text for each in answers], pl.String),
        pl.Series("confidence", [each.confidence for each in answers], pl.Float64),
    )


def _write(scored: Predictions, predictions: Predictions) -> None:
    with new_folder(paths.PREDICTIONS) as folder:
        for name, frame in scored.items():
            confidence = predictions[name].select("task", "sample_id", "confidence")
            whole = frame.join(confidence, on=["task", "sample_id"], how="left")
            whole.sort("task", "sample_id").write_parquet(folder / f"{name}.parquet")


def _rounded(value: Any) -> Any:
    """Floats to six significant digits, for readers of the report."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main("evaluate", run)
