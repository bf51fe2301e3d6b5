"""The life of a gate: created, passed, failed by a worse drafter, explained, improved."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.stored_files import rewrite
from helpers.support import add_noise, letter_tokenizer, llama


def test_a_missing_baseline_fails_with_the_command_that_creates_it(project) -> None:
    result = project.run("--specdec-k=4", ok=False)
    result.stdout.fnmatch_lines(
        ["*no baseline at *draft-k4-depth0-t1.json; create it with --specdec-update=new*"]
    )
    result.stdout.fnmatch_lines(["*create     pytest *--specdec-k=4* --specdec-update=new"])
    assert project.baselines == {}


def test_unchanged_code_and_models_pass_and_write_nothing(project) -> None:
    project.create()
    before = project.baselines
    for _ in range(3):
        project.run(ok=True)
    assert project.baselines == before


FACTS = (
    "acceptance_length regressed: ",
    " -> ",
    "95 % interval",
    "drafter weights",
    "conditional acceptance fell at",
    "categories ",
    "lost most",
    "--specdec-update=changed",
)


@pytest.fixture
def noisy(project, tmp_path: Path) -> Path:
    project.create()
    return add_noise(project.draft, tmp_path / "noisy-draft", 0.1)


def test_a_worse_drafter_fails_and_the_message_says_what_where_and_how(
    project, noisy: Path
) -> None:
    result = project.run(f"--specdec-draft={noisy}", "--specdec-k=8", "--specdec-depth=2", ok=False)
    text = result.stdout.str()
    assert [fact for fact in FACTS if fact not in text] == []
    assert "target weights" not in text
    result.assert_outcomes(failed=1)


def test_a_better_drafter_passes_as_improved(project, noisy: Path) -> None:
    project.run(f"--specdec-draft={noisy}", "--specdec-update=all", ok=True)
    result = project.run("--specdec-k=8", "--specdec-depth=2", ok=True)
    result.stdout.fnmatch_lines(["*improved"])


def test_a_changed_target_is_named_and_judged_in_the_same_contexts(project, tmp_path: Path) -> None:
    project.create()
    other = add_noise(project.target, tmp_path / "other-target", 0.001)
    (row, *_) = project.report(
        f"--specdec-target={other}", "--specdec-k=4", "--specdec-depth=0", "--specdec-margin=0.3"
    )
    assert any("target weights" in change for change in row["changed"])
    assert row["regime"] == "target changed"
    assert row["estimate"]["name"] == "in the same contexts"
    assert row["estimate"]["effective_share"] > 0.5
    assert abs(row["estimate"]["drop"]) < 0.05
    assert row["verdict"] == "pass"


def test_inconclusive_can_be_set_to_warn(project) -> None:
    """Other texts of the same target: nothing changed, and 12 prompts are too few to show it."""
    project.create("--specdec-k=4", "--specdec-depth=0")
    options = ("--specdec-seed=5", "--specdec-k=4", "--specdec-depth=0", "--specdec-margin=0.001")
    project.run(*options, ok=False).stdout.fnmatch_lines(
        ["*acceptance_length inconclusive: *", "*prompts would settle it"]
    )
    project.run(*options, "--specdec-inconclusive=warn", ok=True).stdout.fnmatch_lines(
        ["*inconclusive"]
    )


def test_a_changed_prompt_set_is_an_error(project) -> None:
    project.create()
    project.write_prompts([("vowels", "another"), ("consonants", "prompt")])
    project.run("--specdec-k=4", ok=False).stdout.fnmatch_lines(
        ["*the prompt set changed: 2 new, 12 gone*"]
    )


def test_a_changed_tokenizer_is_an_error(project, tmp_path: Path) -> None:
    project.create()
    target, draft = (llama(tmp_path / name, seed=seed) for name, seed in (("t", 1), ("d", 2)))
    for folder in (target, draft):
        letter_tokenizer(first="zyx").save_pretrained(folder)
    result = project.run(
        f"--specdec-target={target}", f"--specdec-draft={draft}", "--specdec-k=4", ok=False
    )
    result.stdout.fnmatch_lines(["*error: tokenizer was *"])


def test_a_changed_rule_is_an_error(project) -> None:
    project.create()
    path = next((project.pytester.path / "baselines/letters").glob("*-k4-depth0-t1.json"))
    rewrite(path, lambda data: data["conditions"].update(rule="block"))
    project.run("--specdec-k=4", "--specdec-depth=0", ok=False).stdout.fnmatch_lines(
        ["*rule was 'block' in the baseline*"]
    )


def test_metrics_compare_by_name_and_are_floats_otherwise(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24)
def test_metrics(specdec_run, specdec_baseline):
    assert specdec_run.acceptance_rate == specdec_baseline.acceptance_rate
    assert specdec_run.acceptance_length == specdec_baseline.acceptance_length
    assert 1.0 <= specdec_run.acceptance_length <= 5.0
    assert specdec_run.acceptance_length == pytest.approx(1 + 4 * specdec_run.acceptance_rate)
""")
    project.create()
    project.run(ok=True)


def test_a_speedup_without_costs_is_an_error_not_a_pass(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24)
def test_speedup(specdec_run, specdec_baseline):
    assert specdec_run.speedup == specdec_baseline.speedup
""")
    project.create()
    project.run(ok=False).stdout.fnmatch_lines(
        ["*no cost profile to compute a speed-up from; pass --specdec-costs=FILE*"]
    )


def test_a_dead_drafter_is_no_baseline(project, tmp_path: Path) -> None:
    dead = add_noise(project.draft, tmp_path / "dead-draft", 20.0)
    result = project.run(
        f"--specdec-draft={dead}", "--specdec-temperature=0", "--specdec-update=new", ok=False
    )
    result.stdout.fnmatch_lines(["*a dead drafter cannot become a baseline; check the drafter*"])
    assert project.baselines == {}


def test_texts_that_loop_are_refused_and_become_no_baseline(
    project, tiny_target: Path, tiny_draft: Path
) -> None:
    cold = (
        "--specdec-temperature=0",
        "--specdec-new-tokens=80",
        f"--specdec-target={tiny_target}",
        f"--specdec-draft={tiny_draft}",
    )
    result = project.run("--specdec-k=4", "--specdec-depth=0", *cold, "--specdec-update=new")
    result.stdout.fnmatch_lines(
        [
            "*acceptance_length error: * of 12 texts end in a loop that any drafter can "
            "continue*other prompts"
        ]
    )
    assert project.baselines == {}
