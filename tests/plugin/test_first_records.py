"""What must not become a baseline in the first place (faults A4, A6, C1)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

CELL = ("--specdec-k=4", "--specdec-depth=0")


def zeroed(source: Path, folder: Path) -> Path:
    """A checkpoint whose weights are all zero: every token is as likely as any other."""
    shutil.copytree(source, folder)
    weights = {name: tensor * 0 for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("temperature", ["1", "0"])
def test_a_draft_that_knows_nothing_becomes_no_baseline(project, tmp_path: Path, temperature: str) -> None:
    draft = zeroed(project.draft, tmp_path / "zero-draft")
    result = project.run(
        *CELL, f"--specdec-draft={draft}", f"--specdec-temperature={temperature}", "--specdec-update=new", ok=False
    )
    text = result.stdout.str()
    assert "no better than that of a drafter that knows nothing" in text or "is no baseline" in text
    assert project.baselines == {}


def test_the_target_itself_is_no_drafter(project, tmp_path: Path) -> None:
    project.create(*CELL)
    copy = shutil.copytree(project.target, tmp_path / "copy-of-the-target")
    for draft in (project.target, copy):
        result = project.run(*CELL, f"--specdec-draft={draft}", ok=False)
        assert "same model" in result.stdout.str() + result.stderr.str()
        assert "improved" not in result.stdout.str()


def test_a_few_prompts_of_a_healthy_pair_are_judged(project) -> None:
    project.create(*CELL)
    for prompts in (1, 2, 3):
        project.run(*CELL, f"--specdec-prompts={prompts}", ok=True)


def test_a_drafter_below_prompt_lookup_is_warned_of(project) -> None:
    project.write_prompts([("echo", "ababababababababababab"), ("echo", "xyzxyzxyzxyzxyzxyzxyz")])
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter="prompt-lookup", k=4, depth=0, new_tokens=24)
def test_lookup(specdec_run, specdec_baseline):
    assert specdec_run.counts.total_rounds > 0
    assert specdec_run != specdec_baseline or specdec_run == specdec_baseline
""")
    assert "warning" not in project.run("--specdec-update=new").stdout.str()
