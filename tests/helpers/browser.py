"""A headless Chromium for tests of pages, where there is one."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The browser; skips the test where there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs playwright: pip install '.[browser]'")
    from playwright.sync_api import Error, sync_playwright

    path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error:
            pytest.skip("needs a Chromium: playwright install chromium, or apt install chromium")
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Any, path: Path, **settings: Any) -> Iterator[Any]:
    """A page of a file. Afterwards it has asked for nothing else and said nothing wrong."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings})
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url) if is_asked(request) else None)
    try:
        page.goto(path.as_uri())
        yield page
    finally:
        context.close()
    assert wrong == []


def is_asked(request: Any) -> bool:
    """Whether a request is for anything but the page itself and what it holds."""
    return not request.url.startswith(("data:", "blob:")) and not request.is_navigation_request()
