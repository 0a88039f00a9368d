"""How the adapter was made: training that went well, and files that are what was judged."""

from collections.abc import Iterator
from typing import Any

from pipeline.gate.rule import Rule, rule
from pipeline.params import Gate


def rules(
    resample: dict[str, Any],
    train: dict[str, Any],
    export: dict[str, Any],
    evaluate: dict[str, Any],
    params: Gate,
) -> Iterator[Rule]:
    """Effective epochs, training health, exported files."""
    yield from _effective_epochs(resample, params)
    yield _training_health(train)
    yield from _release(export, evaluate)


def _effective_epochs(resample: dict[str, Any], params: Gate) -> Iterator[Rule]:
    epochs = {task: figures["effective_epochs"] for task, figures in resample["tasks"].items()}
    if not epochs:
        return
    most = max(epochs, key=lambda name: (epochs[name], name))
    least = min(epochs, key=lambda name: (epochs[name], name))
    why = (
        f"{most} is repeated most, {epochs[most]:.2f} times; {params.max_effective_epochs:g} may be; "
        f"{least} least, {epochs[least]:.2f}; {params.min_effective_epochs:g} are asked for"
    )
    yield rule(
        "effective_epochs",
        None,
        params.min_effective_epochs <= epochs[least] and epochs[most] <= params.max_effective_epochs,
        why,
        most_repeated=most,
        most=epochs[most],
        least_repeated=least,
        least=epochs[least],
        limits=[params.min_effective_epochs, params.max_effective_epochs],
    )


def _training_health(train: dict[str, Any]) -> Rule:
    health = train["health"]
    first, last = health["loss_first"], health["loss_last"]
    if first is None:
        why = "training had fewer than two steps, so its loss can neither fall nor rise"
        return rule("training_health", None, "undecided", why, **health)
    falls = health["finite"] and last < first
    why = f"went from {first:.3f} to {last:.3f}" if health["finite"] else "is not finite"
    return rule("training_health", None, falls, f"the training loss {why}", **health)


def _release(export: dict[str, Any], evaluate: dict[str, Any]) -> Iterator[Rule]:
    tolerance = export["tolerance"]
    exported = {task: figures["max_abs_difference"] for task, figures in export["tasks"].items()}
    for name, differences, what in (
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
        yield rule(name, None, holds, why, max_abs_difference=worst, tolerance=tolerance)
    same = export["release_digest"] == evaluate["release_digest"]
    why = "evaluate saw " + ("the" if same else "another") + " release that export wrote"
    yield rule(
        "release_digest",
        None,
        same,
        why,
        exported=export["release_digest"],
        evaluated=evaluate["release_digest"],
    )
