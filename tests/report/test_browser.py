"""The HTML report in a headless Chromium: size, time, width, accessibility, hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import chromium, opened
from helpers.records import row
from helpers.report_rows import FACTS, needs_plots, session_rows
from helpers.tiers import exhaustive

from pytest_specdec.report import render

pytestmark = [pytest.mark.slow, needs_plots]
MOST_BYTES, MOST_MS = 3_000_000, 2_000
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`${alert(3)}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of 64 prompts and 16 cases, four of which regressed."""
    path = tmp_path_factory.mktemp("report") / "out.html"
    path.write_text(render(".html", session_rows(64), "en", FACTS))
    return path


def test_64_prompts_and_16_cases_fit_3_mb_and_open_in_2_seconds(browser: Any, report: Path) -> None:
    assert report.stat().st_size <= MOST_BYTES
    times = []
    for _ in range(3):
        with opened(browser, report) as page:
            entry = "performance.getEntriesByType('navigation')[0]"
            times.append(page.evaluate(f"{entry}.loadEventEnd"))
            assert page.locator("svg.chart, svg").count() > 30
    assert min(times) <= MOST_MS


@pytest.mark.parametrize("width", [360, 768, 2000])
def test_the_page_is_never_wider_than_the_window(browser: Any, report: Path, width: int) -> None:
    with opened(browser, report, viewport={"width": width, "height": 800}) as page:
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def short_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of 8 prompts and four cases, one of which regressed: all parts of a page."""
    path = tmp_path_factory.mktemp("short") / "out.html"
    path.write_text(render(".html", session_rows(8, (4,)), "en", FACTS))
    return path


@pytest.mark.parametrize("size", ["short_report", exhaustive("report")])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(
    browser: Any, request: pytest.FixtureRequest, scheme: str, size: str
) -> None:
    report = request.getfixturevalue(size)
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install '.[browser]'"
    )
    with opened(browser, report, color_scheme=scheme, bypass_csp=True) as page:
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        found = axe.Axe().run(page).response["violations"]
    serious = [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")]
    assert serious == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_colours_of_the_system(
    browser: Any, report: Path, scheme: str
) -> None:
    with opened(browser, report, color_scheme=scheme) as page:
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, paper.strip("rgb()").split(",")))
    assert (brightness > 600, brightness < 150) == (scheme == "light", scheme == "dark")


def test_cases_open_by_keyboard_and_by_link(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        summary = page.locator("details summary").first
        summary.focus()
        page.keyboard.press("Enter")
        assert page.locator("details").first.get_attribute("open") is not None
        page.locator("#summary td a").first.click()
        assert "#case-" in page.url


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_names_stay_text(browser: Any, tmp_path: Path, language: str) -> None:
    spread = {"mean": 0.5, "deviation": 0.1, "least": 0.1, "most": 0.9}
    worst = {"prompt": HOSTILE, "text": HOSTILE, "category": HOSTILE, "accepted": 0.5}
    hostile = row(
        id=f"{HOSTILE}/{HOSTILE}-k4-depth0-t1",
        suite=HOSTILE,
        target=HOSTILE,
        drafter=HOSTILE,
        verdict="regressed",
        reason=HOSTILE,
        diagnosis=[HOSTILE],
        notes=[HOSTILE],
        token_texts=[
            {
                "prompt": HOSTILE,
                "category": HOSTILE,
                "length": 2.0,
                "before": None,
                "tokens": [
                    {
                        "text": HOSTILE,
                        "target": 0.5,
                        "draft": 0.1,
                        "accept": 0.2,
                        "before": None,
                        "instead": HOSTILE,
                        "instead_draft": 0.7,
                    }
                ],
                "more": 0,
            }
        ],
        categories={HOSTILE: 2.0, "code": 3.0},
        environment={HOSTILE: HOSTILE},
        samples={
            "count": 1,
            **dict.fromkeys(("rate", "accepted", "drafted"), spread),
            "survival": [0.5],
            "worst": [worst],
        },
    )
    path = tmp_path / "out.html"
    path.write_text(render(".html", [hostile], language, {**FACTS, "command": HOSTILE}))
    with opened(browser, path) as page:
        assert page.locator("script, img").count() == 0
        assert page.locator("body").inner_text().count("<script>alert(1)</script>") >= 5
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.querySelectorAll('[onerror], [onload]').length") == 0
