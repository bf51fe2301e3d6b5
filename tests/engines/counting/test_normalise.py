"""One definition where rounds are reported, another one, by name, where only sums are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.reports import reported, request
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.cases.case import DEFINITION
from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.engines.adapter_api import CountingConvention, PooledCounters, Reported, Totals
from pytest_specdec.engines.counting.checks import check_reported
from pytest_specdec.engines.counting.normalise import (
    POOLED,
    comparable_rounds,
    definition_of,
    normalised,
)

ROUNDS = [(3, 1), (3, 3), (3, 0), (2, 2), (1, 0)]


def counts(*texts: Reported, pooled: PooledCounters | None = None, drafter: str = "draft"):
    definition = definition_of(texts, drafter, pooled)
    return definition, normalised(definition, texts, ["all"] * len(texts), 3, pooled)


def test_rounds_inside_the_text_are_counted_and_those_near_its_end_are_not() -> None:
    definition, run_counts = counts(reported(ROUNDS))
    assert definition.name == DEFINITION
    assert run_counts.rounds.tolist() == [4]  # the fourth starts 4 tokens before the end
    assert run_counts.drafted.tolist() == [[4, 4, 3]]
    assert run_counts.accepted.tolist() == [[3, 2, 1]]


def test_the_prompt_passs_round_is_played_and_not_counted() -> None:
    plain, assisted = (
        counts(reported(ROUNDS)),
        counts(reported([(3, 2), *ROUNDS], convention=CountingConvention(prefill_drafts=True))),
    )
    assert plain[0].name == assisted[0].name == DEFINITION
    np.testing.assert_array_equal(plain[1].accepted, assisted[1].accepted)
    np.testing.assert_array_equal(plain[1].rounds, assisted[1].rounds)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """How a greedy engine cuts a text into rounds; `spare` tokens are kept for the bonus token
    where it clips its drafts.
    """

    convention: CountingConvention
    spare: int = 1

    def decode(self, matching: list[int], k: int = 3) -> Reported:
        """A text whose draft at each place agrees with so many tokens from there on."""
        at, rounds = int(not self.convention.prefill_drafts), []
        while at < len(matching):
            drafted = (
                k
                if self.convention.end == "full"
                else max(0, min(k, len(matching) - at - self.spare))
            )
            accepted = min(drafted, matching[at])
            if drafted or self.convention.counts_empty:
                rounds.append((drafted, accepted))
            at += accepted + 1
        return reported(rounds, len(matching), self.convention)


def decoders(*, prefill: bool) -> list[Decoder]:
    """llama.cpp and OpenVINO, transformers; ONNX Runtime; vLLM; an engine that clips and leaves
    empty rounds out.
    """
    clipped, full = (
        CountingConvention(
            prefill_drafts=prefill, end="clipped", undelivered=True, counts_empty=True
        ),
        CountingConvention(prefill_drafts=prefill, end="full", undelivered=True),
    )
    return [
        Decoder(clipped),
        Decoder(clipped, spare=0),
        Decoder(full),
        Decoder(dataclasses.replace(clipped, counts_empty=False)),
    ]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_engines_that_start_alike_play_the_same_rounds(matching: list[int]) -> None:
    """However they clip their drafts at the end, and whether they count rounds without any."""
    for prefill in (False, True):
        texts = [decoder.decode(matching) for decoder in decoders(prefill=prefill)]
        for text in texts:
            check_reported(text, request(new_tokens=len(matching)))
        first, *others = [comparable_rounds(text, 3) for text in texts]
        assert all(played.drafted == 3 for played in first)
        assert others == [first] * len(others)


def test_engines_that_start_elsewhere_play_others() -> None:
    """Drafting in the prompt pass: the same text, cut one token earlier."""
    matching = [1, 0, 2, 1, 0, 0, 3, 2, 1, 0, 0, 0, 0]
    after, before = (decoders(prefill=prefill)[0].decode(matching) for prefill in (False, True))
    assert after.new_ids == before.new_ids
    assert [played.start - 3 for played in comparable_rounds(after, 3)] == [1, 2, 5, 6]
    assert [played.start - 3 for played in comparable_rounds(before, 3)] == [2, 5, 6]


def test_sums_stand_under_a_definition_of_their_own() -> None:
    definition, run_counts = counts(
        reported(None, 12, totals=Totals(rounds=5, drafted=12, accepted=6, per_position=(3, 2, 1)))
    )
    assert definition.name == "sums/1"
    assert (run_counts.total_rounds, run_counts.drafted.sum(), run_counts.accepted.tolist()) == (
        5,
        12,
        [[3, 2, 1]],
    )
    assert run_counts.drafted.tolist() == [[5, 5, 2]]
    assert run_counts.acceptance_rate == 0.5


@pytest.mark.parametrize(
    ("convention", "name"),
    [
        (CountingConvention(prefill_drafts=True), "sums/1-prefill"),
        (CountingConvention(end="full"), "sums/1-full"),
        (CountingConvention(counts_empty=True), "sums/1-empty"),
    ],
)
def test_a_definition_says_how_the_engine_counts(convention: CountingConvention, name: str) -> None:
    assert (
        counts(
            reported(
                None,
                12,
                convention,
                totals=Totals(rounds=5, drafted=15, accepted=6, per_position=(3, 2, 1)),
            )
        )[0].name
        == name
    )
    assert (
        counts(reported(None, 12, convention, totals=Totals(rounds=5, drafted=15, accepted=6)))[
            0
        ].name
        == f"{name}-no-positions"
    )


def test_sums_without_positions_keep_the_rate_and_the_length() -> None:
    definition, run_counts = counts(
        reported(None, 12, totals=Totals(rounds=None, drafted=12, accepted=6))
    )
    assert (
        definition.name == "sums/1-empty-no-positions"
    )  # rounds computed from the tokens alone include the empty ones
    assert (run_counts.total_rounds, run_counts.acceptance_rate, run_counts.acceptance_length) == (
        5,
        0.5,
        1 + 6 / 5,
    )


def test_drafts_that_are_missing_are_missing_where_nothing_was_accepted() -> None:
    """A perfect drafter: every draft accepted, the last rounds cut short."""
    _, run_counts = counts(
        reported(None, 12, totals=Totals(rounds=3, drafted=8, accepted=8, per_position=(3, 3, 2)))
    )
    assert run_counts.drafted.tolist() == [[3, 3, 2]]
    assert run_counts.acceptance_rate == 1


def test_prompt_lookup_without_its_empty_rounds_has_no_positions() -> None:
    text = reported([(3, 1), (2, 2)], 40)
    assert counts(text, drafter="prompt-lookup")[0].name == "sums/1"
    whole = reported(
        [(3, 1), (0, 0), (2, 2), *[(0, 0)] * 8], convention=CountingConvention(counts_empty=True)
    )
    definition, run_counts = counts(whole, drafter="prompt-lookup")
    assert definition.name == DEFINITION
    assert run_counts.total_rounds == 9


def test_pooled_sums_are_one_row() -> None:
    texts = [reported(None, 64) for _ in range(4)]
    with pytest.raises(MeasurementError, match="follow different counting conventions"):
        definition_of(
            texts,
            "draft",
            PooledCounters(
                Totals(rounds=124, drafted=372, accepted=128),
                CountingConvention(prefill_drafts=True),
            ),
        )
    definition, run_counts = counts(
        *[reported(None, 64, CountingConvention(end="full"))] * 4,
        pooled=PooledCounters(
            Totals(rounds=124, drafted=372, accepted=128, per_position=(70, 39, 19)),
            CountingConvention(end="full"),
        ),
    )
    assert definition.name == "sums/1-full"
    assert (run_counts.prompts, run_counts.acceptance_rate) == ((POOLED,), 128 / 372)


def test_texts_without_numbers_are_refused() -> None:
    with pytest.raises(MeasurementError, match="comes without rounds or sums; turn on"):
        counts(reported(None, 12))
