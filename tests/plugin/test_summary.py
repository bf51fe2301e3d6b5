"""What a terminal of 80 columns shows of a session: the summary line of a failed gate, and tables
that fit.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.support import add_noise
from plugin.conftest import Project


@pytest.mark.usefixtures("warm_processes")
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
        "-p",
        "no:cacheprovider",
        "--specdec-k=4",
        "--specdec-depth=0",
        f"--specdec-draft={project.draft}",
        *options,
    )
    assert result.ret == 1
    result.stdout.re_match_lines(
        [
            r"FAILED suites/\S+ - acceptance_length regressed -\d+\.\d\d %: \d\.\d{3} -> "
            r"\d\.\d{3}$"
        ]
    )


def test_tables_fit_80_columns_and_verbose_ones_show_every_column(project: Project) -> None:
    lines = project.run("--specdec-update=new").outlines
    start = next(
        number
        for number, line in enumerate(lines)
        if "speculative decoding" in line and "====" in line
    )
    summary = [line for line in lines[start + 1 :] if not line.startswith("wrote")]
    assert (
        max(
            len(line)
            for line in summary[: summary.index(next(line for line in summary if "passed" in line))]
        )
        <= 80
    )
    header = next(line for line in summary if "verdict" in line)
    assert "accepted" not in header
    verbose = project.run("-v").outlines
    assert any("accepted" in line and "verdict" in line for line in verbose)


def test_a_message_fits_80_columns_but_for_its_headline_and_command(
    project: Project, tmp_path: Path
) -> None:
    project.create()
    noisy = add_noise(project.draft, tmp_path / "noisy-draft", 0.1)
    lines = project.run(
        f"--specdec-draft={noisy}", "--specdec-k=8", "--specdec-depth=0", ok=False
    ).stdout.lines
    (begin,) = (at for at, line in enumerate(lines) if "speculative decoding gate" in line)
    (end,) = (at for at, line in enumerate(lines) if line.startswith("  intended?  "))
    assert all(len(line) <= 80 for line in lines[begin + 2 : end])
    assert lines[end].endswith(" --specdec-update=changed")
    afterwards = " ".join(" ".join(lines[end + 1 : end + 6]).split())
    assert afterwards.startswith(
        f"afterwards drafter='{project.draft}' still names the old drafter, which a run without "
    )
    assert not any(
        "afterwards" in line
        for line in project.run("--specdec-k=8", "--specdec-new-tokens=20").stdout.lines
    )


def test_fewer_prompts_are_counted_under_the_table(project: Project) -> None:
    project.create()
    note = "note: suite letters: measured 5 of 12 prompts (--specdec-prompts)"
    assert project.run("--specdec-prompts=5", ok=True).stdout.lines.count(note) == 1
    assert not any(
        "(--specdec-prompts)" in line
        for line in project.run("--specdec-prompts=12", ok=True).stdout.lines
    )
