"""What drafters find likeliest in the contexts of a text, beside their own logits."""

from __future__ import annotations

import pytest
import torch
from helpers.embedded import Pair
from helpers.support import EMBEDDED

from pytest_specdec import decode
from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.likeliest_drafts import likeliest_drafts

SAMPLING = Sampling(0.8, 20, 0.9)


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_a_draft_models_likeliest_tokens_are_those_of_its_logits(
    pair: Pair, temperature: float
) -> None:
    sampling = SAMPLING if temperature else Sampling(0.0)
    texts = decode(pair.target, None, pair.prompts[:3], k=0, temperature=1.0, new_tokens=24).texts
    found = likeliest_drafts(pair.target, drafter_for(pair.target, pair.draft, 0), texts, sampling)
    assert found is not None
    for text, likeliest in zip(texts, found, strict=True):
        with torch.inference_mode():
            logits = pair.draft.model(torch.tensor([text.ids])).logits[0]
        before = logits[text.first_draft - 1 : -1]
        assert likeliest.tokens == tuple(before.argmax(-1).tolist())
        if temperature == 0:
            assert set(likeliest.probabilities) == {1.0}
        else:
            q = torch.softmax(before / temperature, -1).amax(-1)
            assert (torch.tensor(likeliest.probabilities) >= q - 1e-5).all()


def test_an_eagle3_heads_are_ids_of_the_target(pair: Pair) -> None:
    """At temperature 0 a first draft that is not the likeliest is never accepted, and one that is,
    always.
    """
    head = str(EMBEDDED / "text-eagle3")
    decoded = decode(pair.target, head, pair.prompts[:3], k=1, temperature=0, new_tokens=32)
    drafter = drafter_for(pair.target, head, 0)
    found = likeliest_drafts(pair.target, drafter, decoded.texts, Sampling(0.0))
    assert found is not None
    for text, rounds, likeliest in zip(decoded.texts, decoded.rounds, found, strict=True):
        for played in rounds:
            if played.drafted:
                draft = likeliest.tokens[played.start - text.first_draft]
                assert (draft == text.ids[played.start]) == bool(played.accepted)


def test_prompt_lookup_shows_nothing(pair: Pair) -> None:
    texts = decode(pair.target, None, pair.prompts[:1], k=0, new_tokens=8).texts
    drafter = drafter_for(pair.target, "prompt-lookup", 0)
    assert likeliest_drafts(pair.target, drafter, texts, SAMPLING) is None
