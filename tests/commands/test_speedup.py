"""`python -m pytest_specdec speedup`: stored baselines under cost profiles, without models or
torch.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from helpers.records import CONDITIONS, record, steady_counts
from helpers.support import EMBEDDED

from pytest_specdec.__main__ import main
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.speedup.cost_profile import CostProfile

pytestmark = pytest.mark.slow

ROOT = EMBEDDED.parent.parent
BASELINES, COSTS = ROOT / "baselines" / "text", ROOT / "suites" / "text" / "costs.json"


def printed_lines(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    assert main(["speedup", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def verdicts(lines: list[str]) -> list[str]:
    """The conclusions, each on one line again."""
    text = "\n".join(lines).replace("\n    ", " ")
    return [
        line.strip()
        for line in text.splitlines()
        if line.strip().startswith(("undecided:", "do not draft: no cell"))
    ]


def test_every_drafter_has_a_table_and_one_best_cell(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed_lines(capsys, BASELINES, "--costs", COSTS)
    titles = [line for line in lines if "costs of" in line]
    untimed = [line for line in lines if line.endswith(f": no times of eagle3 in {COSTS}")]
    assert [line.split(":")[0] for line in untimed] == ["text-eagle3-t0", "text-eagle3-t1"]
    assert [title.split(",")[0] for title in titles] == ["mtp-t1", "text-draft-t0", "text-draft-t1"]
    assert sum(line.endswith(" best") for line in lines) == 1
    assert [line.split(",")[0] for line in verdicts(lines)] == ["undecided: the best"] * 3
    assert verdicts(lines)[0] == (
        "undecided: the best, k 1, depth 3: 0.963x, is within the error of plain decoding (95 % "
        "0.86 to 1.08); time the costs "
        "again with more --repeats"
    )
    assert sum(line.startswith("  code: ") for line in lines) == 3
    assert max(len(line) for line in lines if line not in titles + untimed) <= 80


def test_a_drafter_that_is_slower_beyond_doubt_is_advised_against(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    profile = CostProfile.load(COSTS)
    slow = dataclasses.replace(profile, verify={k: 2 * time for k, time in profile.verify.items()})
    (tmp_path / "slow.json").write_text(slow.to_json())
    lines = verdicts(printed_lines(capsys, BASELINES, "--costs", tmp_path / "slow.json"))
    assert [line.split(";")[0] for line in lines] == [
        "do not draft: no cell beats plain decoding"
    ] * 3


def test_each_profile_is_distinguished_by_its_batch_size(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    profile = CostProfile.load(COSTS)
    (tmp_path / "b8.json").write_text(
        profile.to_json().replace('"batch_size": 1', '"batch_size": 8')
    )
    lines = printed_lines(capsys, BASELINES, "--costs", COSTS, "--costs", tmp_path / "b8.json")
    assert sum("(batch 8)" in line for line in lines) == 3


def test_a_token_that_no_acceptance_could_pay_for_never_pays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed_lines(capsys, BASELINES, "--costs", COSTS)
    needs = [line.split()[9] for line in lines if line.split()[:1] and line.split()[0].isdigit()]
    assert "never" in needs
    assert all(word in ("never", "-") or 0 <= float(word) <= 1 for word in needs)


def test_noisy_times_give_wide_and_positive_intervals(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    noisy = dataclasses.replace(CostProfile.load(COSTS), error=0.42)
    (tmp_path / "noisy.json").write_text(noisy.to_json())
    lines = printed_lines(capsys, BASELINES, "--costs", tmp_path / "noisy.json")
    cells = [line.split() for line in lines if line.split()[:1] and line.split()[0].isdigit()]
    assert cells
    assert all(0 < float(low) < float(high) for _, _, _, _, _, low, _, high, *_ in cells)


def test_baselines_without_requests_count_only_rounds_with_room(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "draft-k3-depth0-t1.json").write_text(dumps(record(steady_counts())))
    profile = CostProfile(target_ms=3.0, verify={3: 3.0}, draft={0: {3: 1.0}})
    (tmp_path / "costs").write_text(profile.to_json())
    note = " ".join(printed_lines(capsys, tmp_path, "--costs", tmp_path / "costs"))
    assert (
        "a larger k looks better than it is; record them again with --specdec-update=all"
        in " ".join(note.split())
    )
    assert "  2.500  " in note
    assert not any("note:" in line for line in printed_lines(capsys, BASELINES, "--costs", COSTS))


def test_times_outside_the_profile_are_marked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    times = {1: 1.0, 4: 4.0, 8: 8.0}
    profile = CostProfile(
        target_ms=3.0, verify=times, draft=dict.fromkeys(range(4), times), own_heads={3: times}
    )
    (tmp_path / "costs.json").write_text(profile.to_json())
    lines = printed_lines(capsys, BASELINES, "--costs", tmp_path / "costs.json")
    rows = [line.split() for line in lines if line.startswith("  ") and line.split()[0].isdigit()]
    assert {row[0] for row in rows if row[3].startswith("~")} == {"12", "16"}


def test_prompt_lookup_has_times_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its baselines may lie beside a draft model's, of which the profile then knows other times, or
    none.
    """
    looked_up = record(
        steady_counts(), conditions=msgspec.structs.replace(CONDITIONS, drafter="prompt-lookup")
    )
    (tmp_path / "prompt-lookup-k3-depth0-t1.json").write_text(dumps(looked_up))
    profile = CostProfile(target_ms=3.0, verify={3: 3.0}, draft={0: {3: 9.0}}, lookup={3: 0.5})
    (tmp_path / "costs").write_text(profile.to_json())
    (row,) = [
        line.split()
        for line in printed_lines(capsys, tmp_path, "--costs", tmp_path / "costs")
        if line.endswith(" best")
    ]
    assert row[3] == "3.50"


def test_a_head_has_times_of_its_own_and_is_left_out_without(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Never those of the draft model."""
    by_head = record(
        steady_counts(), conditions=msgspec.structs.replace(CONDITIONS, drafter="eagle3")
    )
    (tmp_path / "head-k3-depth0-t1.json").write_text(dumps(by_head))
    (tmp_path / "draft-k3-depth0-t1.json").write_text(dumps(record(steady_counts())))
    profile = CostProfile(target_ms=3.0, verify={3: 3.0}, draft={0: {3: 0.25}})
    (tmp_path / "draft").write_text(profile.to_json())
    timed = dataclasses.replace(profile, draft={}, drafters={"eagle3": {0: {3: 0.5}}})
    (tmp_path / "head").write_text(timed.to_json())
    lines = printed_lines(
        capsys, tmp_path, "--costs", tmp_path / "draft", "--costs", tmp_path / "head"
    )
    assert [line.split()[3] for line in lines if line.endswith(" best")] == ["3.25", "3.50"]
    assert [line for line in lines if "no times of" in line] == [
        f"draft-t1: no times of draft in {tmp_path / 'head'}",
        f"head-t1: no times of eagle3 in {tmp_path / 'draft'}",
    ]
    (tmp_path / "draft-k3-depth0-t1.json").unlink()
    assert f"no cost profile has times of what drafts in {tmp_path} (eagle3); measure" in refused(
        capsys, tmp_path, "--costs", tmp_path / "draft"
    )


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["speedup", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_computed_is_refused_with_a_cure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "holds no baseline of a pair of models; name a folder" in refused(
        capsys, tmp_path, "--costs", COSTS
    )
    assert "cannot be read" in refused(capsys, BASELINES, "--costs", tmp_path / "none.json")
    (tmp_path / "costs.json").write_text(
        CostProfile(verify={4: 1.0}, draft={0: {4: 1.0}}).to_json()
    )
    assert "has no target_ms; measure one with" in refused(
        capsys, BASELINES, "--costs", tmp_path / "costs.json"
    )


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None; "
        "sys.modules['pytest'] = None\n"
        "from pytest_specdec.__main__ import main\n"
        f"sys.exit(main(['speedup', {str(BASELINES)!r}, '--costs', {str(COSTS)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "best" in done.stdout


def test_trees_stand_beside_chains(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    conditions = msgspec.structs.replace(CONDITIONS, tree="0 1 0.0 1.0", k=2)
    counts = steady_counts(shares=(0.9, 0.8))
    (tmp_path / "stored").mkdir()
    for name, of in (
        ("draft-k3-depth0-t1", record(case="draft-k3-depth0-t1")),
        (
            "draft-k2-depth0-t1-tree4x2-abcdef",
            record(counts, conditions=conditions, case="draft-k2-depth0-t1-tree4x2-abcdef"),
        ),
    ):
        (tmp_path / "stored" / f"{name}.json").write_text(dumps(of))
    costs = tmp_path / "costs.json"
    costs.write_text(
        CostProfile(
            target_ms=10.0, verify={2: 11.0, 4: 12.0, 8: 14.0}, draft={0: {2: 2.0, 4: 4.0, 8: 8.0}}
        ).to_json()
    )
    lines = printed_lines(capsys, tmp_path / "stored", "--costs", costs)
    (row,) = [line.split() for line in lines if line.strip().startswith("tree4x2")]
    # 10 + 4 * 0.5 for the target's pass, 2 * 1 for the drafter's two.
    assert row[1:] == ["4", "2", "2.700", "~14.00", "1.929x", "best"]
    assert any(line.startswith("  3      0") for line in lines)
