"""A real browser that looks at a page."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

Look = Callable[[Path], Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; skips the test where none is installed."""
    from playwright.sync_api import sync_playwright

    executable = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


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
