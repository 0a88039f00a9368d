"""A rule's outcome, as the report holds it."""

from typing import Any

Rule = dict[str, Any]
"""``rule, task`` (or null), ``outcome: pass | blocked | undecided, figures, why``."""


def rule(name: str, task: str | None, outcome: str | bool, why: str, /, **figures: Any) -> Rule:
    """``why`` is one sentence for people; ``outcome`` True passes, False blocks."""
    if isinstance(outcome, bool):
        outcome = "pass" if outcome else "blocked"
    return {"rule": name, "task": task, "outcome": outcome, "figures": figures, "why": why}
