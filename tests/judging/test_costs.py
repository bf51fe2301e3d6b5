"""What a round of a case costs under a profile."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from helpers.records import case

from pytest_specdec.cases.case import OWN_HEADS, JudgedRange
from pytest_specdec.cases.drafter import RegisteredSpec
from pytest_specdec.judging.costs import costs_of
from pytest_specdec.speedup.cost_profile import CostProfile

TIMES = {k: float(k) for k in range(1, 65)}
PROFILE = CostProfile(
    verify={k: 100 + ms for k, ms in TIMES.items()},
    draft={depth: {k: 1000 * (1 + depth) + ms for k, ms in TIMES.items()} for depth in (0, 2, 3)},
    own_heads={3: {k: 5000 + ms for k, ms in TIMES.items()}},
    target_ms=10.0,
)
"""Every time names its k, and its depth."""


@pytest.mark.parametrize(
    ("changes", "verify", "draft"),
    [
        ({"k": 4}, 104, 1004),
        ({"k": 4, "depth": 3}, 104, 4004),
        ({"k": 4, "judged": JudgedRange(4, 8)}, 104, 1004),
        ({"k": 4, "judged": JudgedRange(4, 8, 2)}, 108, 1004),  # four passes of one token
        (
            {"k": 4, "depth": 3, "judged": JudgedRange(4, 8, 2)},
            108,
            4008,
        ),  # two passes of four tokens, two of them judged
        ({"k": 5, "depth": 3, "judged": JudgedRange(4, 8, 2)}, 110, 4012),  # three passes
        (
            {"k": 4, "depth": 2, "judged": JudgedRange(4, 8, 3)},
            112,
            3012,
        ),  # four passes of three tokens, one of them judged
        (
            {"k": 4, "depth": 3, "judged": JudgedRange(4, 8, 2), "drafter": OWN_HEADS},
            108,
            5008,
        ),  # one chain over eight places
    ],
)
def test_a_judged_round_verifies_and_drafts_the_given_places_too(
    changes: dict[str, Any], verify: float, draft: float
) -> None:
    costs = costs_of(case(**changes), PROFILE)
    assert costs is not None
    assert (costs.target_ms, costs.verify_ms, costs.draft_ms) == (10, verify, draft)


@pytest.mark.parametrize("name", ["eagle3", "ngram-table"])
def test_a_registered_drafter_has_its_own_times_or_none(name: str) -> None:
    """The times of the draft model are those of another drafter."""
    drafter = RegisteredSpec(name, Path("/heads/one"))
    assert costs_of(case(k=4, drafter=drafter), PROFILE) is None
    other = "ngram-table" if name == "eagle3" else "eagle3"
    for named, expected in ((name, 7.0), (other, None)):
        profile = dataclasses.replace(PROFILE, drafters={named: {0: {4: 7.0}}})
        costs = costs_of(case(k=4, drafter=drafter), profile)
        assert (None if costs is None else costs.draft_ms) == expected


def test_a_profile_that_covers_the_judged_tokens_alone_does_not_cover_the_round() -> None:
    narrow = CostProfile(verify={1: 1.0, 8: 2.0}, draft={0: {1: 1.0, 8: 2.0}}, target_ms=1.0)
    assert costs_of(case(k=8), narrow) is not None
    assert costs_of(case(k=8, judged=JudgedRange(4, 8, 2)), narrow) is None
