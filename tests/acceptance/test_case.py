"""Names that everything else is filed under, and the number of drafter passes."""

from __future__ import annotations

from typing import Any

import pytest
from records import case

from pytest_specdec.acceptance.case import OWN_HEADS


def test_a_case_is_named_after_label_k_depth_and_temperature() -> None:
    measured = case(label="text-draft", k=8, depth=3, temperature=0.7, suite="text/long")
    assert measured.name == "text-draft-k8-depth3-t0.7"
    assert measured.id == "text/long/text-draft-k8-depth3-t0.7"


def test_texts_are_named_after_temperature_length_and_seed() -> None:
    assert case(temperature=0.0, new_tokens=96, seed=5).texts.name == "t0-n96-s5"


def test_the_name_does_not_follow_the_path_of_the_drafter() -> None:
    assert case(drafter="/elsewhere/newer").id == case(drafter="/models/draft").id


@pytest.mark.parametrize("change", [{"k": 4}, {"depth": 2}, {"temperature": 0.5}, {"label": "other"}, {"suite": "audio"}])
def test_what_decides_the_numbers_is_in_the_id(change: dict[str, Any]) -> None:
    assert case(**change).id != case().id


@pytest.mark.parametrize(
    ("k", "depth", "passes"), [(1, 0, 1), (8, 0, 8), (8, 1, 4), (9, 1, 5), (4, 3, 1), (5, 3, 2), (16, 3, 4), (2, 3, 1)]
)
def test_a_draft_model_takes_one_pass_for_each_one_plus_depth_tokens(k: int, depth: int, passes: int) -> None:
    assert case(k=k, depth=depth).passes == passes


@pytest.mark.parametrize("k", [1, 3, 8])
def test_own_heads_draft_all_tokens_in_one_pass(k: int) -> None:
    own = case(drafter=OWN_HEADS, k=k, depth=1)
    assert own.uses_own_heads
    assert own.passes == 1


def test_cases_that_differ_in_k_share_their_texts() -> None:
    assert case(k=4).texts == case(k=8).texts
    assert case(seed=1).texts != case(seed=2).texts
