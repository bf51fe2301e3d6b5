"""Every cell of `docs/agreement.md`: decode counts what replay expects on its texts. In `make test`, each drafter
and each rule, by a tenth of the page's rounds.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from agreement import DRAFTERS, ROUNDS, RULES, K, agree, certain
from helpers.embedded import Pair
from helpers.support import ROOT
from helpers.tiers import exhaustive, some

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

RULES_AND_SAMPLINGS = [
    *((rule, Sampling(1.0)) for rule in RULES),
    ("rejection", Sampling(0.8, 50, 0.9)),
]


@pytest.mark.parametrize("name", some(DRAFTERS, 2))
@pytest.mark.parametrize(("every", "rounds"), [(8, 250), exhaustive(1, 2000)])
def test_greedy_decoding_is_replay_round_for_round(
    pair: Pair, name: str, every: int, rounds: int
) -> None:
    """On every so many-th prompt, for so many rounds at least."""
    prompts = pair.prompts[::every]
    cell = agree(dataclasses.replace(pair, prompts=prompts), name, "greedy", Sampling(0))
    assert cell.rounds > rounds
    assert cell.unequal == 0


@pytest.mark.parametrize(
    ("name", "rule", "sampling", "rounds"),
    [
        *(
            (pytest.param if row % 2 else exhaustive)(
                name, *RULES_AND_SAMPLINGS[row % len(RULES_AND_SAMPLINGS)], ROUNDS // 10
            )
            for row, name in enumerate(DRAFTERS)
        ),
        *(
            exhaustive(name, *how, ROUNDS)
            for name, how in itertools.product(DRAFTERS, RULES_AND_SAMPLINGS)
        ),
    ],
    ids=lambda given: getattr(given, "suffix", str(given)),
)
def test_sampled_decoding_agrees_with_replay(
    pair: Pair, name: str, rule: str, sampling: Sampling, rounds: int
) -> None:
    cell = agree(pair, name, rule, sampling, rounds=rounds, first_texts=16)
    assert cell.rounds >= rounds
    if certain(cell):
        assert cell.unequal == 0
    else:
        assert np.abs(cell.z).max() < 3, f"standard errors per position: {cell.z.round(2)}"
        assert cell.unequal > 0  # the rounds are random; only their expectation is replay's
    assert (
        f"| {cell.drafter} | {cell.k} | {cell.rule} | {cell.sampling.suffix} |"
        in (ROOT / "docs" / "agreement.md").read_text()
    )


def test_the_wrong_rules_replay_does_not_agree(pair: Pair) -> None:
    """The comparison can fail: block verification accepts more than rejection's replay expects."""
    decoded = pair.decode("draft", K, 0, "block", Sampling(1.0), 0)
    (scores,) = text_scores(
        pair.target, [DrafterPlan(pair.draft, 0, K)], decoded.texts, Sampling(1.0)
    )
    deviation = decoded.counts.accepted.sum(1) - expected_counts(
        scores.field("rejection"), K
    ).accepted.sum(1)
    assert deviation.sum() > 3 * np.sqrt((deviation**2).sum())
