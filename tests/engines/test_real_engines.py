"""What engines count and emit on a real model becomes a section of docs/real-model.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.support import ROOT
from marked_page import replaced
from real_engines import MARKED, read, section

pytestmark = pytest.mark.slow

TOLD = {
    "version": "1.2",
    "drafter": "exit-20",
    "temperature": "0.0",
    "rounds": "10",
    "drafted": "40",
    "accepted": "20",
    "texts": "1:aa 2:bb",
    "exact": "True",
    "ties": "0",
    "z": "+0.00",
}


def properties(values: dict[str, str]) -> str:
    return "".join(f'<property name="{name}" value="{value}"/>' for name, value in values.items())


def case(name: str, counts: dict[str, str], texts: dict[str, str], fault: str = "") -> str:
    """Both tests of a case as JUnit writes them; a fault ends the one of the counts."""
    tests = (
        ("test_counts_are_those_of_the_models", counts, fault),
        ("test_texts_are_the_targets", texts, fault if "skipped" in fault else ""),
    )
    return "".join(
        f'<testcase classname="suites.engines.smollm2.test_smollm2.{name}" name="{test}[k4]">'
        f"<properties>{properties(values)}</properties>{ended}</testcase>"
        for test, values, ended in tests
    )


def run(folder: Path, engine: str, *cases: str) -> Path:
    path = folder / f"{engine}.xml"
    path.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    return path


def test_a_case_is_a_row_with_both_verdicts(tmp_path: Path) -> None:
    sampled = TOLD | {"temperature": "1.0", "exact": "False", "z": "-0.31"}
    path = run(
        tmp_path,
        "mine",
        case("TestGreedy", TOLD, {"ties": "2"}),
        case("TestSampling", sampled, {"ties": "0", "z": "+1.10"}),
    )
    written = section(read(path))
    assert (
        "| mine 1.2 | exit-20 | 0.0 | 2 | 10 | 40 | 20 | as the models, every round | the target's, "
        "2 near-ties |\n" in written
    )
    assert "| 20 | as the models, z = -0.31 | the target's, z = +1.10 |\n" in written
    assert "No count and no text disagrees." in written


def test_a_failure_is_marked_and_told_below(tmp_path: Path) -> None:
    fault = '<failure message="AssertionError: mine counts 1.8 where 2.6: round 2; check"/>'
    written = section(read(run(tmp_path, "mine", case("TestGreedy", TOLD, {}, fault))))
    assert "| **differ**, every round | the target's |" in written
    assert "- mine 1.2, `TestGreedy`: mine counts 1.8 where 2.6: round 2.\n" in written


def test_a_run_that_ended_by_an_error_has_no_verdict(tmp_path: Path) -> None:
    fault = '<error message="failed on setup with &quot;MeasurementError: cut off; x&quot;"/>'
    written = section(read(run(tmp_path, "mine", case("TestGreedy", {}, {}, fault))))
    assert "| mine |  |  |  |  |  |  | no run |" in written
    assert "cut off" in written
    assert "disagrees" not in written


def test_what_an_engine_cannot_do_is_named_below_the_table(tmp_path: Path) -> None:
    skipped = '<skipped type="pytest.skip" message="mine decodes greedily here; use another"/>'
    written = section(read(run(tmp_path, "mine", case("TestSampling", {}, {}, skipped))))
    assert "| mine" not in written
    assert "Not run:\n\n- mine, `TestSampling`: mine decodes greedily here.\n" in written


def test_texts_are_compared_over_all_greedy_runs(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, engine, case("TestGreedy", TOLD | {"texts": texts}, {}))
        for engine, texts in (("one", "1:aa 2:bb"), ("two", "1:aa 2:cc 3:dd"))
    ]
    written = section([case for path in runs for case in read(path)])
    assert "2 engines decode 2 of the prompts greedily, in 2 runs; 1 of these texts" in written


def test_a_file_of_half_a_suite_is_refused(tmp_path: Path) -> None:
    half = case("TestGreedy", TOLD, {}).partition("</testcase>")[0] + "</testcase>"
    with pytest.raises(SystemExit, match="run its whole suite again"):
        read(run(tmp_path, "mine", half))


def test_the_page_has_the_section() -> None:
    page = (ROOT / "docs" / "real-model.md").read_text()
    assert replaced(page, MARKED, "new").count("\nnew\n") == 1
    assert MARKED.search(page)[0].count("as the models") >= 4


@pytest.mark.usefixtures("warm_processes")
def test_a_run_of_all_engine_suites_leaves_it_out(pytester: pytest.Pytester) -> None:
    suite = Path("suites") / "engines"
    (pytester.path / suite / "smollm2").mkdir(parents=True)
    for name in ("conftest.py", "smollm2/conftest.py", "smollm2/test_smollm2.py"):
        (pytester.path / suite / name).write_bytes((ROOT / suite / name).read_bytes())
    (pytester.path / suite / "test_engines.py").write_text("def test_one():\n    pass\n")
    engine = "--specdec-engine=decode"
    whole = pytester.runpytest_subprocess(engine, str(suite))
    whole.assert_outcomes(passed=1)
    named = pytester.runpytest_subprocess(engine, str(suite / "smollm2"))
    assert named.ret == pytest.ExitCode.USAGE_ERROR
    named.stderr.fnmatch_lines(["*no checkpoints; run: python suites/smollm2/build.py exit-20*"])
