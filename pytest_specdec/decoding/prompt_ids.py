"""Prompts as callers pass them, as token ids."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.errors import RequestError
from .loading import LoadedModel
from .text_limits import check_context, check_tokens


def prompt_ids(
    models: Sequence[LoadedModel],
    prompts: Sequence[Sequence[int]] | Sequence[str],
    new_tokens: int,
) -> list[list[int]]:
    """The token ids of each prompt by the tokenizer of the first of the models, the target.

    Raises RequestError for one string in place of a list, no prompt, an empty one, one that leaves
    no room in a model's context, or no new token.
    """
    if isinstance(prompts, str):
        raise RequestError(
            f"prompts is the string {prompts[:40]!r}, and its letters are no prompts; pass a list "
            "of prompts"
        )
    ids = [
        models[0].tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
        for prompt in prompts
    ]
    if not ids or not all(map(len, ids)):
        raise RequestError("decoding needs prompts of at least one token each; pass some")
    if new_tokens < 1:
        raise RequestError(f"new_tokens is {new_tokens}; ask for at least one")
    check_tokens(models[:1], ids)
    check_context(
        models,
        max(map(len, ids)) + new_tokens,
        new_tokens=new_tokens,
        cure="shorten the prompt or ask for fewer new tokens",
    )
    return ids
