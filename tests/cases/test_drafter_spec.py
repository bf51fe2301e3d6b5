"""Drafters and their names: what is parsed, and that a name comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.cases.drafter_spec import (
    LOOKUP,
    OWN_HEADS,
    SERVED,
    DrafterSpec,
    DraftModelSpec,
    OwnHeadsSpec,
    PromptLookupSpec,
    ServedSpec,
    parse_drafter,
)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        (OWN_HEADS, OwnHeadsSpec()),
        (LOOKUP, PromptLookupSpec()),
        (SERVED, ServedSpec()),
        ("org/draft", DraftModelSpec("org/draft")),
        ("/models/mtp", DraftModelSpec("/models/mtp")),
        ("MTP", DraftModelSpec("MTP")),
    ],
)
def test_a_name_is_a_drafter(name: str, spec: DrafterSpec) -> None:
    assert parse_drafter(name) == spec
    assert len({parse_drafter(name), spec}) == 1


@given(st.text() | st.sampled_from([OWN_HEADS, LOOKUP, SERVED]))
def test_a_name_comes_back_as_it_was(name: str) -> None:
    assert str(parse_drafter(name)) == name
