"""What a terminal of 80 columns shows of a session: the summary line of a failed gate, and tables that fit."""

from __future__ import annotations

import pytest
from plugin.conftest import Project
from support import add_noise


@pytest.mark.parametrize("options", [[], ["-n", "1"]], ids=["here", "xdist"])
def test_the_summary_line_of_a_failed_gate_carries_metric_and_change(
    project: Project, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "-n" in options:
        pytest.importorskip("xdist", reason="install pytest-xdist to run with workers")
    monkeypatch.setenv("CI", "1")  # pytest then shows summary lines whole
    project.create("--specdec-k=4", "--specdec-depth=0")
    project.draft = add_noise(project.draft, project.pytester.path / "worse" / "tiny-draft", 0.3)
    project.write_test()
    result = project.pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--specdec-k=4", "--specdec-depth=0", f"--specdec-draft={project.draft}", *options
    )
    assert result.ret == 1
    result.stdout.re_match_lines([r"FAILED suites/\S+ - acceptance_length regressed: \d\.\d{3} -> \d\.\d{3} \(-\d+\.\d\d %\)$"])


def test_tables_fit_80_columns_and_verbose_ones_show_every_column(project: Project) -> None:
    lines = project.run("--specdec-update=new").outlines
    start = next(number for number, line in enumerate(lines) if "speculative decoding" in line and "====" in line)
    own = [line for line in lines[start + 1 :] if not line.startswith("wrote")]
    assert max(len(line) for line in own[: own.index(next(line for line in own if "passed" in line))]) <= 80
    header = next(line for line in own if "verdict" in line)
    assert "accepted" not in header
    verbose = project.run("-v").outlines
    assert any("accepted" in line and "verdict" in line for line in verbose)
