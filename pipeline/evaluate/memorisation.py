"""The probes of memorisation, and the rows they look at: canaries, extraction, membership."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline.evaluate import canaries, extraction, membership
from pipeline.evaluate.seen import matched, rows_of
from pipeline.evaluate.system import Done, System, unwatched
from pipeline.params import Evaluate

Pair = tuple[pl.DataFrame, pl.DataFrame]
"""Rows of the training split that were seen, and as many of the test split."""


@dataclass(frozen=True)
class Probes:
    """What the candidate is asked beside the test rows."""

    canaries: pl.DataFrame
    """``inserted`` says which of them the saved weights have seen."""
    extractable: int
    """Seen training rows whose answer is a text of some length."""
    extraction: Pair
    membership: Pair

    @classmethod
    def draw(
        cls,
        train: pl.DataFrame,
        test: pl.DataFrame,
        planted: pl.DataFrame,
        seen: Collection[str],
        tasks: Collection[str],
        params: Evaluate,
    ) -> "Probes":
        """Choose the rows; ``seen``: ids of what the saved weights were trained on."""
        trained, unseen = rows_of(train, seen, tasks), rows_of(test, None, tasks)
        long, unseen_long = extraction.extractable(trained), extraction.extractable(unseen)
        known = planted.filter(pl.col("task").is_in(list(tasks))).sort("canary_id")
        return cls(
            known.with_columns(inserted=pl.col("canary_id").is_in(list(seen))),
            len(long),
            matched(long, unseen_long, params.extraction_rows, params.seed),
            matched(trained, unseen, params.membership_rows, params.seed),
        )

    @property
    def rows(self) -> int:
        """What ``measure`` will tell ``done`` of, all in all."""
        return len(self.canaries) + 2 * len(self.extraction[0]) + 4 * len(self.membership[0])

    def measure(
        self,
        candidate: System,
        bare: System,
        champion_auc: float | None,
        params: Evaluate,
        done: Done = unwatched,
    ) -> dict[str, Any]:
        """``canaries, extraction, membership`` of the report. ``champion_auc``: the champion's own."""
        report: dict[str, Any] = {"canaries": None, "extraction": None, "membership": None}
        if len(self.canaries):
            report["canaries"] = canaries.measure(candidate, self.canaries, params, done)
        if params.extraction_rows:
            found = extraction.measure(candidate, bare, *self.extraction, params, done)
            report["extraction"] = {"extractable": self.extractable} | found
        if params.membership_rows:
            found = membership.measure(candidate, bare, *self.membership, params, done)
            report["membership"] = found | {"champion_auc": champion_auc}
        return report
