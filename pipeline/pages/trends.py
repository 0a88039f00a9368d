"""Releases over time on one page: reports/trends.html.

``moelora trends`` writes it from what pipeline.trends collects.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline import paths
from pipeline.files import write_atomically
from pipeline.pages import plots, render

HEIGHT = 60
"""Pixels of a line's plot."""

EDGE = 7
"""Pixels left free above and below."""

FIRST = 10
"""Per cent of the width before the first release, for the figures at the axis."""


@dataclass(frozen=True)
class Point:
    """One release on a line; places in per cent across and pixels down."""

    x: float
    y: float
    top: float
    bottom: float
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Line:
    """One figure over the releases; ``points`` hold None where a release does not say.

    ``ends``: the values at the bottom and the top of its plot, None where it is level.
    """

    name: str
    note: str
    points: list[Point | None]
    ends: tuple[float, float] | None

    @property
    def known(self) -> list[Point]:
        """The points that are there."""
        return [point for point in self.points if point is not None]

    @property
    def paths(self) -> list[str]:
        """Corners of the drawn line, one stretch after the other: a gap breaks it."""
        stretches: list[list[Point]] = [[]]
        for point in self.points:
            if point is None:
                stretches.append([])
            else:
                stretches[-1].append(point)
        return [" ".join(f"{point.x},{point.y}" for point in line) for line in stretches if len(line) > 1]


def write(releases: list[dict[str, Any]]) -> None:
    """Write reports/trends.html from the entries of pipeline.trends.collect, at least one."""
    write_atomically(paths.TRENDS_PAGE, page(releases))
    paths.TRENDS_PAGE.chmod(0o644)


def page(releases: list[dict[str, Any]]) -> str:
    """The page as HTML; the same entries give the same page."""
    return render(
        "trends.html",
        releases=releases,
        scores=scores(releases),
        identifiers=identifiers(releases),
        volume=[_line("records", "rows of data", [(each["rows"], None, None) for each in releases], None)],
        height=HEIGHT,
    )


def scores(releases: list[dict[str, Any]]) -> list[Line]:
    """The mean and each task; all lines have the same units a pixel, so that slopes compare."""
    tasks = sorted({task for each in releases for task in each["tasks"]})
    figures = {"mean": [_triple(each["mean"]) for each in releases]} | {
        task: [_triple(each["tasks"].get(task)) for each in releases] for task in tasks
    }
    spans = [high - low for line in figures.values() if (ends := _ends(line)) for low, high in [ends]]
    span = max([*spans, 0.05])
    metrics = {task: each.get("metric") or "" for one in releases for task, each in one["tasks"].items()}
    return [_line(name, metrics.get(name, "over tasks"), line, span) for name, line in figures.items()]


def identifiers(releases: list[dict[str, Any]]) -> list[Line]:
    """What de-identification finds and what it leaves."""

    def line(name: str, note: str, read: Callable[[dict[str, Any]], Any]) -> Line:
        return _line(name, note, [(read(each["identifiers"]), None, None) for each in releases], None)

    return [
        line("recall", "share of planted identifiers found", lambda each: each["recall"]),
        line("worst recall", "of the kind found least", lambda each: each["worst_recall"]),
        line("identifiers", "found in 1,000 records", lambda each: each["per_1000_records"]),
        line("left over", "records in 1,000 that still trip a detector", _left_over),
    ]


def _left_over(each: dict[str, Any]) -> float | None:
    return None if each["residual_rate"] is None else 1000 * float(each["residual_rate"])


Triple = tuple[float | None, float | None, float | None]


def _triple(system: dict[str, Any] | None) -> Triple:
    return (system["score"], system["low"], system["high"]) if system else (None, None, None)


def _ends(line: list[Triple]) -> tuple[float, float] | None:
    values = [value for triple in line for value in triple if value is not None]
    return (min(values), max(values)) if values else None


def _line(name: str, note: str, figures: list[Triple], span: float | None) -> Line:
    """``span``: what the plot's height stands for; None: just what the figures need."""
    low, high = _ends(figures) or (0.0, 1.0)
    wanted = span if span is not None else (high - low) or abs(high) or 1.0
    middle = (low + high) / 2
    axis = plots.Axis(middle - wanted / 2, middle + wanted / 2, ())

    def down(value: float) -> float:
        return round(HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * axis.at(value) / 100, 2)

    points = [
        None
        if value is None
        else Point(
            round(FIRST + (100 - FIRST) * (number + 0.5) / len(figures), 3),
            down(value),
            down(value if above is None else above),
            down(value if below is None else below),
            value,
            below,
            above,
        )
        for number, (value, below, above) in enumerate(figures)
    ]
    if span is not None:
        return Line(name, note, points, (axis.low, axis.high))
    return Line(name, note, points, (low, high) if low < high else None)
