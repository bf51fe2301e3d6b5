"""Acceptance that is too high: drafts that do not follow the q of their acceptance test.

huggingface/transformers#47932 drew drafts from another distribution than it reported; acceptance
rose from 0.728 to 0.783, and no floor can see that. The decoder's own texts, replayed, say what its
models allow.
"""

from __future__ import annotations

import pytest
import torch
from helpers.support import EMBEDDED
from museum.measure import PROMPTS

from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.decoding.drafters import drafts
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.gate.refusals import too_good

TEXTS = TextKey("museum", str(EMBEDDED / "text-target"), PROMPTS, None, 128, 1.0, 3)
CASE = Case(
    texts=TEXTS,
    drafter=DraftModelSpec(str(EMBEDDED / "text-draft")),
    label="draft",
    k=4,
    depth=0,
    rule="rejection",
    margin=0.005,
    engine="decode",
)


def sharper_than_reported(patch: pytest.MonkeyPatch, temperature: float) -> None:
    """Draw drafts at another temperature than the one that is reported."""
    draw = drafts.Drafts.take

    def take(self: drafts.Drafts, logits: torch.Tensor) -> None:
        draw(self, logits / temperature)
        self._kept[-1] = drafts.filtered(logits, self._sampling)

    patch.setattr(drafts.Drafts, "take", take)


@pytest.mark.parametrize(("temperature", "refused"), [(1.0, False), (0.5, True)])
def test_drafts_from_another_distribution_than_their_q_are_refused(
    monkeypatch: pytest.MonkeyPatch, temperature: float, refused: bool
) -> None:
    sharper_than_reported(monkeypatch, temperature)
    measured = DecodeEngine(ModelPool("cpu")).measure(CASE)
    assert measured.expected is not None
    reason = too_good(measured.counts, measured.expected, gates=16)
    assert (reason is not None) is refused
    if refused:
        assert measured.counts.acceptance_length > 1.03 * measured.expected.acceptance_length
