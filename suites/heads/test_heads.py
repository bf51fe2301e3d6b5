"""Medusa heads and a DFlash drafter for the embedded target, against `baselines/heads/`.

They draft fewer tokens than the main job's k, so run them with their own: `pytest suites/heads`.
"""

import pytest

PAIR = {"target": "../models/text-target", "prompts": "../text/prompts.jsonl", "depth": [0]}
MEDUSA = {"k": [1, 2, 3, 4], **PAIR}
"""One head for each draft token."""
BLOCKS = {"k": [3, 7], **PAIR}
"""Trained with blocks of 7 drafts: each k is a block of its own."""


@pytest.mark.specdec(drafter="../models/text-medusa", temperature=1.0, **MEDUSA)
def test_medusa_heads(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="../models/text-medusa", temperature=0, **MEDUSA)
def test_medusa_heads_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="../models/text-medusa", temperature=1.0, drafting="argmax", **MEDUSA)
def test_medusa_heads_drafting_as_vllm(specdec_run, specdec_baseline):
    """Arg-max drafts with one-hot q."""
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="../models/text-dflash", temperature=1.0, **BLOCKS)
def test_dflash_drafter(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline


@pytest.mark.specdec(drafter="../models/text-dflash", temperature=0, **BLOCKS)
def test_dflash_drafter_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
