"""The run of expectations by Great Expectations, and what it finds.

Great Expectations gets derived columns only (pipeline.validate.facts), a block at a time; what it
finds is kept as counts and places, never as values.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline.errors import PipelineError
from pipeline.validate.expectations import Expectation

NAMED_ROWS = 20
"""At most so many rows of a shard, and of a message, are named."""


@dataclass
class Finding:
    """What an expectation met, summed over all blocks.

    ``shards``: lines of the first rows of each shard, by shard; none where the shard as a whole is
    meant. ``names``: tasks, or figures of drift.
    """

    expectation: Expectation
    elements: int = 0
    unexpected: int = 0
    shards: dict[str, list[int]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def places(self) -> list[str]:
        """``shard:line``, ``shard`` or name of what is remembered."""
        rows = [f"{shard}:{line}" for shard, lines in self.shards.items() for line in lines]
        return rows or [*self.shards, *self.names]


class Suite:
    """Runs expectations on frames."""

    def __init__(self) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read at import
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self.gx: Any = gx
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("derived").add_dataframe_asset("columns")
        self.block = asset.add_batch_definition_whole_dataframe("block")

    def unexpected(
        self, expectations: Sequence[Expectation], frame: pl.DataFrame, place: Sequence[str]
    ) -> list[pl.DataFrame]:
        """Where each expectation is not met: the columns ``place`` of those rows, in their order."""
        nowhere = frame.select(place).clear()
        if frame.is_empty():
            return [nowhere] * len(expectations)
        batch = self.block.get_batch({"dataframe": frame.to_pandas()})
        results: Any = batch.validate(
            self.gx.ExpectationSuite(
                name="validate",
                expectations=[self.expectation(one, number) for number, one in enumerate(expectations)],
            ),
            result_format={
                "result_format": "COMPLETE",
                "return_unexpected_index_query": False,
                "unexpected_index_column_names": list(place),
            },
        )
        found = [nowhere] * len(expectations)
        for result in results.results:
            number = result.expectation_config.meta["number"]
            if "unexpected_count" not in result.result:
                raise PipelineError(f"{expectations[number]} could not be computed")
            if rows := result.result["unexpected_index_list"]:
                columns = {name: [row[name] for row in rows] for name in place}
                found[number] = pl.DataFrame(columns, schema=nowhere.schema).sort(place)
        return found

    def run(self, expectations: Sequence[Expectation], frame: pl.DataFrame, place: str) -> list[Finding]:
        """What is found on a frame whose column ``place`` names a shard, a task or a figure."""
        findings = []
        for one, rows in zip(expectations, self.unexpected(expectations, frame, [place]), strict=True):
            names = rows[place].to_list()
            finding = Finding(one, frame.height, len(names))
            if place == "shard":
                finding.shards = {name: [] for name in names}
            else:
                finding.names = names
            findings.append(finding)
        return findings

    def expectation(self, expectation: Expectation, number: int, description: str | None = None) -> Any:
        """Great Expectations' own object, which knows its place in the suite."""
        classes = {
            "expect_column_values_to_be_between": self.gx.expectations.ExpectColumnValuesToBeBetween,
            "expect_column_values_to_be_in_set": self.gx.expectations.ExpectColumnValuesToBeInSet,
        }
        return classes[expectation.type](
            **expectation.kwargs,
            severity=expectation.level,
            description=description,
            meta={"number": number, "level": expectation.level},
        )
