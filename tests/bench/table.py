"""Interleaved timing, and the table and JSON file that every benchmark ends with."""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

REPORTS = Path("reports/bench")


class Row(NamedTuple):
    """One row of a benchmark: what was measured, beside its peer, against its bar."""

    figure: str
    value: float | None
    peer: float | None
    relation: str
    bar: float
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value >= self.bar if self.relation == ">=" else self.value <= self.bar


def medians(repeats: int, **variants: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each variant; they take turns, so that a drift of the machine meets all."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for work in variants.values():
        work()
    for _ in range(repeats):
        for name, work in variants.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(name: str, rows: list[Row], facts: str = "") -> None:
    """Print the table, ``facts`` of the machine below it, and write reports/bench/NAME.json."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", "peer", "bar", "holds", "note", title=f"bench-{name}", caption=facts)
    for row in rows:
        value, peer = ("" if each is None else f"{each:.4g}" for each in (row.value, row.peer))
        holds = {True: "yes", False: "NO", None: "not measured"}[row.holds]
        table.add_row(row.figure, value, peer, f"{row.relation} {row.bar:g}", holds, row.note)
    Console().print(table)
    written: list[dict[str, Any]] = [row._asdict() | {"holds": row.holds} for row in rows]
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.json").write_text(json.dumps(written, indent=2) + "\n")
    print(f"written: {REPORTS / name}.json")
