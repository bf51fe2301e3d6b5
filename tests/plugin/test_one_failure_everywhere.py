"""One failing run: the same diagnosis in terminal, .html, .md, .json and JUnit."""

from __future__ import annotations

import html
import json
import re
from xml.etree import ElementTree

import pytest
from plugin.test_specdec_gate import Harness

ENDINGS = ("html", "md", "json", "txt")


@pytest.fixture
def failed(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> tuple[Harness, str]:
    """A run with every report, and what its terminal showed."""
    monkeypatch.setenv("CI", "1")  # pytest then shows summary lines whole
    harness = Harness(pytester, monkeypatch)
    harness.run("--specdec-update=new", status=0)
    reports = (f"--specdec-report=out.{ending}" for ending in ENDINGS)
    result = harness.run(*request.param, *reports, "--junitxml=out.xml", share=0.75, status=1)
    return harness, result.stdout.str()


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("failed", [("-n0",), ("-n2",)], indirect=True, ids=["alone", "workers"])
def test_the_diagnosis_is_the_same_in_every_report(failed: tuple[Harness, str]) -> None:
    harness, terminal = failed
    folder = harness.pytester.path
    document = json.loads((folder / "out.json").read_text())
    (row,) = document["cases"]
    diagnosis = "\n".join(row["diagnosis"])
    assert diagnosis.startswith("acceptance_length regressed: ")
    assert "  intended?  pytest " in diagnosis
    assert diagnosis in terminal
    for ending in ("html", "md"):
        assert diagnosis in html.unescape((folder / f"out.{ending}").read_text())
    (case,) = ElementTree.parse(folder / "out.xml").iter("testcase")
    assert diagnosis in (case.findtext("system-out") or "")
    properties = {entry.attrib["name"]: entry.attrib["value"] for entry in case.iter("property")}
    assert properties["specdec_verdict"] == "regressed"
    assert float(properties["specdec_drop"]) == row["drop"]
    assert float(properties["specdec_acceptance_length"]) == row["acceptance_length"]
    assert [node.tag for node in case] == ["properties", "failure", "system-out"]


@pytest.mark.parametrize("failed", [("-n0",)], indirect=True)
def test_the_session_stands_in_the_reports(failed: tuple[Harness, str]) -> None:
    folder = failed[0].pytester.path
    session = json.loads((folder / "out.json").read_text())["session"]
    assert session["command"].startswith("pytest -p no:cacheprovider -n0 --specdec-report=out.html")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", session["date"])
    assert session["commit"] == ""
    for ending in ("html", "md"):
        assert session["command"] in html.unescape((folder / f"out.{ending}").read_text())


@pytest.mark.parametrize("failed", [("-n0",)], indirect=True)
def test_the_short_summary_has_metric_and_change_and_lines_fit(
    failed: tuple[Harness, str],
) -> None:
    terminal = failed[1]
    (line,) = re.findall(r"^FAILED .*", terminal, re.M)
    assert re.search(r" - acceptance_length regressed -\d+\.\d\d %: \d\.\d{3} -> \d\.\d{3}$", line)
    shown = terminal[
        terminal.index("= speculative decoding =") : terminal.index("= short test summary")
    ]
    assert max(map(len, shown.splitlines()[1:-1])) <= 80
