"""Margins of an EAGLE-3 head's drafts, which tell near-ties from faults in greedy engines."""

from __future__ import annotations

import dataclasses

import numpy as np
from helpers.real_engine import case
from helpers.support import EMBEDDED

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.drafter import RegisteredSpec
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.engines.counting.margins import draft_margins

K = 4


def test_a_draft_is_accepted_where_its_margin_is_positive() -> None:
    target = load_model(str(EMBEDDED / "text-target"), "cpu")
    head = RegisteredSpec("eagle3", EMBEDDED / "text-eagle3")
    measured = dataclasses.replace(case("decode", k=K), drafter=head)
    prompts = [[0, 310, 400, 55], [0, 84, 267]]
    texts = decode(target, None, prompts, k=0, new_tokens=40, temperature=0).texts
    (scores,) = text_scores(target, [DrafterPlan(head, 0, K)], texts, Sampling(0.0))
    accepted = 0
    for row, text in enumerate(texts):
        margins = draft_margins(target, head, measured, text)
        assert margins.shape == (K, len(text.ids))
        for step in range(K):
            drafted = range(max(text.prompt_length, step + 2), len(text.ids))
            chosen = scores.draft[row, step, drafted] == 0
            assert np.array_equal(margins[step, drafted] > 0, chosen)
            accepted += int(chosen.sum())
            assert np.isposinf(margins[step, : step + 2]).all()
    assert 50 < accepted < 2 * K * 40
