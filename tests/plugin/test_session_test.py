"""All cases of a session that are sampled anew are judged by one test."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.support import add_noise
from plugin.conftest import Project

DECODE = ("--specdec-engine=decode", "--specdec-alpha=5%", "--specdec-new-tokens=48")


@pytest.fixture
def worse(project: Project, tmp_path: Path) -> tuple[str, ...]:
    """Options of a run whose drafter knows nothing; the project has baselines of a good one."""
    project.create(*DECODE)
    return (*DECODE, f"--specdec-draft={add_noise(project.draft, tmp_path / 'worse', 5.0)}")


@pytest.mark.usefixtures("warm_processes")
def test_a_drop_is_judged_beside_the_other_cases_and_the_same_under_xdist(
    project: Project, worse: tuple[str, ...]
) -> None:
    rows = project.report(*worse)
    failed = [row for row in rows if row["verdict"] == "regressed"]
    assert failed
    for row in failed:
        assert row["p_value"] <= 0.05
        assert "p is adjusted for the 4 cases of the session" in row["reason"]
    (project.pytester.path / "out.json").unlink()
    again = {row["id"]: row for row in project.report(*worse, "-n2")}
    for row in rows:
        assert {name: again[row["id"]][name] for name in ("verdict", "p_value", "reason")} == {
            name: row[name] for name in ("verdict", "p_value", "reason")
        }


def test_cases_that_were_measured_for_the_sake_of_others_are_not_reported(
    project: Project, worse: tuple[str, ...]
) -> None:
    rows = project.report(*worse, "-x")
    assert [row["verdict"] for row in rows][-1] == "regressed"
    assert len(rows) < 4
    assert all(row["verdict"] != "not judged" for row in rows)
