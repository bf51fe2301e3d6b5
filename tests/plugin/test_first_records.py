"""What must not become a baseline in the first place (faults A4, A6, C1)."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from helpers.records import steady_counts
from plugin.conftest import PROMPTS
from safetensors.torch import load_file, save_file

from pytest_specdec import decode
from pytest_specdec.acceptance.reference_drafters import References
from pytest_specdec.gate.refusals import below_lookup, no_better

CELL = ("--specdec-k=4", "--specdec-depth=0")


def zeroed(source: Path, folder: Path) -> Path:
    """A checkpoint whose weights are all zero: every token is as likely as any other."""
    shutil.copytree(source, folder)
    weights = {name: tensor * 0 for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("temperature", ["1", "0"])
def test_a_draft_that_knows_nothing_becomes_no_baseline(
    project, tmp_path: Path, temperature: str
) -> None:
    draft = zeroed(project.draft, tmp_path / "zero-draft")
    result = project.run(
        *CELL,
        f"--specdec-draft={draft}",
        f"--specdec-temperature={temperature}",
        "--specdec-update=new",
        ok=False,
    )
    text = result.stdout.str()
    assert (
        "no better than that of a drafter that knows nothing" in text
        or "a dead drafter cannot become a baseline" in text
    )
    assert project.baselines == {}


def test_the_target_itself_is_no_drafter(project, tmp_path: Path) -> None:
    project.create(*CELL)
    copy = shutil.copytree(project.target, tmp_path / "copy-of-the-target")
    for draft in (project.target, copy):
        result = project.run(*CELL, f"--specdec-draft={draft}", ok=False)
        assert "is the target itself" in result.stdout.str() + result.stderr.str()
        assert "improved" not in result.stdout.str()


def test_a_few_prompts_of_a_healthy_pair_are_judged(project) -> None:
    project.create(*CELL)
    for prompts in (1, 2, 3):
        project.run(*CELL, f"--specdec-prompts={prompts}", ok=True)


def test_a_drafter_below_prompt_lookup_is_noted() -> None:
    """Of texts that repeat themselves, and of no others."""
    beaten, better = (steady_counts(shares=(share,) * 3) for share in (0.3, 0.6))
    known = References(
        uniform=steady_counts(shares=(0.1,) * 3),
        unigrams=steady_counts(shares=(0.2,) * 3),
        lookup=better,
    )
    note = below_lookup(beaten, known)
    assert note is not None
    assert note.startswith(
        "prompt lookup, which needs no model, has an acceptance length of 2.8000 on the same texts"
    )
    assert below_lookup(better, known) is None
    assert below_lookup(beaten, dataclasses.replace(known, lookup=None)) is None
    assert no_better(beaten, known) is None
    assert no_better(known.unigrams, known) is not None


def rounds_of(tokens: int, k: int) -> list[list[int]]:
    """Rounds that make so many tokens, with none and one of k drafts accepted in turn."""
    rounds: list[list[int]] = []
    while tokens > 0:
        accepted = min(len(rounds) % 2, tokens - 1)
        rounds.append([min(k, tokens - 1), accepted])
        tokens -= accepted + 1
    return rounds


def test_an_engines_first_record_is_held_against_its_models(project) -> None:
    """A recorded run of greedy texts that are right and of counts that its own models do not
    imply.
    """
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, depth=0, new_tokens=24, temperature=0)
def test_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
""")
    decoded = decode(
        str(project.target),
        str(project.draft),
        [word for _, word in PROMPTS],
        k=4,
        temperature=0,
        new_tokens=24,
    )
    header = {"schema": 1, "engine": "mine 2", "k": 4, "new_tokens": 24, "temperature": 0.0}
    lines = [
        {
            "prompt": word,
            "prompt_ids": text.ids[: text.prompt_length],
            "new_ids": text.ids[text.prompt_length :],
            "rounds": rounds_of(len(text.ids) - text.prompt_length - 1, 4),
        }
        for (_, word), text in zip(PROMPTS, decoded.texts, strict=True)
    ]
    path = project.pytester.path / "run.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    engine = ("--specdec-engine=trace", f"--specdec-url={path}")
    result = project.run(*engine, "--specdec-update=new", ok=False)
    result.stdout.fnmatch_lines(
        ["*trace counts an acceptance length of 1.* where its models imply 2.*"]
    )
    result.stdout.fnmatch_lines(["*so it cannot become a baseline*"])
    assert project.baselines == {}
