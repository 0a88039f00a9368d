"""How many patients' records hold identifiers of a kind, and has that moved from the baseline's?

As in pipeline.validate.drift each group counts once, by one of its records, which is drawn by its
pseudonym. A share that moved says that other data came, or that the detectors changed.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.validate import drift

WITH, WITHOUT = "with", "without"

Rates = dict[str, Any]


def rates(records: Iterable[tuple[str, str, frozenset[str]]]) -> Rates:
    """``{"groups", "kinds": {kind: groups}}`` of records: group, pseudonym, kinds found in it."""
    drawn: dict[str, tuple[str, frozenset[str]]] = {}
    for group, identity, kinds in records:
        if group not in drawn or identity < drawn[group][0]:
            drawn[group] = identity, kinds
    groups = Counter(kind for _, found in drawn.values() for kind in found)
    return {"groups": len(drawn), "kinds": dict(sorted(groups.items()))}


def moved(before: Rates, now: Rates, least_change: float) -> dict[str, dict[str, float]]:
    """``{kind: {"before", "after"}}``: shares of the kinds that moved, beyond chance and by more
    than ``least_change`` of the larger share."""
    kinds = sorted(before["kinds"].keys() | now["kinds"].keys())
    figures = [drift.Figure(kind, None, _counts(before, kind), _counts(now, kind)) for kind in kinds]
    judged = drift.judge(figures, least_change, drift.LATER)
    return {
        each.figure.name: dict(zip(("before", "after"), each.moved[WITH], strict=True))
        for each in judged
        if WITH in each.moved
    }


def _counts(rates: Rates, kind: str) -> drift.Counts:
    found = rates["kinds"].get(kind, 0)
    return {WITH: found, WITHOUT: rates["groups"] - found}
