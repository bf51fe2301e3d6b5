"""Counts of a run as a record stores them, and read again."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from helpers.records import steady_counts

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.records.measured import MeasuredRun
from pytest_specdec.records.prompt_counts import rows_of_run, run_of_rows

PROPOSED = 0.9
"""Share of rounds in which the drafter has k tokens to propose."""


def drafting_less(counts: Counts, share: float = PROPOSED) -> Counts:
    """The same acceptance by a drafter that does not always have k tokens to propose."""
    return dataclasses.replace(counts, drafted=np.repeat(counts.rounds[:, None], 3, 1) * share)


def run(smoothed: Counts) -> MeasuredRun:
    counts = drafting_less(steady_counts(4))
    texts = dict.fromkeys(counts.prompts, "text")
    return MeasuredRun(counts=counts, text_fingerprints=texts, smoothed=smoothed)


@pytest.mark.parametrize("share", [PROPOSED, 0.8])
def test_smoothed_counts_keep_their_drafted_tokens(share: float) -> None:
    smoothed = drafting_less(steady_counts(4), share)
    read = run_of_rows(rows_of_run(run(smoothed)), 3).smoothed
    assert read is not None
    np.testing.assert_allclose(read.drafted, smoothed.drafted)


def test_smoothed_counts_of_earlier_versions_drafted_what_exact_ones_did() -> None:
    smoothed = drafting_less(steady_counts(4))
    rows = {
        key: msgspec.structs.replace(
            row, smoothed=msgspec.structs.replace(row.smoothed, drafted=None)
        )
        for key, row in rows_of_run(run(smoothed)).items()
        if row.smoothed is not None
    }
    read = run_of_rows(rows, 3).smoothed
    assert read is not None
    np.testing.assert_allclose(read.drafted, smoothed.drafted)
