"""Grammars as masks: texts match, speculation changes nothing, and replay counts decode's rounds."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from helpers.embedded import Pair

from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Sampling
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import Decoded, decode
from pytest_specdec.decoding.grammars import GrammarMask, XgrammarMatcher, grammar_mask
from pytest_specdec.decoding.named_processors import ready_processors
from pytest_specdec.decoding.replay import replay
from pytest_specdec.decoding.sampling import sample_new_tokens
from pytest_specdec.lossless.texts.conformance import conformance

pytestmark = pytest.mark.slow

pytest.importorskip("llguidance", reason="needs the extra constraints")

PATTERN = r"[a-z ]{10,30}\."
REGEX = {"regex": PATTERN}
SCHEMA = {
    "json_schema": {
        "type": "object",
        "properties": {"a": {"type": "string", "maxLength": 6}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
}
NEW, K = 40, 3


def decoded(pair: Pair, drafter: Any, temperature: float, settings: Any) -> Decoded:
    return decode(
        pair.target,
        drafter,
        pair.prompts[::10],
        k=K,
        depth=2 * (drafter == OWN_HEADS),
        new_tokens=NEW,
        temperature=temperature,
        processors=settings,
    )


def written(pair: Pair, made: Decoded) -> list[str]:
    """The texts after the prompt, without the token that ends them; ended ones alone."""
    end = pair.target.tokenizer.eos_token_id
    return [
        pair.target.tokenizer.decode(text.ids[text.prompt_length : -1])
        for text in made.texts
        if text.ids[-1] == end
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("drafter", ["draft", OWN_HEADS, LOOKUP])
def test_texts_match_and_conform(pair: Pair, drafter: str, temperature: float) -> None:
    model = pair.draft if drafter == "draft" else drafter
    made = decoded(pair, model, temperature, REGEX)
    texts = written(pair, made)
    assert texts
    assert all(re.fullmatch(PATTERN, text) for text in texts)
    options: Any = {"temperature": temperature, "processors": REGEX}
    assert conformance(pair.target, made.texts, **options).conforms
    assert not conformance(pair.target, made.texts, temperature=temperature).conforms


@pytest.mark.parametrize("drafter", ["draft", OWN_HEADS, LOOKUP])
@pytest.mark.parametrize("on_drafts", [True, False])
def test_replay_counts_decodes_rounds(pair: Pair, drafter: str, on_drafts: bool) -> None:
    settings = REGEX | {"on_drafts": on_drafts}
    model = pair.draft if drafter == "draft" else drafter
    made = decoded(pair, model, 0.0, settings)
    expected = replay(
        pair.target,
        model,
        made.texts,
        k=K,
        depth=2 * (drafter == OWN_HEADS),
        temperature=0,
        processors=settings,
    )
    for field in ("rounds", "drafted", "accepted"):
        np.testing.assert_array_equal(getattr(made.counts, field), getattr(expected, field))


def test_a_schema_holds_and_speculation_keeps_the_text(pair: Pair) -> None:
    made = decoded(pair, pair.draft, 0.0, SCHEMA)
    for text in written(pair, made):
        assert set(json.loads(text)) == {"a", "b"}
    sampled = sample_new_tokens(
        pair.target,
        pair.prompts[::10],
        new_tokens=NEW,
        sampling=Sampling(0.0),
        seed=0,
        processors=ready_processors(SCHEMA, pair.target, 0.0),
    )
    assert [text.ids[text.prompt_length :] for text in made.texts] == sampled


def test_masks_do_not_depend_on_the_order_in_which_prefixes_are_asked(pair: Pair) -> None:
    mask = grammar_mask("regex", "[a-c]{2,3}", pair.target)
    letter = {name: pair.target.tokenizer.convert_tokens_to_ids(name) for name in "abcz"}
    end = pair.target.tokenizer.eos_token_id
    prefixes = [
        [],
        [letter["a"]],
        [letter["a"], letter["b"]],
        [letter["a"], letter["b"], letter["c"]],
        [letter["z"]],
        [letter["a"], letter["b"], end],
    ]
    prompt = [7, 8]

    def allowed(processor: Any, prefix: list[int]) -> set[int]:
        scores = processor(torch.tensor([prompt + prefix]), torch.zeros(1, 1024))
        return set((scores[0] == 0).nonzero()[:, 0].tolist())

    fresh = [allowed(mask.for_prompt(prompt), prefix) for prefix in prefixes]
    letters = {letter[name] for name in "abc"}
    assert fresh[:4] == [letters, letters, letters | {end}, {end}]
    assert fresh[4] == fresh[5] == set(range(1024))
    one = mask.for_prompt(prompt)
    for order in ([3, 0, 5, 2, 4, 1], [1, 4, 3, 5, 0, 2]):
        assert [allowed(one, prefixes[at]) for at in order] == [fresh[at] for at in order]


def test_xgrammar_and_llguidance_allow_the_same(pair: Pair) -> None:
    """Along texts that match, in both orders of asking."""
    xgrammar = pytest.importorskip("xgrammar", reason="xgrammar is not installed")
    tokenizer = pair.target.tokenizer
    end = tokenizer.eos_token_id
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=1024, stop_token_ids=[end])
    compiled = xgrammar.GrammarCompiler(info).compile_regex(PATTERN)
    other = GrammarMask(lambda: XgrammarMatcher(compiled), frozenset([end]))
    made = decoded(pair, pair.draft, 1.0, REGEX)
    for text in made.texts:
        prompt = text.ids[: text.prompt_length]
        masks = [
            mask.for_prompt(prompt) for mask in (grammar_mask("regex", PATTERN, pair.target), other)
        ]
        lengths = range(text.prompt_length, len(text.ids))
        for length in [*lengths, *reversed(lengths)]:
            ids = torch.tensor([text.ids[:length]])
            ours, theirs = (mask(ids, torch.zeros(1, 1024)) for mask in masks)
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("kind", "text"), [("regex", "[a-"), ("json_schema", '{"type": 3}'), ("lark", "start: foo")]
)
def test_a_grammar_that_cannot_be_read_is_refused(pair: Pair, kind: str, text: str) -> None:
    with pytest.raises(RequestError, match=f"llguidance cannot read the {kind}"):
        grammar_mask(kind, text, pair.target)
