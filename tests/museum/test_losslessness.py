"""Every wrong sampler of the museum is found, and every correct one passes, however unusual."""

from __future__ import annotations

import re

import pytest
from helpers.support import ROOT
from helpers.tiers import exhaustive, some
from museum import ragged, reference
from museum.losslessness import level, passed
from museum.mutants import MUTANTS, ROUNDS, VERIFIERS, Mutant
from museum.ragged import RAGGED, Ragged
from museum.unusual import UNUSUAL, Unusual

from pytest_specdec.lossless import flat_batch
from pytest_specdec.lossless.samplers.check import assert_lossless

SOURCE = re.compile(r"[\w.-]+/[\w.-]+#\d+|arXiv:\d{4}\.\d{5}")


@pytest.mark.parametrize("mutant", some(MUTANTS, 6), ids=lambda mutant: mutant.name)
def test_it_is_found(mutant: Mutant) -> None:
    with pytest.raises(AssertionError, match="not lossless") as raised:
        assert_lossless(mutant.sample, drafts=mutant.drafts, batched=mutant.batched)
    assert (level(raised.value) == "contract") == (mutant.level != "distribution")


@pytest.mark.parametrize("sampler", some(RAGGED, 4), ids=lambda sampler: sampler.name)
def test_ragged_rows_that_are_mixed_up_are_found(sampler: Ragged) -> None:
    with pytest.raises(AssertionError, match="not lossless"):
        assert_lossless(flat_batch(sampler.sample), max_examples=25)


@pytest.mark.parametrize("sampler", some(UNUSUAL, 3), ids=lambda sampler: sampler.name)
def test_it_passes(sampler: Unusual) -> None:
    assert passed(sampler, 15).method == "exact"


@pytest.mark.parametrize("examples", [12, exhaustive(30)])
def test_what_they_deviate_from_passes(examples: int) -> None:
    few = {"max_examples": examples}
    assert assert_lossless(reference.reference, batched=True, **few).method == "exact"
    whole = assert_lossless(reference.whole_round, drafts="own", batched=True, **few)
    assert whole.method == "exact"
    assert assert_lossless(flat_batch(ragged.reference), **few).method == "exact"


def test_the_museum_is_whole() -> None:
    assert len(MUTANTS) >= 24
    assert len(UNUSUAL) >= 10
    assert {mutant.drafts for mutant in VERIFIERS} == {"given"}
    assert {mutant.drafts for mutant in ROUNDS} == {"own"}
    assert (
        len({exhibit.name for exhibit in (*MUTANTS, *UNUSUAL)} - {"greedy drafts"})
        == len(MUTANTS) + len(UNUSUAL) - 2
    )


@pytest.mark.parametrize("mutant", [*MUTANTS, *RAGGED], ids=lambda mutant: mutant.name)
def test_its_source_is_a_report_or_a_paper(mutant: Mutant | Ragged) -> None:
    assert SOURCE.fullmatch(mutant.source)


def test_the_page_shows_every_sampler() -> None:
    page = (ROOT / "docs" / "museum-losslessness.md").read_text().splitlines()
    rows = [line.split("|")[1].replace("\\*", "").strip() for line in page if line.startswith("| ")]
    assert [row for row in rows if row != "sampler"] == [
        exhibit.name for exhibit in (*MUTANTS, *RAGGED, *UNUSUAL)
    ]
