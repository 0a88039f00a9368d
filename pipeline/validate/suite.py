"""The expectations, kept as code, and their run by Great Expectations.

Great Expectations gets derived columns only (pipeline.validate.facts); what it finds is summed
over blocks and shown as counts and places, never as values.
"""

import os
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import polars as pl

from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.files import write_atomically
from pipeline.params import Validate

NAMED_ROWS = 20
"""At most so many rows of a shard, and of a message, are named."""

Level = Literal["critical", "warning"]


@dataclass(frozen=True)
class Expectation:
    """One expectation of Great Expectations on a derived column, what breaks it, what mends it.

    A column of booleans must be true; a column of numbers lies within the limits.
    """

    column: str
    level: Level
    remedy: str
    least: float | None = None
    most: float | None = None

    @property
    def type(self) -> str:
        between = self.least is not None or self.most is not None
        return "expect_column_values_to_be_between" if between else "expect_column_values_to_be_in_set"

    @property
    def kwargs(self) -> dict[str, Any]:
        if self.least is None and self.most is None:
            return {"column": self.column, "value_set": [True]}
        limits = {"min_value": self.least, "max_value": self.most}
        return {"column": self.column} | {name: value for name, value in limits.items() if value is not None}


@dataclass
class Finding:
    """What an expectation met, summed over all blocks."""

    expectation: Expectation
    elements: int = 0
    unexpected: int = 0
    shards: dict[str, list[int]] = field(default_factory=dict)  # lines of the first rows of each shard
    tasks: list[str] = field(default_factory=list)

    def add_places(self, found: list[dict[str, Any]], place: list[str]) -> None:
        """Remember where the first rows are; ``place``: shard and line, shard, or task."""
        for row in sorted(found, key=lambda row: tuple(row[name] for name in place)):
            if "task" in row:
                self.tasks.append(str(row["task"]))
            elif len(lines := self.shards.setdefault(str(row["shard"]), [])) < NAMED_ROWS and "line" in row:
                lines.append(int(row["line"]))

    def places(self) -> list[str]:
        """``shard:line``, ``shard`` or ``task`` of what is remembered."""
        rows = [f"{shard}:{line}" for shard, lines in self.shards.items() for line in lines]
        return rows or [*self.shards, *self.tasks]


def shard_suite() -> list[Expectation]:
    """What every shard must be."""
    return [Expectation("schema_fits", "critical", "run ingest again, with this version of the code")]


def record_suite(validate: Validate) -> list[Expectation]:
    """What every record must be."""
    return [
        Expectation("task_name_valid", "critical", "rename the task: a-z, 0-9 and hyphens, at most 64"),
        Expectation("task_known", "critical", "add the task to validate.tasks, or take its files away"),
        Expectation("task_type_known", "critical", "use a task type of pipeline/records.py"),
        Expectation("task_has_one_type", "critical", "give all records of the task the same task_type"),
        Expectation("choices_fit", "critical", "list at least two different answer_choices"),
        Expectation("target_in_choices", "critical", "write the target as it stands in answer_choices"),
        Expectation("language_valid", "critical", "write the language as a BCP 47 tag"),
        Expectation("split_known", "critical", "use train, validation or test as split, or none"),
        Expectation("sample_unique", "critical", "give every record of a source its own sample_id"),
        Expectation("group_in_one_owner_split", "critical", "keep a patient or document in one split"),
        Expectation("input_characters", "critical", "fill in the input", least=1),
        Expectation("target_characters", "critical", "fill in the target", least=1),
        Expectation(
            "input_characters",
            "warning",
            "training cuts the middle out of long inputs; shorten them",
            most=validate.max_input_characters,
        ),
        Expectation(
            "target_characters",
            "warning",
            "a target beyond the context is never learnt; shorten it",
            most=validate.max_target_characters,
        ),
    ]


def task_suite() -> list[Expectation]:
    """What every task must offer to be trained and measured at all."""
    return [
        Expectation(
            "records", "warning", "one record is either learnt or measured, not both; add some", least=2
        ),
        Expectation("groups", "warning", "records of one group stay in one split; add other groups", least=2),
    ]


def drift_suite(validate: Validate) -> list[Expectation]:
    """How far the data may have moved from the baseline's: total variation distances, 0 to 1."""
    remedy = "look whether the new data is what it should be; raise validate.max_drift if it is"
    names = ("task_mix_distance", "language_mix_distance", "input_length_distance")
    return [Expectation(name, "warning", remedy, most=validate.max_drift) for name in names]


class Suite:
    """Runs expectations on derived frames and sums what they find."""

    def __init__(self) -> None:
        os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read at import
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self.gx: Any = gx
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("derived").add_dataframe_asset("columns")
        self.block = asset.add_batch_definition_whole_dataframe("block")
        self.findings: dict[Expectation, Finding] = {}

    def failed(self, level: Level) -> list[Finding]:
        found = self.findings.values()
        return [finding for finding in found if finding.unexpected and finding.expectation.level == level]

    def run(self, expectations: list[Expectation], frame: pl.DataFrame, place: list[str]) -> None:
        """Run ``expectations`` on a frame; ``place``: its columns that say where a row is."""
        for expectation in expectations:
            self.findings.setdefault(expectation, Finding(expectation))
        if frame.is_empty():
            return
        result_format: dict[str, Any] = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
        if place:
            result_format["unexpected_index_column_names"] = place
        batch = self.block.get_batch({"dataframe": frame.to_pandas()})
        results: Any = batch.validate(
            self.gx.ExpectationSuite(
                name="validate",
                expectations=[self._expectation(one, number) for number, one in enumerate(expectations)],
            ),
            result_format=result_format,
        )
        for result in results.results:
            expectation = expectations[result.expectation_config.meta["number"]]
            if "unexpected_count" not in result.result:
                raise PipelineError(f"{expectation.type}({expectation.column}) could not be computed")
            finding = self.findings[expectation]
            finding.elements += result.result["element_count"]
            finding.unexpected += result.result["unexpected_count"]
            if place:
                finding.add_places(result.result["unexpected_index_list"] or [], place)

    def _expectation(self, expectation: Expectation, number: int) -> Any:
        classes = {
            "expect_column_values_to_be_between": self.gx.expectations.ExpectColumnValuesToBeBetween,
            "expect_column_values_to_be_in_set": self.gx.expectations.ExpectColumnValuesToBeInSet,
        }
        return classes[expectation.type](
            **expectation.kwargs,
            severity=expectation.level,
            meta={"number": number, "level": expectation.level},
        )

    def write_data_docs(self) -> None:
        """One page over all blocks, with counts alone: no value, not even a derived one."""
        from great_expectations.core.expectation_validation_result import (
            ExpectationSuiteValidationResult,
            ExpectationValidationResult,
        )

        renderer: Any = import_module("great_expectations.render.renderer")  # names it does not export
        view: Any = import_module("great_expectations.render.view")

        results = []
        for number, finding in enumerate(self.findings.values()):
            percent = 100 * finding.unexpected / max(finding.elements, 1)
            results.append(
                ExpectationValidationResult(
                    success=not finding.unexpected,
                    expectation_config=self._expectation(finding.expectation, number).configuration,
                    result={
                        "element_count": finding.elements,
                        "unexpected_count": finding.unexpected,
                        "unexpected_percent": percent,
                        "unexpected_percent_nonmissing": percent,
                        "missing_count": 0,
                        "missing_percent": 0.0,
                        "partial_unexpected_list": [],
                    },
                    meta={},
                    exception_info={
                        "raised_exception": False,
                        "exception_message": None,
                        "exception_traceback": None,
                    },
                )
            )
        met = sum(not finding.unexpected for finding in self.findings.values())
        whole = ExpectationSuiteValidationResult(
            success=met == len(results),
            results=results,
            suite_name="validate",
            statistics={
                "evaluated_expectations": len(results),
                "successful_expectations": met,
                "unsuccessful_expectations": len(results) - met,
                "success_percent": 100 * met / max(len(results), 1),
            },
            meta={"great_expectations_version": self.gx.__version__, "run_id": {"run_name": "validate"}},
        )
        page = view.DefaultJinjaPageView().render(renderer.ValidationResultsPageRenderer().render(whole))
        write_atomically(paths.DATA_DOCS / "index.html", page)
