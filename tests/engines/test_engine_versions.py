"""What the engine suite says of old and new releases becomes a section of docs/engines.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_versions import HEADING, current, ordered, replaced, section
from helpers.support import ROOT

RUN = """<testsuites><testsuite>
<testcase classname="suites.engines.test_engines.TestGreedy" name="test_rounds[k3-depth0]">{fault}</testcase>
<testcase classname="suites.engines.test_engines" name="test_prompt_lookup[k3-depth0]"><skipped message="no"/></testcase>
<testcase classname="suites.engines.eos.test_eos.TestTopK" name="test_counts[k3-depth0]">
<skipped type="pytest.xfail" message="filters twice; see docs"/></testcase>
<testcase classname="suites.engines.test_engines.TestSampling" name="test_counts[k3-depth0]"/>
</testsuite></testsuites>"""
FAULT = '<failure message="AssertionError: mine counts 1.8 where its models imply 2.6: round 2 | 3; check that it&#10;assert False"/>'


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    for version, fault in (("5.24.0", ""), ("5.9.1", FAULT)):
        (tmp_path / f"transformers-{version}.xml").write_text(RUN.format(fault=fault))
    return sorted(tmp_path.iterdir())


def test_each_release_has_a_row_and_its_findings(runs: list[Path]) -> None:
    written = section(ordered(runs))
    assert written.startswith(HEADING + "\n")
    assert "| 5.9.1 | 1 | 1 | 1 | 1 |\n| 5.24.0 | 2 | 0 | 1 | 1 |\n" in written
    assert (
        "* 5.9.1, `TestGreedy::test_rounds[k3-depth0]`: mine counts 1.8 where its models imply "
        "2.6: round 2 / 3.\n" in written
    )
    assert "* 5.24.0, `eos/TestTopK::test_counts[k3-depth0]`, known: filters twice.\n" in written


def test_a_release_without_findings_is_said_to_have_none(tmp_path: Path) -> None:
    run = tmp_path / "transformers-5.0.xml"
    run.write_text(
        '<testsuites><testsuite><testcase classname="a" name="b"/></testsuite></testsuites>'
    )
    assert "Nothing fails" in section(ordered([run]))


def test_the_section_takes_its_place_in_the_page(runs: list[Path]) -> None:
    page = f"# Page\n\n## One\n\na\n\n{HEADING}\n\nold\n\n## Three\n\nb\n"
    written = section(ordered(runs))
    new = replaced(page, written)
    assert new == f"# Page\n\n## One\n\na\n\n{written}\n## Three\n\nb\n"
    assert current(new) == written
    with pytest.raises(SystemExit, match="has no section"):
        current("# Page\n")


def test_the_page_has_the_section() -> None:
    assert current((ROOT / "docs" / "engines.md").read_text()).count("| 5.") >= 3
