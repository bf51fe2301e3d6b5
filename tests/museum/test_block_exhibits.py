"""Exhibits of block drafters: gate and oracle see each defect, and pass their right twin."""

from __future__ import annotations

import dataclasses

import pytest
from helpers.tiers import some
from museum.exhibit import Exhibit
from museum.exhibits_blocks import BLOCK, BLOCK_EXHIBITS
from museum.measure import Lab
from museum.test_acceptance import judge_by_the_gate


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("museum"))


@pytest.mark.parametrize("exhibit", some(BLOCK_EXHIBITS, 5), ids=lambda exhibit: exhibit.name)
def test_gate_and_oracle_see_what_they_can(lab: Lab, exhibit: Exhibit) -> None:
    """The oracle reads the same files, so it repeats what is wrong in them."""
    before = lab.baseline(exhibit.setting)
    now, agreement = lab.broken_and_judged(exhibit)
    judge_by_the_gate(exhibit, before, now)
    assert agreement.agrees is (exhibit.defect is None), agreement.message


def test_their_right_twin_passes(lab: Lab) -> None:
    sound = dataclasses.replace(BLOCK_EXHIBITS[0], defect=None)
    now, agreement = lab.broken_and_judged(sound)
    assert now.against(lab.baseline(BLOCK)).outcome == "pass"
    assert agreement.agrees, agreement.message
