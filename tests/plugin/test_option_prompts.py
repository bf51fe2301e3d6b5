"""--specdec-prompts=N: a smaller run that is still judged, prompt by prompt, against the full baseline."""

from __future__ import annotations

from pathlib import Path

from support import add_noise


def test_the_first_prompts_are_compared_with_their_own_part_of_the_baseline(project) -> None:
    project.create()
    rows = project.report("--specdec-prompts=5")
    assert {row["prompts"] for row in rows} == {5}
    assert {row["verdict"] for row in rows} == {"pass"}


def test_a_smaller_run_still_catches_a_worse_drafter(project, tmp_path: Path) -> None:
    project.create()
    noisy = add_noise(project.draft, tmp_path / "noisy", 1.0)
    rows = project.report("--specdec-prompts=8", f"--specdec-draft={noisy}", "--specdec-k=8", "--specdec-depth=0")
    assert [row["verdict"] for row in rows] == ["regressed"]


def test_one_more_prompt_is_an_error_until_the_baseline_holds_it(project) -> None:
    project.create()
    path = project.pytester.path / "suites/letters/prompts.jsonl"
    path.write_text(path.read_text() + '{"category": "late", "prompt": "zebra"}\n')
    assert {row["verdict"] for row in project.report()} == {"error"}
    project.run("--specdec-prompts=12", ok=True)
    texts = project.baselines["letters/texts/t1-n24-s0.json"]
    project.run("--specdec-update=changed")
    kept = set(texts.splitlines()) & set(project.baselines["letters/texts/t1-n24-s0.json"].splitlines())
    assert len(kept) >= 12
