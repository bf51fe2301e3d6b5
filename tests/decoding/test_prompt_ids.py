"""Prompts as callers pass them: strings and ids, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.embedded import Pair

from pytest_specdec import decode, decode_tree
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.prompt_ids import prompt_ids


def test_strings_are_encoded_and_ids_kept(pair: Pair) -> None:
    (text,) = prompt_ids([pair.target], ["The function"], 4)
    assert pair.target.tokenizer.decode(text, skip_special_tokens=True) == "The function"
    assert prompt_ids([pair.target], [tuple(text)], 4) == [text]


@pytest.mark.parametrize(
    ("prompts", "new_tokens", "message"),
    [
        ("The function", 4, "prompts is the string 'The function'.*; pass a list of prompts"),
        ([], 4, "prompts of at least one token each; pass some"),
        ([[]], 4, "prompts of at least one token each; pass some"),
        ([[1, 2]], 0, "new_tokens is 0; ask for at least one"),
        ([[1] * 400], 4000, "longer than the context .*; shorten the prompt"),
    ],
)
def test_what_cannot_be_decoded_is_refused(
    pair: Pair, prompts: Any, new_tokens: int, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        decode(pair.target, None, prompts, k=0, new_tokens=new_tokens)
    with pytest.raises(RequestError, match=message):
        decode_tree(pair.target, pair.draft, prompts, tree="0 1", new_tokens=new_tokens)
