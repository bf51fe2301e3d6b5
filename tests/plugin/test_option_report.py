"""--specdec-report=FILE: the promised schema, for every outcome, in one process and in two."""

from __future__ import annotations

import json

import pytest
from plugin.conftest import PROMPTS

WORDS = {word for _, word in PROMPTS}
FIELDS = {
    "id",
    "suite",
    "target",
    "drafter",
    "k",
    "depth",
    "rule",
    "temperature",
    "engine",
    "judged",
    "definition",
    "candidate",
    "samples",
    "prompts",
    "rounds",
    "acceptance_rate",
    "expected_accepted",
    "acceptance_length",
    "survival",
    "conditional",
    "survival_error",
    "conditional_error",
    "efficiency",
    "target_ms",
    "verify_ms",
    "draft_ms",
    "speedup",
    "tokens_per_second",
    "acceptance_length_error",
    "speedup_interval",
    "categories",
    "category_errors",
    "environment",
    "baseline",
    "drop",
    "smallest_detectable_drop",
    "p_value",
    "evidence",
    "evidence_limit",
    "nights",
    "axes",
    "verdict",
    "regime",
    "estimate",
    "erosion",
    "batch",
    "chain",
    "tree",
    "reason",
    "diagnosis",
    "checks",
    "changed",
    "notes",
    "request_length",
    "request_speedup",
    "request_speedup_interval",
}


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_every_case_stands_in_the_report_with_every_field(project, workers: str) -> None:
    project.create()
    rows = project.report(workers)
    assert [row["id"] for row in rows] == [
        f"letters/tiny-draft-k{k}-depth{depth}-t1" for k in (4, 8) for depth in (0, 2)
    ]
    for row in rows:
        assert set(row) == FIELDS
        assert row["verdict"] == "pass"
        assert row["drop"] == pytest.approx(0, abs=1e-6)
        assert row["baseline"]["acceptance_length"] == pytest.approx(
            row["acceptance_length"], rel=1e-6
        )
        assert len(row["survival"]) == len(row["conditional"]) == row["k"]
        assert row["acceptance_rate"] * row["k"] == pytest.approx(row["expected_accepted"])
        assert row["acceptance_length"] == pytest.approx(1 + sum(row["survival"]))
        assert row["efficiency"] == pytest.approx(row["acceptance_rate"])
        samples = row["samples"]
        assert (samples["count"], row["judged"]) == (12, "")
        assert samples["rate"]["mean"] * row["k"] == pytest.approx(samples["accepted"]["mean"])
        assert {sample["text"].strip("'") for sample in samples["worst"]} < WORDS


def test_a_missing_baseline_is_an_error_in_the_report(project) -> None:
    rows = project.report()
    assert {row["verdict"] for row in rows} == {"error"}
    assert all("no baseline" in row["reason"] for row in rows)


def test_a_run_that_nothing_judges_says_so(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=2, new_tokens=24)
def test_only_looks(specdec_run): pass
""")
    assert [row["verdict"] for row in project.report()] == ["not judged"]


def test_of_two_tests_of_one_case_the_graver_verdict_counts(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=2, new_tokens=24)
class TestCase:
    def test_acceptance(self, specdec_run, specdec_baseline):
        assert specdec_run == specdec_baseline

    def test_speedup(self, specdec_run, specdec_baseline):
        assert specdec_run.speedup == specdec_baseline.speedup
""")
    project.run("--specdec-update=new")
    assert [row["verdict"] for row in project.report()] == ["error"]


def test_costs_give_times_and_a_speedup(project) -> None:
    costs = {
        "schema": 1,
        "target_ms": 10.0,
        "verify": {"4": 12.0, "8": 14.0},
        "draft": {"0": {"4": 4.0, "8": 8.0}},
    }
    (project.pytester.path / "costs.json").write_text(json.dumps(costs))
    project.create()
    rows = {(row["k"], row["depth"]): row for row in project.report("--specdec-costs=costs.json")}
    row = rows[4, 0]
    assert (row["target_ms"], row["verify_ms"], row["draft_ms"]) == (10.0, 12.0, 4.0)
    assert row["speedup"] == pytest.approx(row["acceptance_length"] * 10 / 16)
    assert rows[4, 2]["speedup"] is None


def test_no_measured_case_writes_no_report_and_says_so(project) -> None:
    result = project.run("--specdec-report=out.json", "-k", "nothing")
    assert not (project.pytester.path / "out.json").exists()
    result.stdout.fnmatch_lines(["no case was measured, so no report was written*"])


def test_a_report_that_cannot_be_written_costs_no_baseline(project) -> None:
    (project.pytester.path / "file").write_text("in the way")
    result = project.run("--specdec-update=new", "--specdec-report=file/out.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["ERROR: *file* cannot be written*; check the folder"])
    assert len(project.baselines) == 5


def test_a_case_that_cannot_be_measured_is_an_error_in_the_report(project) -> None:
    rows = project.report("--specdec-k=40", "--specdec-depth=0")
    assert [row["verdict"] for row in rows] == ["error"]
    assert "no text is long enough for a round of k=40" in rows[0]["reason"]
    assert rows[0]["acceptance_length"] is None


def test_tests_that_only_take_models_measure_nothing(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=2, new_tokens=24)
def test_model(specdec_target): pass
""")
    result = project.run("--specdec-report=out.json", ok=True)
    result.stdout.fnmatch_lines(["no case was measured, so no report was written*"])


def test_one_run_writes_every_format(project) -> None:
    project.create("--specdec-k=4")
    project.run(
        "--specdec-k=4",
        *(f"--specdec-report=out{suffix}" for suffix in (".json", ".html", ".md", ".txt")),
        ok=True,
    )
    texts = {path.suffix: path.read_text() for path in project.pytester.path.glob("out.*")}
    assert texts.keys() == {".json", ".html", ".md", ".txt"}
    assert all("tiny-draft-t1" in texts[suffix] for suffix in (".html", ".md", ".txt"))


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_the_acceptance_report_says_what_the_json_report_holds(project, workers: str) -> None:
    project.create()
    project.run(workers, "--specdec-report=out.txt", "--specdec-report=out.json", ok=True)
    text, rows = (
        (project.pytester.path / "out.txt").read_text(),
        json.loads((project.pytester.path / "out.json").read_text()),
    )
    assert "Samples: 48" in text
    assert "k: [4, 8]" in text
    assert "MTP layers: [0, 2]" in text
    for row in rows["cases"]:
        part = (
            text.split(f"MTP layers = {row['depth']}\n", 1)[1]
            .split(f"\nk = {row['k']}:\n", 1)[1]
            .split("[Gate]", 1)[0]
        )
        rate, accepted = row["samples"]["rate"], row["samples"]["accepted"]
        for line in (
            f"Mean: {rate['mean'] * 100:.2f}%",
            f"Standard deviation: {rate['deviation'] * 100:.2f}%",
            f"Minimum: {rate['least'] * 100:.2f}%",
            f"Maximum: {rate['most'] * 100:.2f}%",
            f"Mean: {accepted['mean']:.2f}",
            f"Minimum: {accepted['least']:.2f}",
            f"Maximum: {accepted['most']:.2f}",
            "no times are known",
            f"acceptance length {row['acceptance_length']:.3f}",
        ):
            assert line in part
    assert "Assessment: none, no times are known" in text
