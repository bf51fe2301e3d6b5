"""--specdec-draft=PATTERN: every case once per candidate, compared with each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.support import add_noise

from pytest_specdec.decoding import target_passes

NOISE = {"ckpt-9": 0.3, "ckpt-10": 0.05, "ckpt-20": 0.4}
TEST = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=48)
def test_draft(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=48)
def test_draft_without_a_baseline(specdec_run):
    assert specdec_run.acceptance_length > 1
"""


@pytest.fixture(scope="module")
def checkpoints(gate_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training run that gets better and then worse."""
    folder = tmp_path_factory.mktemp("run")
    for seed, (name, share) in enumerate(NOISE.items()):
        add_noise(gate_target, folder / name, share, seed=seed)
    (folder / "ckpt-9.log").write_text("no checkpoint")
    return folder


@pytest.fixture
def pattern(project, checkpoints: Path) -> str:
    project.write_test(TEST)
    return f"--specdec-draft={checkpoints}/ckpt-*"


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("arguments", [("-n0",), ("-n2", "--specdec-temperature=0")])
def test_candidates_are_compared_in_one_session(project, pattern: str, arguments) -> None:
    result = project.run(pattern, "--specdec-report=out.json", *arguments, ok=True)
    result.assert_outcomes(skipped=3, passed=3)
    document = json.loads((project.pytester.path / "out.json").read_text())
    suffix = "t0" if len(arguments) > 1 else "t1"
    (comparison,) = document["candidates"]
    assert comparison["comparison"] == f"letters/tiny-draft-k4-depth0-{suffix}"
    assert comparison["best"] == comparison["fell_after"] == "ckpt-10"
    candidates = {case["candidate"]["name"]: case["candidate"] for case in document["cases"]}
    assert sorted(candidates, key=lambda name: candidates[name]["place"]) == list(NOISE)
    assert {candidate["smoothed"] for candidate in candidates.values()} == {suffix == "t0"}
    assert {case["verdict"] for case in document["cases"]} == {"not judged"}
    result.stdout.fnmatch_lines(
        [
            f"candidates of letters/tiny-draft-k4-depth0-{suffix}",
            "    candidate *below the best *",
            "    ckpt-9 *",
            "    ckpt-10 * best *",
            "    ckpt-20 *",
            "  best: ckpt-10; all others are significantly below it; fell after ckpt-10",
        ]
    )
    assert not project.stored


def test_one_pass_of_the_target_serves_all_candidates(
    project, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[str] = []
    forward = target_passes.forward

    def counting(model, *arguments, **options):
        passes.append(model.checkpoint.folder.name)
        return forward(model, *arguments, **options)

    monkeypatch.setattr(target_passes, "forward", counting)
    project.run(pattern, ok=True)
    assert passes == ["tiny-target"]


def test_a_candidate_is_selected_by_its_name(project, pattern: str) -> None:
    result = project.run(pattern, "-k", "ckpt-10 and not without")
    result.assert_outcomes(skipped=1, deselected=5)
    result.stdout.fnmatch_lines(["  best: ckpt-10"])


def test_nothing_is_judged_and_no_baseline_is_missed(project, pattern: str) -> None:
    result = project.run(pattern)
    result.stdout.fnmatch_lines(
        [
            "specdec: 3 candidates (ckpt-9, ckpt-10, ckpt-20), compared with each other on the "
            "same prompts, not with baselines"
        ]
    )
    result.stdout.no_fnmatch_line("*baseline: they*")
    result.stdout.no_fnmatch_line("*gate*on*pair*")


@pytest.mark.parametrize(
    "option", ["--specdec-update=new", "--specdec-accumulate", "--specdec-prune"]
)
def test_what_would_store_is_refused_in_one_message(project, pattern: str, option: str) -> None:
    result = project.run(pattern, option, ok=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stdout.str() + result.stderr.str()
    assert text.count("ERROR") == 1
    assert (
        f"{option.partition('=')[0]} is about the baselines of one drafter, and --specdec-draft "
        "matches 3 (ckpt-9, ckpt-10, ckpt-20); name one of them, or leave it out"
    ) in text
    assert not project.stored


def test_no_match_is_one_message(project, checkpoints: Path) -> None:
    result = project.run(f"--specdec-draft={checkpoints}/step-*", ok=False)
    text = result.stdout.str() + result.stderr.str()
    assert text.count("no folder matches") == 1
    assert "check the pattern" in text


def test_a_single_match_is_gated_as_a_plain_draft(project, pattern: str) -> None:
    one = pattern.replace("ckpt-*", "ckpt-1*")
    project.create(one)
    assert [name for name in project.baselines if "/texts/" not in name] == [
        "letters/tiny-draft-k4-depth0-t1.json"
    ]
    project.run(one, ok=True).assert_outcomes(passed=2)


def test_a_candidate_that_cannot_be_used_is_refused_before_anything_is_loaded(
    project, pattern: str, checkpoints: Path, tmp_path: Path
) -> None:
    (tmp_path / "ckpt-1").symlink_to(checkpoints / "ckpt-9")
    (tmp_path / "ckpt-2").mkdir()
    result = project.run(f"--specdec-draft={tmp_path}/ckpt-*", ok=False)
    text = result.stdout.str() + result.stderr.str()
    assert text.count("has no config.json") == 1


def test_a_failing_candidate_leaves_the_others_compared(project, pattern: str) -> None:
    project.write_test(
        TEST
        + """
@pytest.fixture(autouse=True)
def stumble(request):
    if "ckpt-9" in request.node.name:
        raise RuntimeError("the machine stumbled")
"""
    )
    result = project.run(pattern, ok=False)
    result.stdout.fnmatch_lines(
        [
            "    ckpt-10 * best *",
            "    ckpt-20 *",
            "  best: ckpt-10; all others are significantly below it*",
        ]
    )
