"""What was measured at all, and whether it is good enough on its own: no chance in here."""

from collections.abc import Iterator
from typing import Any

from pipeline.gate.rule import Rule, rule
from pipeline.params import Gate


def rules(evaluate: dict[str, Any], params: Gate) -> Iterator[Rule]:
    """Floors, calibration, test sets against the champion's, tasks that are gone, releases of
    another base."""
    yield from _floors(evaluate, params)
    yield from _calibration(evaluate, params)
    yield from _test_sets(evaluate)
    for task in evaluate["gone"]:
        why = "the champion serves this task and the candidate does not know it"
        yield rule("task_gone", task, "undecided", why)
    for name, release in evaluate["other_base"].items():
        why = f"the {name} {release} was trained on another base model, so it was not compared with"
        yield rule("other_base", None, "undecided", why, release=release)


def _floors(evaluate: dict[str, Any], params: Gate) -> Iterator[Rule]:
    tasks = evaluate["tasks"]
    for task in sorted(set(params.floors) - {"default"} - set(tasks)):
        yield rule("floor", task, False, "a floor is set for this task, but it was not evaluated")
    for task, figures in tasks.items():
        floor = params.floors.get(task, params.floors.get("default"))
        if floor is None:
            continue
        if figures["rows"] == 0:
            yield rule("floor", task, "undecided", "no test rows to measure the floor on", floor=floor)
            continue
        score = figures["candidate"]["score"]
        why = f"{figures['metric']} {score:.3f} is {'at or above' if score >= floor else 'below'} {floor:g}"
        yield rule("floor", task, score >= floor, why, score=score, floor=floor)


def _calibration(evaluate: dict[str, Any], params: Gate) -> Iterator[Rule]:
    limit = params.max_ece
    if limit is None:
        return
    for task, errors in evaluate["calibration"].items():
        error = errors["candidate"]
        why = f"stated probabilities are off by {error:.3f} on average, {limit:g} may be"
        yield rule("calibration", task, error <= limit, why, ece=error, limit=limit)


def _test_sets(evaluate: dict[str, Any]) -> Iterator[Rule]:
    """A test set that shrinks hides harm, so a person says by name that its rows had to leave."""
    for task, before in (evaluate["champion_rows"] or {}).items():
        if task in evaluate["tasks"]:
            now = evaluate["tasks"][task]["rows"]
            why = f"{now} test rows, the champion was judged on {before}"
            if now < before:
                why += (
                    ": bring the missing rows back, or, where they had to leave, "
                    "let this release through by gate.override"
                )
            yield rule("test_set", task, now >= before, why, rows=now, champion_rows=before)
