"""The page of releases over time."""

from typing import Any

import pytest

from pipeline import paths
from pipeline.pages import trends
from tests import judged
from tests.conftest import Checkout
from tests.pipeline.pages.conftest import looking


def release(number: int, **more: Any) -> dict[str, Any]:
    """An entry of pipeline.trends.collect; the task ``summary`` is missing in the third release."""
    tasks = {
        task: {
            "metric": "accuracy",
            "rows": 90,
            "score": start + 0.02 * number,
            "low": start + 0.02 * number - 0.05,
            "high": start + 0.02 * number + 0.04,
        }
        for task, start in (("rqe", 0.5), ("summary", 0.3), ("triage", 0.7))
        if not (task == "summary" and number == 2)
    }
    return {
        "release": f"{number:016x}",
        "published_at": f"2026-11-{number + 1:02}T08:00:00+00:00",
        "champion": number == 3,
        "verdict": "pass",
        "override": None,
        "tasks": tasks,
        "mean": {"score": 0.5 + 0.02 * number, "low": 0.45, "high": 0.62},
        "rows": 9000 + 700 * number,
        "identifiers": {
            "recall": 0.97,
            "worst_kind": "NAME",
            "worst_recall": 0.93 + number / 200,
            "residual_rate": 0.001,
            "per_1000_records": None if number == 0 else 1200.5 + 10 * number,
        },
    } | more


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_an_error(
    checkout: Checkout, browser: Any, scheme: str, width: int
) -> None:
    override = {"by": "A. Meyer", "reason": judged.HOSTILE}
    releases = [
        *(release(number) for number in range(4)),
        release(4, verdict="overridden", override=override),
    ]
    trends.write(releases)
    size = {"width": width, "height": 900}
    with looking(browser, paths.TRENDS_PAGE, color_scheme=scheme, viewport=size) as page:
        assert page.title() == "Trends over 5 releases"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("script, img").count() == 0
        newest = page.locator("tbody tr").first
        assert judged.HOSTILE in newest.inner_text()
        red, green, blue = newest.locator(".badge").evaluate(
            "it => getComputedStyle(it).color.match(/\\d+/g).slice(0, 3).map(Number)"
        )
        assert red > 1.5 * max(green, blue)


def test_one_release_is_no_line_but_a_point(checkout: Checkout, browser: Any) -> None:
    trends.write([release(1)])
    with looking(browser, paths.TRENDS_PAGE) as page:
        assert page.locator("polyline").count() == 0
        assert page.locator("section").nth(1).locator("circle").count() == 4


def test_lines_break_where_a_release_does_not_know_the_task() -> None:
    lines = {line.name: line for line in trends.scores([release(number) for number in range(5)])}
    assert list(lines) == ["mean", "rqe", "summary", "triage"]
    assert [len(line.paths) for line in lines.values()] == [1, 1, 2, 1]
    assert lines["summary"].points[2] is None


def test_all_scores_have_the_same_units_a_pixel() -> None:
    lines = trends.scores([release(number) for number in range(5)])
    assert len({round(line.ends[1] - line.ends[0], 9) for line in lines if line.ends}) == 1
    for line in lines:
        assert all(0 <= point.top <= point.y <= point.bottom <= trends.HEIGHT for point in line.known)


def test_a_level_line_has_no_figures_at_its_axis() -> None:
    recall, worst, *_ = trends.identifiers([release(number) for number in range(3)])
    assert recall.ends is None
    assert worst.ends == pytest.approx((0.93, 0.94))
