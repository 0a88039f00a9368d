"""Great Expectations' Data Docs: one page over all blocks, with counts alone.

The page is made to be read where there is no way out: it fetches nothing.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from pipeline import paths
from pipeline.files import write_atomically
from pipeline.validate.suite import NAMED_ROWS, Finding, Suite

FETCHED = re.compile(r"<script\b.*?</script>|<(?:link|img)\b[^>]*>", re.DOTALL)
"""Scripts, styles, fonts and pictures of other hosts, which would learn when the page is opened."""

NOWHERE = re.compile(r' href="\.\./[^"]*"|<br> Data asset: None')
"""Pages that a whole site of Data Docs would have, and what there is none of."""

WARNED = re.compile(r'text-danger(" ></i>(?:\s|</?(?:span|div|td)\b[^>]*>)*[^<]*\(warning\))')
"""The mark of a warning, which Great Expectations makes that of a failure."""

STYLE = """
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
body > nav, .card:has(input), footer, hr, [data-toggle="collapse"] { display: none }
.ge-navigation-sidebar-container ul { columns: 4; list-style: none; margin: 0; padding: 0 }
a { color: inherit }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #8884; padding: .2rem .6rem; text-align: left; vertical-align: top }
th:first-child { width: 4rem } th:nth-child(3) { width: 10rem }
h5 { font-size: 1rem; margin: 1rem 0 .2rem }
i.text-success::before { color: #287a3c; content: "met" }
i.text-danger::before { color: #b3261e; content: "MISSED"; font-weight: bold }
i.text-warning::before { color: #8a6100; content: "missed" }
</style>
"""


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
        success=not any(each.unexpected and each.expectation.level == "critical" for each in findings),
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
    page = WARNED.sub(r"text-warning\1", NOWHERE.sub("", FETCHED.sub("", page)))
    page = page.replace("</head>", f"{STYLE}</head>", 1)
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
