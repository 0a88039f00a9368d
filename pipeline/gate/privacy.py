"""Patients' data: what de-identification left, and what the adapter learnt by heart."""

from collections.abc import Iterator
from typing import Any

from pipeline.gate.rule import Rule, rule
from pipeline.params import Gate

MEMORISED = 0.001
"""One-sided p of the canaries' losses below which an adapter has learnt them by heart."""


def rules(deidentify: dict[str, Any], evaluate: dict[str, Any], params: Gate) -> Iterator[Rule]:
    """Recall of planted identifiers, residue, memorisation."""
    yield from _privacy(deidentify, params)
    yield from _memorisation(evaluate)


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
    yield rule(
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
    yield rule(
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
        yield rule("memorisation", None, "undecided", why)
        return
    holds = canaries["p"] >= MEMORISED and canaries["completed"] == 0
    why = (
        f"{canaries['completed']} canaries are recited; inserted ones are "
        + ("not " if canaries["p"] >= MEMORISED else "")
        + f"easier than those never seen (p {canaries['p']:.4f})"
    )
    yield rule("memorisation", None, holds, why, **canaries)
