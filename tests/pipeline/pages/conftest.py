"""A real browser that looks at a page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Look = Callable[[Path], Any]


@contextmanager
def looking(browser: Any, file: Path, **options: Any) -> Iterator[Any]:
    """The loaded page of ``file``; fails where the console has an error or the page asks for anything."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(5000)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.resolve().as_uri())
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.resolve().as_uri()]
    context.close()
