"""`--specdec-costs`: a speed-up is gated under the baseline's own costs, and costs measured again
are distinguished.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.eagle3 import write_head
from plugin.conftest import Project, facts

TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24)
def test_speedup(specdec_run, specdec_baseline):
    assert specdec_run.speedup == specdec_baseline.speedup
"""
COSTS = {
    "schema": 1,
    "machine": "gpu",
    "target_ms": 10.0,
    "verify": {"4": 12.0},
    "draft": {"0": {"4": 4.0}},
    "samples": 40,
    "error": 0.001,
}


@pytest.fixture
def priced(project: Project) -> Project:
    """A project with one speed-up gate whose baseline holds its costs."""
    project.write_test(TEST)
    write_costs(project)
    project.create("--specdec-costs=costs.json")
    return project


def write_costs(project: Project, name: str = "costs.json", **changes: Any) -> None:
    (project.pytester.path / name).write_text(json.dumps({**COSTS, **changes}))


def stored(project: Project) -> dict[str, Any]:
    (path,) = (project.pytester.path / "baselines" / "letters").glob("*.json")
    return json.loads(path.read_text())


def test_a_baseline_holds_the_costs_of_its_case(priced: Project) -> None:
    assert stored(priced)["costs"] == {
        "target_ms": 10.0,
        "verify_ms": 12.0,
        "draft_ms": 4.0,
        "relative_error": 0.001,
        "samples": 40,
        "machine": "gpu",
        "software": "",
    }


def test_without_a_profile_the_baselines_own_costs_serve(priced: Project) -> None:
    priced.run(ok=True)
    (row,) = priced.report()
    assert row["speedup"] == pytest.approx(row["acceptance_length"] * 10 / 16)
    assert row["baseline"]["speedup"] == pytest.approx(row["speedup"])


def test_dearer_rounds_fail_and_are_distinguished_from_acceptance(priced: Project) -> None:
    write_costs(priced, "slow.json", verify={"4": 16.0}, software="torch 99")
    result = priced.run("--specdec-costs=slow.json", ok=False)
    pytest.LineMatcher(facts(result.stdout.lines)).fnmatch_lines(
        [
            "*speedup regressed: * (-20.00 %;*fails from -10.00 %",
            "*acceptance +0.00 %*",
            "*costs      -20.00 % (target's step 10 -> 10 ms, verification 12 -> 16 ms, drafting 4 "
            "-> 4 ms;*torch 99)*",
        ]
    )
    priced.run("--specdec-costs=slow.json", "--specdec-costs-margin=25%", ok=True)


def test_times_of_another_machine_are_inconclusive(priced: Project) -> None:
    write_costs(priced, "other.json", machine="laptop")
    result = priced.run("--specdec-costs=other.json", ok=False)
    result.stdout.fnmatch_lines(
        ["*times are compared on one machine only*--specdec-update=changed*"]
    )
    priced.run("--specdec-costs=other.json", "--specdec-inconclusive=warn", ok=True)


def test_an_update_keeps_new_costs_and_a_run_without_any_keeps_the_old(priced: Project) -> None:
    write_costs(priced, "slow.json", verify={"4": 16.0})
    priced.run("--specdec-costs=slow.json", "--specdec-update=changed", ok=True)
    assert stored(priced)["costs"]["verify_ms"] == 16.0
    priced.run("--specdec-update=all", ok=True)
    assert stored(priced)["costs"]["verify_ms"] == 16.0


def test_a_profile_that_does_not_cover_the_case_is_an_error_and_changes_nothing(
    priced: Project,
) -> None:
    write_costs(priced, "short.json", verify={"2": 1.0})
    before = stored(priced)
    result = priced.run("--specdec-costs=short.json", "--specdec-update=changed", ok=False)
    result.stdout.fnmatch_lines(
        ["*the cost profile does not cover k=4, depth=0; measure one that does*"]
    )
    assert stored(priced) == before


def test_costs_are_measured_on_the_loaded_pair(project: Project) -> None:
    project.write_test(TEST)
    project.create("--specdec-costs=measure")
    costs = stored(project)["costs"]
    assert costs["samples"] >= 40
    assert "batch 1" in costs["machine"]
    assert costs["software"].startswith("torch ")
    (row,) = project.report(
        "--specdec-costs=measure", "--specdec-inconclusive=warn", "--specdec-costs-margin=90%"
    )
    assert row["verdict"] in ("pass", "inconclusive")
    assert row["verify_ms"] > 0


@pytest.mark.usefixtures("warm_processes")
def test_workers_measure_no_times(project: Project) -> None:
    pytest.importorskip("xdist", reason="install pytest-xdist to run with workers")
    project.write_test(TEST)
    result = project.pytester.runpytest_subprocess(
        "-n", "2", "--specdec-costs=measure", "-p", "no:cacheprovider"
    )
    assert result.ret == 4
    assert "run without -n" in result.stdout.str() + result.stderr.str()


@pytest.mark.usefixtures("warm_processes")
def test_rounds_are_timed_with_pytest_benchmark(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(
        "PYTEST_XDIST_WORKER", raising=False
    )  # pytest-benchmark times nothing beside other workers
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24)
def test_verify(specdec_rounds, benchmark):
    rounds = specdec_rounds(context=8)
    benchmark.extra_info["specdec"] = rounds.describe("verify")
    benchmark.pedantic(rounds.verify, setup=rounds.ready_to_verify, rounds=10)

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24)
def test_draft(specdec_rounds, benchmark):
    rounds = specdec_rounds(context=8)
    benchmark.extra_info["specdec"] = rounds.describe("draft")
    benchmark.pedantic(rounds.draft, setup=rounds.ready_to_draft, rounds=10)

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24)
def test_target(specdec_rounds, benchmark):
    rounds = specdec_rounds(context=8, plain=True)
    benchmark.extra_info["specdec"] = rounds.describe("verify")
    benchmark.pedantic(rounds.verify, setup=rounds.ready_to_verify, rounds=10)
""")
    result = project.pytester.runpytest_subprocess(
        "--benchmark-json=rounds.json", "-p", "no:cacheprovider"
    )
    assert result.ret == 0, result.stdout.str()
    from pytest_specdec.speedup.benchmark_file import profile_from_benchmark

    profile = profile_from_benchmark(project.pytester.path / "rounds.json")
    assert set(profile.verify) == set(profile.draft[0]) == {4}
    assert profile.target_ms is not None
    assert profile.target_ms > 0
    assert profile.samples == 10


def test_drafters_of_one_target_are_timed_each_for_itself(project: Project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter="mtp", k=2, depth=1, new_tokens=24)
def test_own_heads(specdec_run, specdec_costs):
    assert set(specdec_costs.own_heads) == {{1}} and not specdec_costs.lookup

@pytest.mark.specdec(target={target!r}, drafter="prompt-lookup", k=2, new_tokens=24)
def test_lookup(specdec_run, specdec_costs):
    assert set(specdec_costs.lookup) == {{2}} and not specdec_costs.own_heads
    assert specdec_run.speedup > 0
""")
    project.run("--specdec-costs=measure", ok=True)


@pytest.fixture
def with_head(project: Project) -> Project:
    """A project whose speed-up gate is one of an EAGLE-3 head."""
    head = write_head(project.pytester.path / "heads/head", project.target, ids=(0, 1))
    project.write_test(TEST.replace("{draft!r}", repr(str(head))))
    return project


def test_a_head_is_not_given_the_times_of_the_draft_model(with_head: Project) -> None:
    write_costs(with_head)
    (row,) = with_head.report("--specdec-costs=costs.json")
    assert row["acceptance_length"] > 1
    assert row["speedup"] is None
    write_costs(with_head, "own.json", drafters={"eagle3": {"0": {"4": 8.0}}})
    (row,) = with_head.report("--specdec-costs=own.json")
    assert row["speedup"] == pytest.approx(row["acceptance_length"] * 10 / 20)


def test_the_costs_of_a_head_are_measured_in_the_session(with_head: Project) -> None:
    (row,) = with_head.report("--specdec-costs=measure")
    assert row["draft_ms"] > 0
    assert row["speedup"] == pytest.approx(
        row["acceptance_length"] * row["target_ms"] / (row["verify_ms"] + row["draft_ms"])
    )
