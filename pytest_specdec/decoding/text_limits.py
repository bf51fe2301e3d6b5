"""What models can read: texts within their context, and tokens of their vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from ..common.errors import RequestError
from .loading import LoadedModel


def check_context(
    models: Sequence[LoadedModel],
    longest: int,
    *,
    new_tokens: int | None = None,
    cure: str = "shorten the prompt or lower --specdec-new-tokens",
) -> None:
    """Refuse a text of `longest` tokens, its prompt included, that a model's context does not hold.

    `new_tokens` of them, where that is known, are still to be emitted. Raises RequestError that
    ends with the cure.
    """
    new = "" if new_tokens is None else f" ({new_tokens} of them new)"
    for model in models:
        if (context := model.checkpoint.context) is not None and longest > context:
            raise RequestError(
                f"a text of {longest} tokens{new} is longer than the context of "
                f"{model.checkpoint.folder} ({context}); {cure}"
            )


def check_tokens(models: Sequence[LoadedModel], texts: Sequence[Sequence[int]]) -> None:
    """Raises RequestError for texts with token ids that a model does not have."""
    lowest, highest = (pick((pick(ids) for ids in texts if ids), default=0) for pick in (min, max))
    for model in models:
        rows = model.model.get_input_embeddings().num_embeddings
        if lowest < 0 or highest >= rows:
            wrong = lowest if lowest < 0 else highest
            raise RequestError(
                f"a text holds the token {wrong} and {model.checkpoint.folder} knows {rows} "
                "tokens; use texts of this model's tokenizer"
            )
