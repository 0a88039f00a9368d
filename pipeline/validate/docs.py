"""Great Expectations' Data Docs: one page over all blocks, with counts alone."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from pipeline import paths
from pipeline.files import write_atomically
from pipeline.validate.suite import NAMED_ROWS, Finding, Suite


def write(suite: Suite, findings: Sequence[Finding]) -> None:
    """Write reports/data_docs/index.html, without any value, not even a derived one."""
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )

    renderer: Any = import_module("great_expectations.render.renderer")  # names it does not export
    view: Any = import_module("great_expectations.render.view")

    results = []
    for number, finding in enumerate(findings):
        percent = 100 * finding.unexpected / max(finding.elements, 1)
        results.append(
            ExpectationValidationResult(
                success=not finding.unexpected,
                expectation_config=suite.expectation(
                    finding.expectation, number, _described(finding)
                ).configuration,
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
    met = sum(not finding.unexpected for finding in findings)
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
        meta={"great_expectations_version": suite.gx.__version__, "run_id": {"run_name": "validate"}},
    )
    page = view.DefaultJinjaPageView().render(renderer.ValidationResultsPageRenderer().render(whole))
    write_atomically(paths.DATA_DOCS / "index.html", page)


def _described(finding: Finding) -> str:
    """What is expected, and where it is not met, what mends it and where."""
    expectation = finding.expectation
    if not finding.unexpected:
        return expectation.meaning
    places = finding.places()
    more = f" and {finding.unexpected - NAMED_ROWS} more" if finding.unexpected > NAMED_ROWS else ""
    return (
        f"{expectation.meaning} ({expectation.level}): {expectation.remedy}. "
        f"Where: {', '.join(places[:NAMED_ROWS])}{more}"
    )
