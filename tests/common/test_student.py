"""Quantiles of Student's distribution, against scipy's statistics."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from pytest_specdec.common.student import student_quantile


@pytest.mark.parametrize("prompts", [2, 3, 40, 1001])
@pytest.mark.parametrize("share", [1e-9, 0.01, 0.5, 0.975, 1 - 1e-9])
def test_it_is_scipys(share: float, prompts: int) -> None:
    assert student_quantile(share, prompts) == stats.t.ppf(share, prompts - 1)
    assert -student_quantile(share, prompts) == stats.t.isf(share, prompts - 1)


def test_one_prompt_has_none() -> None:
    assert math.isnan(student_quantile(0.975, 1))
