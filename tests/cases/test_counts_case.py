"""The case of counts that a test hands over."""

from __future__ import annotations

import pytest
from helpers.records import case

from pytest_specdec.cases.counts_case import COUNTS, NOT_STATED, CountsCase, checked_name
from pytest_specdec.common.errors import RequestError


def test_its_name_is_the_gates_and_its_models_are_not_stated() -> None:
    made = CountsCase.of("eagle3-tp2", suite="chat", k=3, margin=0.05)
    assert (made.name, made.id) == ("eagle3-tp2", "chat/eagle3-tp2")
    assert (made.k, made.margin, made.engine) == (3, 0.05, COUNTS)
    assert {made.target, str(made.drafter), made.rule} == {NOT_STATED}
    assert not made.describes_models
    assert case().describes_models


@pytest.mark.parametrize("name", ["a", "eagle3", "Qwen3-8B_k3.t0", "tp=2", "a@b+c", "x" * 200])
def test_names_that_files_can_have(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "/a", "-a", ".a", "a b", "a\n", "é", "a.", "x" * 201, 3, None],
)
def test_other_names_are_refused(name: object) -> None:
    with pytest.raises(RequestError, match="cannot name a gate, whose baseline is the file"):
        checked_name(name)
