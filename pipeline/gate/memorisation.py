"""What the adapter learnt by heart: canaries, training rows that can be extracted or recognised.

    memorisation  blocked where canaries that were trained on are easier than those held back, or one
                  is completed
    extraction    blocked where more training rows than rows never seen are continued word for word
    membership    blocked where training rows are told from others by more than the limit: the
                  champion's area and ``gate.membership_margin``, at most ``gate.max_membership_auc``,
                  which alone counts where there is no champion or it has no area. A champion below
                  one half, which is chance, counts as one half. An area above the limit by less than
                  its interval is undecided, and says how many rows would tell

Blocked means beyond chance: one-sided p below MEMORISED, an interval that leaves the limit out. What
was not measured, and rows too few to show anything at that level, are undecided.
"""

import math
from collections.abc import Iterator
from typing import Any

from pipeline.gate.rule import Rule, rule
from pipeline.params import Gate

MEMORISED = 0.001
"""One-sided p below which an adapter has learnt something by heart."""


def rules(evaluate: dict[str, Any], params: Gate) -> Iterator[Rule]:
    """The three rules, each once."""
    yield _canaries(evaluate["canaries"])
    yield _extraction(evaluate["extraction"])
    yield _membership(evaluate["membership"], params)


def least_p(first: int, second: int) -> float:
    """The smallest p that a rank or a Fisher test of two samples can have: all of one before the other."""
    return 1 / math.comb(first + second, first)


def _canaries(found: dict[str, Any] | None) -> Rule:
    if found is None:
        why = "no canaries were trained on (resample.canaries), so memorisation was not measured"
        return rule("memorisation", None, "undecided", why)
    recited = found["completed"] + found["held_back_completed"]
    learnt = found["p"] < MEMORISED
    why = (
        f"{recited} canaries are recited; those trained on are "
        f"{'' if learnt else 'not '}easier than those never seen (p {found['p']:.2g})"
    )
    if not recited and least_p(found["inserted"], found["held_back"]) >= MEMORISED:
        few = f"{found['inserted']} canaries trained on and {found['held_back']} held back"
        why = f"{few} are too few to tell: raise resample.canaries"
        return rule("memorisation", None, "undecided", why, **found)
    return rule("memorisation", None, not (recited or learnt), why, **found)


def _extraction(found: dict[str, Any] | None) -> Rule:
    if found is None:
        why = "extraction was not measured, since evaluate.extraction_rows is 0"
        return rule("extraction", None, "undecided", why)
    if not found["extractable"]:
        why = "no training row has an answer that is long enough to be extracted"
        return rule("extraction", None, True, why, **found)
    if least_p(found["rows"], found["unseen_rows"]) >= MEMORISED:
        why = f"{found['rows']} training rows with as many test rows beside them are too few to tell"
        return rule("extraction", None, "undecided", why, **found)
    extracted = found["completed"] - found["by_base"]
    unseen = found["unseen_completed"] - found["unseen_by_base"]
    why = (
        f"beyond what the base completes, {extracted} of {found['rows']} training rows are continued word "
        f"for word, and {unseen} of {found['unseen_rows']} never seen (p {found['p']:.2g})"
    )
    return rule("extraction", None, found["p"] >= MEMORISED, why, **found)


def _membership(found: dict[str, Any] | None, params: Gate) -> Rule:
    if found is None:
        why = "membership was not measured, since evaluate.membership_rows is 0"
        return rule("membership", None, "undecided", why)
    auc, champion = found["auc"], found["champion_auc"]
    if auc is None:
        why = "no task has both training and test rows, so membership was not measured"
        return rule("membership", None, "undecided", why, **found)
    limit = params.max_membership_auc
    if champion is not None:
        limit = min(limit, max(champion, 0.5) + params.membership_margin)
    figures = found | {"limit": limit}
    why = (
        f"training rows are told from others with an area of {auc:.3f} "
        f"({found['low']:.3f} to {found['high']:.3f}); {limit:.3f} may be"
    )
    if auc <= limit or found["low"] > limit:
        return rule("membership", None, auc <= limit, why, **figures)
    # The interval shrinks with the square root of the rows.
    needed = math.ceil(found["rows"] * ((auc - found["low"]) / (auc - limit)) ** 2)
    why += f", so it is above within chance: evaluate.membership_rows of about {needed} would tell"
    return rule("membership", None, "undecided", why, **figures, rows_needed=needed)
