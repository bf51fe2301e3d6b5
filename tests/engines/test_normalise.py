"""One definition where rounds are told, another one, by name, where only sums are."""

from __future__ import annotations

import numpy as np
import pytest
from reports import reported

from pytest_specdec.acceptance.case import DEFINITION
from pytest_specdec.engines.normalise import POOLED, definition_of, normalised
from pytest_specdec.engines.reported import Manner, Pooled, Reported, Totals
from pytest_specdec.errors import MeasurementError

ROUNDS = [(3, 1), (3, 3), (3, 0), (2, 2), (1, 0)]


def counts(*texts: Reported, pooled: Pooled | None = None, drafter: str = "draft"):
    definition = definition_of(texts, drafter, pooled)
    return definition, normalised(definition, texts, ["all"] * len(texts), 3, pooled)


def test_rounds_inside_the_text_are_counted_and_those_near_its_end_are_not() -> None:
    definition, found = counts(reported(ROUNDS))
    assert definition.name == DEFINITION
    assert found.rounds.tolist() == [4]  # the fourth starts 4 tokens before the end
    assert found.drafted.tolist() == [[4, 4, 3]]
    assert found.accepted.tolist() == [[3, 2, 1]]


def test_the_prompt_passs_round_is_played_and_not_counted() -> None:
    plain, assisted = counts(reported(ROUNDS)), counts(reported([(3, 2), *ROUNDS], manner=Manner(prefill_drafts=True)))
    assert plain[0].name == assisted[0].name == DEFINITION
    np.testing.assert_array_equal(plain[1].accepted, assisted[1].accepted)
    np.testing.assert_array_equal(plain[1].rounds, assisted[1].rounds)


def test_sums_stand_under_a_definition_of_their_own() -> None:
    definition, found = counts(reported(None, 12, totals=Totals(5, 12, 6, (3, 2, 1))))
    assert definition.name == "sums/1"
    assert (found.total_rounds, found.drafted.sum(), found.accepted.tolist()) == (5, 12, [[3, 2, 1]])
    assert found.drafted.tolist() == [[5, 5, 2]]
    assert found.acceptance_rate == 0.5


@pytest.mark.parametrize(
    ("manner", "name"),
    [
        (Manner(prefill_drafts=True), "sums/1-prefill"),
        (Manner(end="full"), "sums/1-full"),
        (Manner(counts_empty=True), "sums/1-empty"),
    ],
)
def test_a_definition_says_how_the_engine_counts(manner: Manner, name: str) -> None:
    assert counts(reported(None, 12, manner, totals=Totals(5, 15, 6, (3, 2, 1))))[0].name == name
    assert counts(reported(None, 12, manner, totals=Totals(5, 15, 6)))[0].name == f"{name}-no-positions"


def test_sums_without_positions_keep_the_rate_and_the_length() -> None:
    definition, found = counts(reported(None, 12, totals=Totals(None, 12, 6)))
    assert definition.name == "sums/1-empty-no-positions"  # rounds told by the tokens alone include the empty ones
    assert (found.total_rounds, found.acceptance_rate, found.acceptance_length) == (5, 0.5, 1 + 6 / 5)


def test_drafts_that_are_missing_are_missing_where_nothing_was_accepted() -> None:
    """A perfect drafter: every draft accepted, the last rounds cut short."""
    _, found = counts(reported(None, 12, totals=Totals(3, 8, 8, (3, 3, 2))))
    assert found.drafted.tolist() == [[3, 3, 2]]
    assert found.acceptance_rate == 1


def test_prompt_lookup_whose_empty_rounds_are_left_out_tells_no_places() -> None:
    text = reported([(3, 1), (2, 2)], 40)
    assert counts(text, drafter="prompt-lookup")[0].name == "sums/1"
    whole = reported([(3, 1), (0, 0), (2, 2), *[(0, 0)] * 8], manner=Manner(counts_empty=True))
    definition, found = counts(whole, drafter="prompt-lookup")
    assert definition.name == DEFINITION
    assert found.total_rounds == 9


def test_pooled_sums_are_one_row() -> None:
    texts = [reported(None, 64) for _ in range(4)]
    with pytest.raises(MeasurementError, match="counted in different manners"):
        definition_of(texts, "draft", Pooled(Totals(124, 372, 128), Manner(prefill_drafts=True)))
    definition, found = counts(
        *[reported(None, 64, Manner(end="full"))] * 4, pooled=Pooled(Totals(124, 372, 128, (70, 39, 19)), Manner(end="full"))
    )
    assert definition.name == "sums/1-full"
    assert (found.prompts, found.acceptance_rate) == ((POOLED,), 128 / 372)


def test_texts_without_numbers_are_refused() -> None:
    with pytest.raises(MeasurementError, match="comes without rounds or sums; turn on"):
        counts(reported(None, 12))
