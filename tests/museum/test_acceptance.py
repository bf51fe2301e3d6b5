"""Every exhibit of the museum is seen, though the text that it emits is right; harmless changes
pass.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.support import ROOT
from helpers.tiers import some
from museum import edits
from museum.doctor_view import engines_named
from museum.exhibit import Exhibit, Setting
from museum.exhibits import DRAFT, EXHIBITS, HEADS, UNEVEN
from museum.exhibits_heads import HEAD_EXHIBITS
from museum.measure import Lab, Measured, conditionals
from museum.table import PARTS

RARE = ("pass", "inconclusive", "improved")
"""Verdicts that few exhibits have."""
FEW = dataclasses.replace(HEADS, prompts=6)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("museum"))


@pytest.mark.parametrize("exhibit", some(EXHIBITS, 6), ids=lambda exhibit: exhibit.name)
def test_the_gate_flags_it(lab: Lab, exhibit: Exhibit) -> None:
    judge_by_the_gate(exhibit, lab.baseline(exhibit.setting), lab.broken(exhibit))


@pytest.mark.parametrize(
    "exhibit",
    some(HEAD_EXHIBITS, 6, lambda exhibit: exhibit.gate in RARE),
    ids=lambda exhibit: exhibit.name,
)
def test_gate_and_oracle_see_what_they_can(lab: Lab, exhibit: Exhibit) -> None:
    """The oracle needs no baseline, but it reads the same files: what is wrong in them it repeats."""
    before = lab.baseline(exhibit.setting)
    now, agreement = lab.broken_and_judged(exhibit)
    judge_by_the_gate(exhibit, before, now)
    assert agreement.agrees is (exhibit.defect is None), agreement.message


def judge_by_the_gate(exhibit: Exhibit, before: Measured, now: Measured) -> None:
    """The verdict is the exhibit's, and what fell is what its defect can touch."""
    verdict = now.against(before)
    assert verdict.outcome == exhibit.gate, verdict
    changed = ["drafter"] * (exhibit.edit is not None)
    changed += ["target"] * (exhibit.target_edit is not None)
    assert [change.split()[0] for change in verdict.changed] == changed
    old, new = conditionals(before, now)
    if exhibit.gate == "regressed":
        assert verdict.limit is not None
        assert verdict.drop >= verdict.limit
        assert new[exhibit.falls - 1] < old[exhibit.falls - 1]
    if exhibit.setting.temperature > 0:
        assert verdict.regime == "sampled"
        return
    assert (now.decoded.texts == before.decoded.texts) is exhibit.same_texts
    if exhibit.same_texts:
        assert verdict.regime == ("greedy drafter changed" if changed else "same weights")
        assert (new[: exhibit.first - 1] == old[: exhibit.first - 1]).all()


@pytest.mark.parametrize(
    "exhibit",
    some([candidate for candidate in HEAD_EXHIBITS if candidate.defect], 3),
    ids=lambda exhibit: exhibit.name,
)
def test_the_doctor_names_engines_that_are_known(lab: Lab, exhibit: Exhibit) -> None:
    assert engines_named(lab, exhibit) == [exhibit.doctor] * bool(exhibit.doctor)


@pytest.mark.parametrize(
    "exhibit",
    some([candidate for candidate in EXHIBITS + HEAD_EXHIBITS if candidate.hides], 6),
    ids=lambda exhibit: exhibit.name,
)
def test_it_hides_elsewhere(lab: Lab, exhibit: Exhibit) -> None:
    """At another k, depth, temperature or batch size the same defect changes not one count."""
    before, now = lab.baseline(exhibit.hides), lab.broken(exhibit, exhibit.hides)
    assert now.record == before.record
    assert now.against(before).outcome == "pass"


def test_a_full_cache_costs_more_the_longer_the_text(lab: Lab) -> None:
    (exhibit,) = [candidate for candidate in EXHIBITS if candidate.name == "full cache"]
    early, late = accepted_by_half(lab.baseline(exhibit.setting)) - accepted_by_half(
        lab.broken(exhibit)
    )
    assert late > 5 * abs(early)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        pytest.param(DRAFT, dataclasses.replace(DRAFT, batch=5), id="draft-model-in-batches-of-5"),
        pytest.param(
            HEADS,
            dataclasses.replace(HEADS, batch=7),
            id="own-heads-in-batches-of-7",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(FEW, dataclasses.replace(FEW, batch=1), id="own-heads-one-by-one"),
        pytest.param(
            DRAFT,
            dataclasses.replace(DRAFT, edits=(edits.nothing,)),
            id="drafter-in-another-folder",
        ),
        pytest.param(HEADS, UNEVEN, id="scale-moved-between-head-and-norms"),
    ],
)
def test_harmless_changes_pass(lab: Lab, before: Setting, now: Setting) -> None:
    verdict = lab.baseline(now).against(lab.baseline(before))
    assert verdict.outcome == "pass", verdict
    assert verdict.regime in ("same weights", "greedy drafter changed")


def test_another_seed_passes_where_nothing_is_drawn(lab: Lab) -> None:
    before, now = lab.baseline(DRAFT), lab.measure(DRAFT, seed=1)
    assert (before.record.seed, now.record.seed) == (0, 1)
    assert now.record.counts == before.record.counts
    assert now.against(before).outcome == "pass"


def test_a_new_engine_measures_the_same(lab: Lab, tmp_path: Path) -> None:
    """After all the defects: none has left a trace in the models or in the code."""
    before, now = lab.baseline(HEADS), Lab(tmp_path).measure(HEADS)
    assert now.record == lab.measure(HEADS).record == before.record
    assert now.against(before).outcome == "pass"


def test_the_page_shows_every_exhibit() -> None:
    """With the verdicts that are claimed; what the doctor names of files is measured for the page, and
    tests/doctor has more of it.
    """
    page = (ROOT / "docs" / "museum.md").read_text().splitlines()
    lines = [line.strip("| ").split(" | ") for line in page if line.startswith("| ")]
    columns = lines[0]
    rows = [line for line in lines if line != columns]
    every = [exhibit for part in PARTS.values() for exhibit in part]
    assert [row[0] for row in rows] == [exhibit.name for exhibit in every]
    shown = {row[0]: dict(zip(columns, row, strict=False)) for row in rows}
    for exhibit in every:
        cells = shown[exhibit.name]
        assert cells["verdict"] == exhibit.gate
        assert cells["oracle"] == ("no" if exhibit.defect is None else "yes")
    for exhibit in every[len(EXHIBITS) :]:
        assert (exhibit.doctor or "no") in shown[exhibit.name]["doctor"]
    listed = [line.split("*")[1] for line in page if line.startswith("- *")]
    missed = [exhibit.name for exhibit in every if exhibit.gate != "regressed"]
    assert listed == missed


def accepted_by_half(measured: Measured) -> np.ndarray:
    """Mean accepted tokens of rounds in the first and in the second half of the new tokens."""
    sides: tuple[list[int], list[int]] = ([], [])
    for (row, start), accepted in measured.starts.items():
        text = measured.decoded.texts[row]
        sides[2 * (start - text.prompt_length) > len(text.ids) - text.prompt_length].append(
            accepted
        )
    return np.array([np.mean(side) for side in sides])
