"""Acceptance in one character a token."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.acceptance.renewal import AcceptanceField
from pytest_specdec.acceptance.token_acceptance import decoded, encoded, token_acceptance


@given(st.lists(st.floats(0, 1), max_size=40))
@PROPERTY
def test_a_probability_survives_to_half_a_level(values: list[float]) -> None:
    text = encoded(np.array(values))
    assert len(text) == len(values)
    assert text.isascii()
    assert decoded(text) == pytest.approx(np.array(values), abs=1 / 126 + 1e-12)
    assert encoded(decoded(text)) == text


def test_certainty_is_exact() -> None:
    assert decoded(encoded(np.array([0.0, 1.0]))).tolist() == [0.0, 1.0]


def test_another_character_is_refused() -> None:
    with pytest.raises(ValueError, match="substring not found"):
        decoded("0?")


def test_each_text_from_its_first_draft_to_its_end() -> None:
    accept = np.arange(20, dtype=float).reshape(2, 2, 5) / 10
    field = AcceptanceField(("a", "b"), ("x", "x"), accept, np.array([2, 1]), np.array([5, 3]))
    by_prompt = token_acceptance(field, 1)
    assert by_prompt["a"].tolist() == pytest.approx([0.7, 0.8, 0.9])
    assert by_prompt["b"].tolist() == [1.0, 1.0], (
        "block verification's ratios are not probabilities"
    )
