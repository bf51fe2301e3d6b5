"""The decoder's texts are the target's: judged token by token from the text alone, no baseline needed.

`--specdec-engine=decode` judges what speculative decoding emits; replay's own texts are judged without it.
"""

import pytest

PAIR = {"target": "../models/text-target", "prompts": "../text/prompts.jsonl"}


@pytest.mark.specdec(drafter="../models/text-draft", k=4, depth=0, **PAIR)
def test_sampled_texts_conform(specdec_conformance):
    assert specdec_conformance.conforms, specdec_conformance.message


@pytest.mark.specdec(drafter="mtp", k=3, depth=3, temperature=0, **PAIR)
def test_greedy_texts_conform(specdec_conformance):
    assert specdec_conformance.conforms, specdec_conformance.message
