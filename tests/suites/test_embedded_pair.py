"""What the embedded text pair promises: real behaviour, small files, and a gate that fires."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from failing_gate import first_message, label, shown_message
from helpers.support import EMBEDDED, ROOT, add_noise
from plugin.conftest import facts

from pytest_specdec import CostProfile, load_baseline
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.cases.prompts import read_prompts

ARTICLE = (0.80, 0.74, 0.67)
"""Conditional acceptance of the article's three MTP steps."""


def stored(name: str) -> Counts:
    return load_baseline(ROOT / "baselines" / "text" / f"{name}.json").as_counts()


def test_own_heads_accept_as_the_articles_do() -> None:
    np.testing.assert_allclose(stored("mtp-k3-depth3-t1").conditional, ARTICLE, atol=0.08)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_draft_models_survival_falls_clearly(depth: int) -> None:
    survival = stored(f"text-draft-k8-depth{depth}-t1").survival
    assert (np.diff(survival) < -0.01).all()
    assert survival[0] > 0.6
    assert survival[7] < 0.3


def test_the_eagle3_head_accepts_more_than_the_draft_model() -> None:
    lengths = {
        temperature: [
            stored(f"{drafter}-k8-depth0-t{temperature}").acceptance_length
            for drafter in ("text-draft", "text-eagle3")
        ]
        for temperature in (0, 1)
    }
    assert lengths[0][1] > 1.4 * lengths[0][0]
    assert lengths[1][1] > lengths[1][0]


@pytest.mark.parametrize("temperature", [0, 1])
def test_the_eagle3_head_drafts_well_past_the_steps_that_it_was_trained_on(
    temperature: int,
) -> None:
    counts = {k: stored(f"text-eagle3-k{k}-depth0-t{temperature}") for k in range(1, 9)}
    assert (counts[8].conditional > 0.7).all()
    lengths = [found.acceptance_length for found in counts.values()]
    assert (np.diff(lengths) > 0.1).all()


def test_categories_differ_visibly() -> None:
    lengths = {
        name: counts.acceptance_length
        for name, counts in stored("text-draft-k8-depth0-t1").by_category().items()
    }
    assert set(lengths) == {"prose", "code", "json", "arithmetic", "dialogue"}
    assert (
        lengths["dialogue"]
        > lengths["json"]
        > lengths["arithmetic"]
        > lengths["code"]
        > lengths["prose"]
        > 2
    )
    assert lengths["dialogue"] > 2 * lengths["prose"]


def test_a_larger_k_accepts_more_and_costs_more() -> None:
    costs = CostProfile.load(ROOT / "suites" / "text" / "costs.json")
    lengths = [stored(f"text-draft-k{k}-depth0-t1").acceptance_length for k in (4, 8, 12, 16)]
    assert lengths == sorted(lengths)
    for depth in (0, 1, 2, 3):
        times = [costs.round_ms(k, depth) for k in (4, 8, 12, 16)]
        assert times == sorted(times)


def test_files_are_small_and_prompts_are_many() -> None:
    weights = sum(
        path.stat().st_size
        for path in EMBEDDED.glob("text-*/*.safetensors")
        if not path.is_symlink()
    )
    assert weights <= 12 * 2**20
    assert len(read_prompts(EMBEDDED.parent / "text" / "prompts.jsonl")) >= 64
    texts = json.loads((ROOT / "baselines" / "text" / "texts" / "t1-n128-s0.json").read_text())[
        "texts"
    ]
    assert {len(text) for text in texts.values()} == {128}


@pytest.mark.usefixtures("warm_processes")
def test_a_spoilt_mtp_layer_shows_at_its_position_and_keeps_the_texts(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    """Layers 4 to 6 of the target's checkpoint are its MTP layers: the last of them drafts position
    3.
    """
    target = add_noise(EMBEDDED / "text-target", tmp_path / "target", 0.5, only="layers.6.")
    result = main_job(pytester, "--specdec-k=3", f"--specdec-target={target}", "-k", "own_heads")
    result.assert_outcomes(failed=1)
    pytest.LineMatcher(facts(result.stdout.lines)).fnmatch_lines(
        [
            "  changed    drafter weights or configuration *",
            "  positions  conditional acceptance fell at 3 (*%)",
        ]
    )
    assert "target weights" not in result.stdout.str()


def main_job(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """The suites of this repository, in a process of their own."""
    place = ("--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), str(ROOT / "suites"))
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, *place)


@pytest.mark.usefixtures("warm_processes")
def test_five_percent_noise_on_the_draft_fails_the_main_job(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    noisy = add_noise(EMBEDDED / "text-draft", tmp_path / "noisy", 0.05)
    result = main_job(pytester, "--specdec-k=8", f"--specdec-draft={noisy}", "-k", "TestDraftModel")
    result.assert_outcomes(failed=8)
    pytest.LineMatcher(facts(result.stdout.lines)).fnmatch_lines(
        [
            "acceptance_length regressed: 3.* -> 3.* (-*; 95 % interval -* to -*), fails from "
            "-1.00 %",
            "  case       text/text-draft-k8-depth0-t1: fell on the same texts by *",
            "  changed    drafter weights or configuration *",
            "  positions  conditional acceptance fell at *",
            "  categories *prose*",
            "  lost most  '*",
            "  intended?  pytest *--specdec-update=changed",
        ]
    )
    # The README and docs/gate.md show this message, with as many threads as the baseline's.
    shown, printed = (
        dict.fromkeys(map(label, message[1:]))
        for message in (shown_message(), first_message(result.stdout.lines))
    )
    assert [name for name in printed if name != "test"] == list(shown)
