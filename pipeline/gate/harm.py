"""Is the candidate worse than the champion, beyond chance? The rules that chance can fool.

A candidate that harms nothing must pass, whatever the number of rules and tasks that look at it.
So all rules here share one error: 1 - ``gate.confidence``, 5 %, divided by ``gate.error_shares``
over those in use (``levels``). By Bonferroni's inequality the chance that any of them blocks a
candidate that is as good as the champion and the reference is at most their sum. Most of it goes
to ``no_harm``, because one task made worse is what nothing else finds.

    no_harm            each task with the champion; with the base where there is no champion, or
                       where the task is new since
    no_harm_reference  each task with the fixed ``evaluate.reference``, so that losses too small to
                       be seen do not add up week by week
    mean_not_worse     the mean over the tasks both know
    worst_task         the lowest score over the tasks both know, whichever task it is of: patients
                       meet a system at its weakest, and a small loss there would pass ``no_harm``
    slices             each slice of each task, where ``gate.slices`` is ``block``

The p-values are evaluate's: those of tasks and of slices are adjusted for looking at all of them
(pipeline.evaluate.randomisation.step_down).
"""

import math
from collections.abc import Iterator
from typing import Any

from pipeline.gate.rule import Rule, rule
from pipeline.params import Gate

UNMEASURED_DISCORDANCE = 0.2
"""Share of rows that two systems answer differently, assumed where a task has no test rows."""

NORMAL_975 = 1.959964

FIELDS = {"no_harm": "comparison", "no_harm_reference": "reference_comparison"}

Evaluation = dict[str, Any]
"""reports/evaluate.json."""


def rules(evaluate: Evaluation, params: Gate) -> Iterator[Rule]:
    """Every rule that compares the candidate with another system."""
    level = levels(evaluate, params)
    for name in FIELDS:
        if name in level:
            yield from _no_harm(name, evaluate, params, level[name])
    mean, worst = evaluate["mean"]["comparison"], evaluate["worst"]["comparison"]
    yield _summary("mean_not_worse", "mean over tasks", mean, level["mean_not_worse"])
    yield _summary("worst_task", "lowest score of any task", worst, level["worst_task"])
    if "slices" in level:
        yield from _slices(evaluate, level["slices"])


def levels(evaluate: Evaluation, params: Gate) -> dict[str, float]:
    """The chance of a false alarm that each rule in use may have; they add up to 1 - confidence."""
    shares = params.error_shares.model_dump()
    if not evaluate["reference"]:
        del shares["no_harm_reference"]
    if params.slices == "report":
        del shares["slices"]
    whole = sum(shares.values())
    return {name: (1 - params.confidence) * share / whole for name, share in shares.items()}


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


def _no_harm(name: str, evaluate: Evaluation, params: Gate, level: float) -> Iterator[Rule]:
    for task, figures in evaluate["tasks"].items():
        against, rows = figures.get(FIELDS[name]), figures["rows"]
        if against:
            new = name == "no_harm" and evaluate["champion"] and against["against"] == "base"
            other = "base (the task is new since the champion)" if new else against["against"]
            yield _harm(name, task, rows, other, against, params, level)
        elif rows == 0:
            needed = rows_needed_from_nothing(params.margin) if params.margin else None
            why = "no test rows, so harm can be neither shown nor excluded"
            yield rule(name, task, "undecided", why, rows=0, rows_needed=needed)
        # A task with rows and no comparison is new since the reference: nothing to lose.


def _harm(
    name: str, task: str, rows: int, other: str, against: dict[str, Any], params: Gate, level: float
) -> Rule:
    difference, low = against["difference"], against["low"]
    figures: dict[str, Any] = {
        "against": against["against"],
        "difference": difference,
        "low": low,
        "high": against["high"],
        "p": against["p_worse"],
        "p_adjusted": against["p_adjusted"],
        "level": level,
        "rows": rows,
    }
    if against["p_adjusted"] <= level:
        why = f"{-difference:.3f} below {other}, beyond chance (p {against['p_adjusted']:.4f} over all tasks)"
        return rule(name, task, False, why, **figures)
    if low < -params.margin:
        # Without a margin no number of rows excludes every loss.
        needed = rows_needed(rows, difference, low, params.margin) if params.margin else None
        why = (
            f"{difference:+.3f} to {other} is within chance, but a loss of {params.margin:g} is not excluded"
            + (f": about {needed} test rows would tell" if needed else "")
        )
        return rule(name, task, "undecided", why, **figures, rows_needed=needed)
    why = f"{difference:+.3f} to {other}, and a loss of {params.margin:g} is excluded"
    return rule(name, task, True, why, **figures)


def _summary(name: str, what: str, against: dict[str, Any] | None, level: float) -> Rule:
    if against is None:
        return rule(name, None, "undecided", f"no task has test rows, so the {what} is not known")
    holds = against["p_worse"] > level
    why = (
        f"the {what} is {against['difference']:+.3f} to {against['against']}, "
        + ("not worse" if holds else "worse")
        + f" beyond chance (p {against['p_worse']:.4f})"
    )
    return rule(name, None, holds, why, **against, level=level)


def _slices(evaluate: Evaluation, level: float) -> Iterator[Rule]:
    """One rule a task: that of its slice with the smallest p."""
    for task, figures in evaluate["tasks"].items():
        compared = {label: each["comparison"] for label, each in figures["slices"].items()}
        if not compared:
            continue
        label = min(
            compared, key=lambda name: (compared[name]["p_adjusted"], compared[name]["p_worse"], name)
        )
        against = compared[label]
        holds = against["p_adjusted"] > level
        why = (
            f"of {len(compared)} slices {label} is the most doubtful, {against['difference']:+.3f} to "
            f"{against['against']}: {'within' if holds else 'beyond'} chance "
            f"(p {against['p_adjusted']:.4f} over all slices)"
        )
        yield rule("slices", task, holds, why, slice=label, **against, level=level)
