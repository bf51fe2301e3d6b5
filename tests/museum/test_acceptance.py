"""Every exhibit of the museum is flagged, though the text that it emits is right; harmless changes
pass.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from helpers.support import ROOT
from museum import edits
from museum.exhibits import DRAFT, EXHIBITS, HEADS, UNEVEN, Exhibit, Setting
from museum.measure import Lab, Measured, conditionals

FEW = dataclasses.replace(HEADS, prompts=6)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("museum"))


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_the_gate_flags_it(lab: Lab, exhibit: Exhibit) -> None:
    before, now = lab.baseline(exhibit.setting), lab.broken(exhibit)
    verdict = now.against(before)
    assert verdict.outcome == "regressed", verdict
    assert verdict.limit is not None
    assert verdict.drop >= verdict.limit
    assert [change.split()[0] for change in verdict.changed] == ["drafter"] * (
        exhibit.edit is not None
    )
    old, new = conditionals(before, now)
    assert new[exhibit.falls - 1] < old[exhibit.falls - 1]
    if exhibit.setting.temperature == 0:
        assert now.decoded.texts == before.decoded.texts
        changed = exhibit.edit is not None
        assert verdict.regime == ("greedy drafter changed" if changed else "same weights")
        assert (new[: exhibit.first - 1] == old[: exhibit.first - 1]).all()
    else:
        assert verdict.regime == "sampled"


@pytest.mark.parametrize(
    "exhibit",
    [candidate for candidate in EXHIBITS if candidate.hides],
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
        pytest.param(HEADS, dataclasses.replace(HEADS, batch=7), id="own-heads-in-batches-of-7"),
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
    page = (ROOT / "docs" / "museum.md").read_text().splitlines()
    rows = [line.split("|")[1].strip() for line in page if line.startswith("| ")]
    assert rows[1:] == [exhibit.name for exhibit in EXHIBITS]


def accepted_by_half(measured: Measured) -> np.ndarray:
    """Mean accepted tokens of rounds in the first and in the second half of the new tokens."""
    sides: tuple[list[int], list[int]] = ([], [])
    for (row, start), accepted in measured.starts.items():
        text = measured.decoded.texts[row]
        sides[2 * (start - text.prompt_length) > len(text.ids) - text.prompt_length].append(
            accepted
        )
    return np.array([np.mean(side) for side in sides])
