"""May this adapter be published? Arithmetic over the reports, every figure shown.

    python -m pipeline.gate

Reads reports/{deidentify,resample,train,export,evaluate}.json. Writes reports/gate.json::

    verdict         pass | blocked | overridden
    release_digest  digest of the models/release that was judged
    rules           [{rule, task or null, outcome: pass | blocked | undecided, figures, why}]
    undecided       tasks that a person confirms by name at promotion
    against         "base", or the champion's id
    override        {by, reason} where the verdict is overridden, else null

One blocked rule blocks. ``gate.undecided`` says what an undecided one does: ``allow`` nothing,
``approve`` (default) a person confirms its task, ``block`` blocks. Ends with exit code 0 and a
verdict whenever there is something to judge.

No harm: a task is blocked where the candidate is worse beyond chance. Each task has a
one-sided p from ``evaluate``; Holm's step-down over all tasks keeps the chance of blocking any
task of a candidate that harms none below 1 - ``gate.confidence``. A task that is not blocked is
still undecided where its interval leaves room for a loss of ``gate.margin``.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from pipeline import paths
from pipeline.errors import DataError
from pipeline.params import Gate, Params
from pipeline.stage import Progress, Report, main

JUDGED = ("deidentify", "resample", "train", "export", "evaluate")
"""Stages whose reports are judged."""

MEMORISED = 0.001
"""One-sided p of the canaries' losses below which an adapter has learnt them by heart."""

UNMEASURED_DISCORDANCE = 0.2
"""Share of rows that two systems answer differently, assumed where a task has no test rows."""

NORMAL_975 = 1.959964

Rule = dict[str, Any]
Reports = dict[str, dict[str, Any]]


def run(params: Params, progress: Progress) -> Report:
    """Judge the reports that lie in reports/."""
    report = judge({stage: _read(stage) for stage in JUDGED}, params.gate)
    progress.update(1, 1, report["verdict"])
    return report


def _read(stage: str) -> dict[str, Any]:
    path = paths.report(stage)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `python -m pipeline.{stage}` first") from None
    except ValueError:
        raise DataError(f"{path} is no JSON: run `python -m pipeline.{stage}` again") from None
    if not isinstance(report, dict):
        raise DataError(f"{path} is no report: run `python -m pipeline.{stage}` again")
    return report


def judge(reports: Reports, params: Gate) -> Report:
    """The verdict on the reports of JUDGED; DataError where they leave nothing to judge."""
    try:
        if not reports["evaluate"]["tasks"]:
            raise DataError("reports/evaluate.json has no tasks, so there is nothing to judge: add test data")
        rules = [
            *_floors(reports["evaluate"], params),
            *_no_harm(reports["evaluate"], params),
            *_test_sets(reports["evaluate"]),
            *_other_base(reports["evaluate"]),
            *_mean(reports["evaluate"], params),
            *_privacy(reports["deidentify"], params),
            *_memorisation(reports["evaluate"]),
            *_training(reports["resample"], reports["train"], params),
            *_release(reports["export"], reports["evaluate"]),
        ]
    except KeyError as error:
        raise DataError(
            f"reports/ lacks the field {error}, so it was written by another version: "
            f"run the stages {', '.join(JUDGED)} again"
        ) from None
    stops = {"blocked"} | ({"undecided"} if params.undecided == "block" else set())
    verdict = "blocked" if any(rule["outcome"] in stops for rule in rules) else "pass"
    digest = reports["export"]["release_digest"]
    override = params.override
    overridden = verdict == "blocked" and override is not None and override.release_digest == digest
    to_confirm = {rule["task"] for rule in rules if rule["outcome"] == "undecided" and rule["task"]}
    return {
        "verdict": "overridden" if overridden else verdict,
        "release_digest": digest,
        "rules": rules,
        "undecided": sorted(to_confirm) if params.undecided != "allow" else [],
        "against": reports["evaluate"]["champion"] or "base",
        "override": {"by": override.by, "reason": override.reason} if overridden and override else None,
    }


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values: all below alpha hold together with error at most alpha."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: (p_values[name], name))):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return adjusted


def rows_needed(rows: int, difference: float, low: float, margin: float) -> int:
    """Test rows with which the task would be decided, should its difference stay what it is.

    The interval shrinks with the square root of the rows, and is narrow enough once it either
    excludes a loss of ``margin`` or shows the loss that is there, whichever comes first.
    """
    loss = max(0.0, -difference)
    return max(rows + 1, math.ceil(rows * ((difference - low) / max(loss, margin - loss)) ** 2))


def rows_needed_from_nothing(margin: float) -> int:
    """Test rows that exclude a loss of ``margin`` between two systems that are alike."""
    return math.ceil(UNMEASURED_DISCORDANCE * (NORMAL_975 / margin) ** 2)


def _rule(rule: str, task: str | None, outcome: str | bool, why: str, **figures: Any) -> Rule:
    if isinstance(outcome, bool):
        outcome = "pass" if outcome else "blocked"
    return {"rule": rule, "task": task, "outcome": outcome, "figures": figures, "why": why}


def _floors(evaluate: dict[str, Any], params: Gate) -> Iterator[Rule]:
    tasks = evaluate["tasks"]
    for task in sorted(set(params.floors) - {"default"} - set(tasks)):
        yield _rule("floor", task, False, "a floor is set for this task, but it was not evaluated")
    for task, figures in tasks.items():
        floor = params.floors.get(task, params.floors.get("default"))
        if floor is None:
            continue
        if figures["rows"] == 0:
            yield _rule("floor", task, "undecided", "no test rows to measure the floor on", floor=floor)
            continue
        score = figures["candidate"]["score"]
        why = f"{figures['metric']} {score:.3f} is {'at or above' if score >= floor else 'below'} {floor:g}"
        yield _rule("floor", task, score >= floor, why, score=score, floor=floor)


def _no_harm(evaluate: dict[str, Any], params: Gate) -> Iterator[Rule]:
    for rule, field in (("no_harm", "comparison"), ("no_harm_reference", "reference_comparison")):
        if field == "reference_comparison" and not evaluate["reference"]:
            continue
        tasks = {task: figures.get(field) for task, figures in evaluate["tasks"].items()}
        adjusted = holm({task: against["p_worse"] for task, against in tasks.items() if against})
        for task, against in tasks.items():
            rows = evaluate["tasks"][task]["rows"]
            if against:
                yield _harm(rule, task, rows, against, adjusted[task], params)
            elif rows == 0:
                needed = rows_needed_from_nothing(params.margin) if params.margin else None
                why = "no test rows, so harm can be neither shown nor excluded"
                yield _rule(rule, task, "undecided", why, rows=0, rows_needed=needed)
            # A task with rows and no comparison is new since the reference: nothing to lose.
    for task in evaluate["gone"]:
        why = "the champion serves this task and the candidate does not know it"
        yield _rule("task_gone", task, "undecided", why)


def _harm(rule: str, task: str, rows: int, against: dict[str, Any], adjusted: float, params: Gate) -> Rule:
    other, difference, low = against["against"], against["difference"], against["low"]
    figures: dict[str, Any] = {
        "against": other,
        "difference": difference,
        "low": low,
        "high": against["high"],
        "p": against["p_worse"],
        "p_holm": round(adjusted, 6),
        "rows": rows,
    }
    if adjusted < 1 - params.confidence:
        why = f"{-difference:.3f} below {other}, beyond chance (p {adjusted:.4f} over all tasks)"
        return _rule(rule, task, False, why, **figures)
    if low < -params.margin:
        # Without a margin no number of rows excludes every loss.
        needed = rows_needed(rows, difference, low, params.margin) if params.margin else None
        why = (
            f"{difference:+.3f} to {other} is within chance, but a loss of {params.margin:g} is not excluded"
            + (f": about {needed} test rows would tell" if needed else "")
        )
        return _rule(rule, task, "undecided", why, **figures, rows_needed=needed)
    why = f"{difference:+.3f} to {other}, and a loss of {params.margin:g} is excluded"
    return _rule(rule, task, True, why, **figures)


def _test_sets(evaluate: dict[str, Any]) -> Iterator[Rule]:
    for task, before in (evaluate["champion_rows"] or {}).items():
        now = evaluate["tasks"].get(task, {"rows": 0})["rows"]
        if task in evaluate["tasks"]:
            why = f"{now} test rows, the champion was judged on {before}"
            # Data that leaves or is capped shrinks it honestly, so a person looks at it.
            outcome = "pass" if now >= before else "undecided"
            yield _rule("test_set", task, outcome, why, rows=now, champion_rows=before)


def _other_base(evaluate: dict[str, Any]) -> Iterator[Rule]:
    for name, release in evaluate["other_base"].items():
        why = f"the {name} {release} was trained on another base model, so it was not compared with"
        yield _rule("other_base", None, "undecided", why, release=release)


def _mean(evaluate: dict[str, Any], params: Gate) -> Iterator[Rule]:
    against = evaluate["mean"]["comparison"]
    if against is None:
        yield _rule("mean_not_worse", None, "undecided", "no task has test rows")
        return
    holds = against["p_worse"] >= 1 - params.confidence
    why = (
        f"the mean over tasks is {against['difference']:+.3f} to {against['against']}, "
        + ("not worse" if holds else "worse")
        + " beyond chance"
    )
    yield _rule("mean_not_worse", None, holds, why, **against)


def _privacy(deidentify: dict[str, Any], params: Gate) -> Iterator[Rule]:
    recall = deidentify["recall_overall"]
    worst, lowest = min(
        ((kind, found["recall"]) for kind, found in deidentify["recall"].items()),
        key=lambda kind: (kind[1], kind[0]),
    )
    why = (
        f"{recall:.3f} of planted identifiers were found, least of {worst}: {lowest:.3f}; "
        f"{params.min_phi_recall:g} of each kind are asked for"
    )
    yield _rule(
        "phi_recall",
        None,
        lowest >= params.min_phi_recall,
        why,
        recall=recall,
        worst_kind=worst,
        worst_recall=lowest,
        floor=params.min_phi_recall,
    )
    records, rows = deidentify["residual_records"], deidentify["rows"]["out"]
    rate = records / rows if rows else 0.0
    why = f"{records} of {rows} records still trip a detector, {params.max_residual_rate:.2%} may"
    yield _rule(
        "residual",
        None,
        rate <= params.max_residual_rate,
        why,
        records=records,
        rows=rows,
        rate=round(rate, 6),
        limit=params.max_residual_rate,
    )


def _memorisation(evaluate: dict[str, Any]) -> Iterator[Rule]:
    canaries = evaluate["canaries"]
    if canaries is None:
        why = "no canaries were planted (resample.canaries is 0), so memorisation was not measured"
        yield _rule("memorisation", None, "undecided", why)
        return
    holds = canaries["p"] >= MEMORISED and canaries["completed"] == 0
    why = (
        f"{canaries['completed']} canaries are recited; inserted ones are "
        + ("not " if canaries["p"] >= MEMORISED else "")
        + f"easier than those never seen (p {canaries['p']:.4f})"
    )
    yield _rule("memorisation", None, holds, why, **canaries)


def _training(resample: dict[str, Any], train: dict[str, Any], params: Gate) -> Iterator[Rule]:
    epochs = {task: figures["effective_epochs"] for task, figures in resample["tasks"].items()}
    if epochs:
        task = max(epochs, key=lambda name: (epochs[name], name))
        why = f"{task} is repeated most, {epochs[task]:.2f} times; {params.max_effective_epochs:g} may be"
        yield _rule(
            "effective_epochs",
            None,
            epochs[task] <= params.max_effective_epochs,
            why,
            most_repeated=task,
            epochs=epochs[task],
            limit=params.max_effective_epochs,
        )
    health = train["health"]
    first, last = health["loss_first"], health["loss_last"]
    if first is None:
        why = "training had fewer than two steps, so its loss can neither fall nor rise"
        yield _rule("training_health", None, "undecided", why, **health)
        return
    falls = health["finite"] and last < first
    why = f"went from {first:.3f} to {last:.3f}" if health["finite"] else "is not finite"
    yield _rule("training_health", None, falls, f"the training loss {why}", **health)


def _release(export: dict[str, Any], evaluate: dict[str, Any]) -> Iterator[Rule]:
    tolerance = export["tolerance"]
    exported = {task: figures["max_abs_difference"] for task, figures in export["tasks"].items()}
    for rule, differences, what in (
        ("export_equal", exported, "export"),
        ("load_check", evaluate["load_check"], "stock PEFT"),
    ):
        worst = max(differences.values(), default=0.0)
        whole = set(differences) == set(exported) and bool(exported)
        why = (
            f"logits of {what} differ from the native adapter's by {worst:.1e} at most, {tolerance:g} may be"
            if whole
            else f"not every exported task was checked in {what}"
        )
        holds = whole and worst <= tolerance
        yield _rule(rule, None, holds, why, max_abs_difference=worst, tolerance=tolerance)
    same = export["release_digest"] == evaluate["release_digest"]
    why = "evaluate saw " + ("the" if same else "another") + " release that export wrote"
    yield _rule(
        "release_digest",
        None,
        same,
        why,
        exported=export["release_digest"],
        evaluated=evaluate["release_digest"],
    )


if __name__ == "__main__":
    main("gate", run)
