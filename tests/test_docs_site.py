"""The documentation site: it builds without a warning, leads every link to a page, and says what
every stored or reported field means.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import fields_page
import pytest
from helpers.support import ROOT

import pytest_specdec
from pytest_specdec.report.schema import report_schema

SPEC = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
assert SPEC is not None
assert SPEC.loader is not None
site_pages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(site_pages)


@pytest.mark.parametrize(
    ("page", "link", "in_site"),
    [
        ("docs/how-to.md", "](../README.md#install)", "](readme.md#install)"),
        ("docs/decisions/README.md", "](../gate.md)", "](../gate.md)"),
        ("README.md", "](docs/how-to.md#run-it-in-ci)", "](how-to.md#run-it-in-ci)"),
        ("README.md", "](docs/decisions/)", "](decisions/README.md)"),
        ("README.md", 'src="docs/failing-gate.svg"', 'src="failing-gate.svg"'),
        ("README.md", "](https://example.org/README.md)", "](https://example.org/README.md)"),
        ("CONTRIBUTING.md", "](ARCHITECTURE.md)", "](architecture.md)"),
    ],
)
def test_links_lead_to_the_same_page_in_the_site(page: str, link: str, in_site: str) -> None:
    assert site_pages.moved_links(link, page) == in_site


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    named = set(re.findall(r"([\w/-]+\.md)$", menu, re.M))
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    assert pages ^ (named - set(site_pages.PAGES.values())) == set(), "nav: of mkdocs.yml"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs mkdocs-material: pip install '.[docs]'")
    pytest.importorskip("mkdocstrings_handlers.python", reason="pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    api = (tmp_path / "site" / "api.html").read_text()
    assert [
        name for name in pytest_specdec.__all__ if f'id="pytest_specdec.{name}"' not in api
    ] == []
    index = json.loads((tmp_path / "site" / "search" / "search_index.json").read_text())
    assert {"tutorial", "first-gate-in-five-commands"} & {
        entry["location"].rpartition("#")[2] for entry in index["docs"]
    }


def test_the_page_of_fields_is_todays() -> None:
    written = (ROOT / "docs" / "fields.md").read_text()
    assert written == fields_page.page(), "python benchmarks/fields_page.py > docs/fields.md"


def test_every_field_has_a_meaning() -> None:
    fields = {
        name: list(fields_page.stored_fields(of)) for name, (of, _) in fields_page.STORED.items()
    } | fields_page.report_fields()
    assert fields.keys() > report_schema()["$defs"].keys()
    assert [
        f"{name}.{field}" for name, rows in fields.items() for field, _, words in rows if not words
    ] == []


def test_every_type_that_a_stored_file_refers_to_is_on_the_page() -> None:
    page = fields_page.page()
    referred = {word.partition(")")[0] for word in page.split("](#")[1:]}
    headings = {line[4:].lower() for line in page.splitlines() if line.startswith("### ")}
    assert referred <= headings
