"""Constrained texts under the target's weights: each token is the arg-max that its mask allows.

The masks are made here, by the extra `constraints`, from the token ids that the server returns.
"""

from __future__ import annotations

import dataclasses

from ..cases.case import Case
from ..cases.processors import parse_processors
from ..cases.prompts import Prompt
from ..cases.texts import Text
from ..checkpoints.checkpoint import case_checkpoint
from ..common.errors import RequestError
from ..engines.encoding import encoded
from ..engines.protocol import Engine
from .constraints import MOST_PROMPTS, ConstrainedTexts, Constraint


def masked_fault(
    engine: Engine,
    case: Case,
    asked: ConstrainedTexts,
    prompts: tuple[Prompt, ...],
    alpha: float,
) -> tuple[str | None, int]:
    """The first token that is not the likeliest allowed one by the target's weights, in a sentence,
    None where all are; and how many tokens were judged.

    Raises RequestError where the server returned no token ids, for chat prompts, and without the
    extra `constraints`.
    """
    chosen = prompts[:MOST_PROMPTS]
    if any(prompt.text is None for prompt in chosen):
        raise RequestError("chat prompts have the server's own template; use plain prompts")
    model = engine.models.model(case.target)
    prompt_ids = encoded(case_checkpoint(case.target), lambda: model, chosen)
    judged = 0
    for constraint, served in asked.texts.items():
        texts = []
        for prompt, before, text in zip(chosen, prompt_ids, served, strict=True):
            if text.ids is None:
                raise RequestError("the server returns no token ids with its texts")
            ids = (*before, *text.ids)
            texts.append(Text(key=prompt.key, category="all", ids=ids, prompt_length=len(before)))
        # An engine may write forced letters in canonical tokens: either way is right.
        exact, canonical = (
            engine.models.conformance(_masked(case, constraint, canonical), texts, alpha)
            for canonical in (False, True)
        )
        if not exact.conforms and not canonical.conforms:
            return f"{constraint.name}: {exact.message}", judged
        judged += exact.tokens
    return None, judged


def _masked(case: Case, constraint: Constraint, canonical: bool) -> Case:
    """The case, greedy under a constraint."""
    spec = parse_processors({**constraint.processors, "canonical": canonical})
    texts = dataclasses.replace(case.texts, temperature=0.0, processors=spec)
    return dataclasses.replace(case, texts=texts, rule="greedy")
