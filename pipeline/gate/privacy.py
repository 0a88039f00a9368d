"""Patients' data: what de-identification found and left."""

from collections.abc import Iterator
from typing import Any

from pipeline.gate.rule import Rule, rule
from pipeline.params import Gate


def rules(deidentify: dict[str, Any], params: Gate) -> Iterator[Rule]:
    """Recall of planted identifiers, residue."""
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
