"""What people read: self-contained pages and Markdown made from the reports.

    evaluation   reports/evaluation.html, and the same without text for Prefect's page and model cards
    trends       reports/trends.html: releases over time
    examples     rows of the test split with the answers to them, for the local page alone
    plots        axes and ticks of the inline SVG

Templates are Jinja's, in templates/; every value that reaches HTML is escaped. A page asks for
nothing from anywhere: its styles are in it, its plots are inline SVG, it has no script, and its
content security policy forbids all else.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(("html", "svg")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "change": change,
        "figure": figure,
        "markdown": markdown,
        "percent": percent,
        "signed": signed,
    }
    return environment


def render(template: str, **values: Any) -> str:
    """A file of templates/ with ``values``; those of .html and .svg are escaped."""
    return _environment().get_template(template).render(values)


def figure(value: object) -> str:
    """A figure of a report as people read it: three decimals, one from 10 upwards, powers of ten
    where those show nothing; other values as they are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        size = abs(value)
        form = ".1e" if 0 < size < 0.001 else ".3f" if size < 10 else ",.1f"
        return f"{value:{form}}".replace("-", "−")
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def change(value: float) -> str:
    """A difference as ``figure`` writes figures, with its sign."""
    return figure(value) if value < 0 else f"+{figure(value)}"


def percent(value: float) -> str:
    """A share of 1 as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


_MARKDOWN = str.maketrans(
    {character: f"&#{ord(character)};" for character in "\\`*_[]<>|#"} | {"&": "&amp;", "\n": " ", "\r": " "}
)


def markdown(text: object) -> str:
    """``text`` on one line, without a meaning for Markdown or HTML."""
    return str(text).translate(_MARKDOWN)
