"""README and docs say what is true: python examples run, and every option stands in the
reference.
"""

from __future__ import annotations

import contextlib
import doctest
import html
import importlib
import inspect
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import architecture_map
import failing_gate
import pytest
from helpers.support import ROOT

from pytest_specdec import (
    Counts,
    SpecdecCallback,
    Text,
    decode,
    load_model,
    plugin,
    replay,
    texts_from_ids,
)
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.common.moved import MOVED
from pytest_specdec.config.option_type import Option
from pytest_specdec.config.options import LANGUAGE_CHOICES, MARKER_ARGUMENTS, REPORT_ENDINGS, TABLE
from pytest_specdec.plugin import MARKERS
from pytest_specdec.report.row import HTML_ONLY, ReportRow, SamplesRow

PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "ARCHITECTURE", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
README, GATE, INDEX = (
    (ROOT / name).read_text() for name in ("README.md", "docs/gate.md", "docs/index.md")
)
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S), 1)
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_python_examples_run(code: str) -> None:
    exec(compile(code, "example", "exec"), {})


DOCUMENTED = {
    "Counts": Counts,
    "SpecdecCallback": SpecdecCallback,
    "Text": Text,
    "decode": decode,
    "load_model": load_model,
    "read_prompts": read_prompts,
    "replay": replay,
    "texts_from_ids": texts_from_ids,
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_of_docstrings_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (example,) = doctest.DocTestFinder(recurse=False).find(DOCUMENTED[name], name)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize(
    "name", ["SpecdecCallback", "decode", "load_model", "read_prompts", "replay"]
)
def test_every_parameter_is_documented(name: str) -> None:
    text = inspect.getdoc(DOCUMENTED[name])
    (section,) = re.findall(r"Parameters\n-+\n(.*?)\n\n", text, re.S)
    documented = ", ".join(line for line in section.splitlines() if not line.startswith(" "))
    assert documented.split(", ") == list(inspect.signature(DOCUMENTED[name]).parameters)


def option_rows() -> list[list[str]]:
    """The cells of the reference's table of options, without backticks."""
    (table,) = re.findall(r"## Options\n.*?\|---.*?\n(.*?)\n\n", REFERENCE, re.S)
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    ]


def test_the_reference_has_one_row_an_option_in_the_tables_order() -> None:
    assert len(option_rows()) == len(TABLE)


@pytest.mark.parametrize(("option", "row"), list(zip(TABLE, option_rows(), strict=False)))
def test_a_row_of_the_reference_is_the_entry_of_the_table(
    option: Option[object], row: list[str]
) -> None:
    flag, marker, ini, default, meaning = row
    assert flag.partition("=")[0] == option.flag * option.command_line
    assert bool("=" in flag) == (option.command_line and option.takes_value)
    assert marker.partition("=")[0] == (option.marker or "")
    assert ini == option.ini_name * option.ini
    assert default == option.default_text
    assert meaning


def test_every_marker_argument_stands_in_the_marker_line() -> None:
    assert f"specdec({', '.join(MARKER_ARGUMENTS)}):" in MARKERS[0]
    assert list(MARKER_ARGUMENTS)[:4] == ["target", "drafter", "k", "depth"]


def test_every_fixture_stands_in_the_reference() -> None:
    fixtures = {
        name
        for name, fixture in vars(plugin).items()
        if name.startswith("specdec_") and callable(fixture)
    }
    assert fixtures >= {"specdec_run", "specdec_baseline", "specdec_texts"}
    (table,) = re.findall(r"## Fixtures\n(.*?)\n## ", REFERENCE, re.S)
    named = {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert named == fixtures


def test_every_field_of_the_json_report_stands_in_the_reference() -> None:
    (listed,) = re.findall(
        r"^`--specdec-report=FILE\.json` writes .*?(?=\n\n|\Z)", REFERENCE, re.S | re.M
    )
    fields = set(ReportRow.__annotations__) - set(HTML_ONLY)
    assert [
        name
        for name in sorted(fields | set(SamplesRow.__annotations__))
        if f"`{name}`" not in listed
    ] == []


def test_every_ending_and_language_stands_in_the_options_row() -> None:
    for name, values in (("report", REPORT_ENDINGS), ("language", LANGUAGE_CHOICES)):
        (row,) = [
            line for line in REFERENCE.splitlines() if line.startswith(f"| `--specdec-{name}=")
        ]
        assert [value for value in values if f"`{value}`" not in row] == []


def links(text: str) -> list[tuple[str, str]]:
    """Files and anchors of the links to places in this repository."""
    return re.findall(r"\]\(((?:[\w-]|\.+/)[\w/.-]*)?(?:#([\w-]+))?\)", text)


def anchors(page: Path) -> set[str]:
    """Anchors of a page: its headings as GitHub spells them, and those set by hand."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    slugs = {re.sub(r"[^\w\s-]", "", heading).lower().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_that_pages_link_to_exist(page: Path) -> None:
    linked = [
        (page.parent / name if name else page, anchor)
        for name, anchor in links(page.read_text())
        if anchor
    ]
    assert [(file.name, anchor) for file, anchor in linked if anchor not in anchors(file)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_modules_that_pages_give_are_todays(page: Path) -> None:
    rooms = "|".join(room for layer in architecture_map.layers() for room in layer)
    names = re.findall(rf"`(?:pytest_specdec\.)?((?:{rooms})(?:\.\w+)+)`", page.read_text())
    modules = [name for name in names if not name.endswith((".json", ".py", ".md"))]
    assert [name for name in modules if name in MOVED or not _resolves(name)] == []


def _resolves(name: str) -> bool:
    module, _, member = f"pytest_specdec.{name}".rpartition(".")
    with contextlib.suppress(ImportError):
        importlib.import_module(f"{module}.{member}")
        return True
    with contextlib.suppress(ImportError):
        return hasattr(importlib.import_module(module), member)
    return False


def test_make_help_lists_the_targets_that_have_a_comment() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commented = re.findall(r"^([a-z0-9-]+):.*## (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert {name for name, _ in commented} > {"suites", "test", "test-fast", "check", "engines"}
    assert dict(line.split(maxsplit=1) for line in listed.splitlines()) == dict(commented)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_index_links_to_every_page() -> None:
    folder = ROOT / "docs"
    linked = {(folder / name).resolve() for name, _ in links(INDEX) if name}
    assert "`docs/add-*.md`" in INDEX
    pages = set(folder.glob("*.md")) - set(folder.glob("add-*.md")) - {folder / "index.md"}
    assert [page.name for page in sorted(pages - linked)] == []


def test_the_picture_its_alt_text_and_the_gates_page_show_one_message() -> None:
    message = failing_gate.shown_message()
    assert html.escape(failing_gate.alt_text(message)) in README
    picture = ElementTree.parse(failing_gate.PICTURE).getroot()
    rows = ["".join(row.itertext()) for row in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert rows[-len(message) :] == message
    assert rows[0] == f"$ {' '.join(failing_gate.COMMAND)}"
    assert " ".join(failing_gate.COMMAND) in README


def test_the_gates_page_explains_every_line_of_a_failure() -> None:
    labels = dict.fromkeys(map(failing_gate.label, failing_gate.shown_message()[1:]))
    (table,) = re.findall(r"\| line \| meaning \|\n(.*?)\n\n", GATE, re.S)
    assert [name for name in labels if name and f"`{name}`" not in table] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_make_targets_that_pages_name_exist(page: Path) -> None:
    text = page.read_text()
    named = [
        ROOT / name
        for name in re.findall(r"`((?:tests|suites|docs|benchmarks)/[\w/.-]+\.\w+)`", text)
    ]
    linked = [page.parent / name for name, _ in links(text) if name]
    assert [str(path) for path in named + linked if not path.exists()] == []
    makefile = (ROOT / "Makefile").read_text()
    assert [
        name
        for name in re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", text, re.M)
        if f"\n{name}:" not in makefile
    ] == []


def test_both_glossaries_have_the_same_terms_in_the_same_order() -> None:
    english, chinese = (
        re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.M)
        for name in ("glossary.md", "glossary-zh.md")
    )
    assert len(english) > 30
    assert chinese == english
