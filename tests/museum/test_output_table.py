"""The museum of wrong output is whole: each of its tests exists, and the page is what is built."""

from __future__ import annotations

import re
from typing import ClassVar

import pytest
from helpers.support import ROOT
from museum.output_table import EXHIBITS, NOT_SHOWN, every, page

REPORT = re.compile(r"([\w.-]+/[\w.-]+)?#\d+|arXiv:\d{4}\.\d{5}|vLLM-gfx908, patch P82")


def test_each_exhibit_and_each_twin_is_a_test_that_pytest_collects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Collected:
        ids: ClassVar[set[str]] = set()

        def pytest_collection_finish(self, session: pytest.Session) -> None:
            self.ids.update(item.nodeid for item in session.items)

    named = {test for exhibit in every() for test in (exhibit.test, exhibit.twin)}
    monkeypatch.chdir(ROOT)
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    pytest.main([*options, *sorted({one.partition("::")[0] for one in named})], [Collected()])
    # Tests whose parameters have no name in the list are any of theirs.
    plain = {one.partition("[")[0] for one in Collected.ids}
    assert {one for one in named if one not in Collected.ids | plain} == set()


def test_every_room_has_a_public_defect_and_every_defect_a_twin() -> None:
    assert sum(bool(exhibit.reports) for exhibit in every()) >= 15
    for title, room in EXHIBITS.items():
        assert any(exhibit.reports for exhibit in room), title
    for exhibit in every():
        assert exhibit.test != exhibit.twin
    rows = [(exhibit.defect, exhibit.test) for exhibit in every()]
    assert len(set(rows)) == len(rows)


def test_a_report_is_shown_or_it_is_said_why_not() -> None:
    shown = {name for exhibit in every() for name in _reports(exhibit.reports)}
    left_out = {name for names in NOT_SHOWN for name in _reports(names)}
    assert not shown & left_out
    assert len(shown) >= 25


def test_the_page_is_what_is_built() -> None:
    """`python tests/museum/output_table.py > docs/museum-output.md`."""
    assert (ROOT / "docs" / "museum-output.md").read_text() == page()


def _reports(names: str) -> list[str]:
    """Each with its repository, which a number alone has of the one before."""
    found, repository = [], ""
    for name in filter(None, re.split(r", (?!patch)", names)):
        assert REPORT.fullmatch(name), name
        repository = name.rpartition("#")[0] or repository
        found.append(f"{repository}#{name.rpartition('#')[2]}" if "#" in name else name)
    return found
