"""Speculative generation: draft, verify in one target pass, accept, take the caches back,
repeat.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ..acceptance.counts import Counts
from ..acceptance.rounds import Round, counts_of_rounds
from ..cases.case import Sampling, checked_rule
from ..cases.texts import Text, texts_from_ids
from ..common.errors import RequestError
from .batch import BatchRow, DecodingPlan, run
from .clock import Lap
from .loading import LoadedModel, loaded
from .replay import Progress, loaded_pair
from .sampling import eos_ids
from .verification import rule_named


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What speculative decoding emitted, round by round."""

    texts: tuple[Text, ...]
    rounds: tuple[tuple[Round, ...], ...]
    """Per text, the last round cut short where the text ended."""
    k: int
    draft_ms: tuple[float, ...]
    """Milliseconds of drafting, one for each round of a batch."""
    verify_ms: tuple[float, ...]
    """Milliseconds of the rest of a round, above all the target's pass; one for each round of a
    batch.
    """

    @property
    def counts(self) -> Counts:
        """Counts of the rounds whose k draft positions all lie in the text."""
        return counts_of_rounds(self.texts, self.rounds, self.k)


def decode(
    target: str | LoadedModel,
    drafter: str | LoadedModel | None,
    prompts: Sequence[Sequence[int]] | Sequence[str],
    *,
    k: int,
    depth: int = 0,
    rule: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    new_tokens: int = 128,
    batch_size: int = 16,
    seed: int = 0,
    confidence: float = 0.0,
    progress: Progress | None = None,
) -> Decoded:
    """Decode speculatively after prompts, token ids or strings; models as paths, hub ids or loaded.

    `drafter` is a model, `"mtp"` for the target's own heads (depth at least 1), `"prompt-lookup"`,
    or None with k = 0 for plain decoding. `rule` is `rejection` unless told otherwise, `greedy` at
    temperature 0. With a `confidence` a draft model of depth 0 stops behind the first draft that it
    found less likely than this. An EOS token ends a text and is kept. Raises RequestError for a
    pair, rule or prompt that cannot be decoded, and MeasurementError for a target that returns NaN.
    """
    chosen = rule_named(checked_rule(rule, temperature))
    own, model = _loaded(target, drafter, k, depth)
    if confidence and (depth or not isinstance(model, LoadedModel)):
        raise RequestError(
            "a confidence stops draft models without MTP heads; leave it out, or draft with a "
            "model at depth 0"
        )
    ids = [
        own.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else list(prompt)
        for prompt in prompts
    ]
    _check_prompts([own, *([model] if isinstance(model, LoadedModel) else [])], ids, new_tokens)
    plan = DecodingPlan(
        own,
        model,
        k,
        depth,
        Sampling(temperature, top_k, top_p),
        chosen,
        torch.Generator(own.device).manual_seed(seed),
        frozenset(eos_ids(own)),
        confidence,
    )
    done: dict[int, BatchRow] = {}
    laps: list[Lap] = []
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for begin in range(0, len(order), batch_size):
        rows = [
            BatchRow([*ids[row]], len(ids[row]) + new_tokens)
            for row in order[begin : begin + batch_size]
        ]
        laps += run(plan, rows)
        done |= dict(zip(order[begin : begin + batch_size], rows, strict=True))
        if progress:
            progress(len(done), len(order))
    rows = [done[row] for row in range(len(ids))]
    texts = texts_from_ids([row.tokens for row in rows], [len(prompt) for prompt in ids])
    draft_ms, verify_ms = tuple(lap.draft_ms for lap in laps), tuple(lap.verify_ms for lap in laps)
    return Decoded(texts, tuple(tuple(row.rounds) for row in rows), k, draft_ms, verify_ms)


def _loaded(
    target: str | LoadedModel, drafter: str | LoadedModel | None, k: int, depth: int
) -> tuple[LoadedModel, LoadedModel | str | None]:
    if (drafter is None) != (k == 0):
        raise RequestError(
            "plain decoding is k = 0 without a drafter; name a drafter, or pass k=0 and None"
        )
    return (loaded(target), None) if drafter is None else loaded_pair(target, drafter, depth)


def _check_prompts(
    models: Sequence[LoadedModel], prompts: Sequence[Sequence[int]], new_tokens: int
) -> None:
    """Raises RequestError for no prompt, an empty one, or one that leaves no room in a model's
    context.
    """
    if not prompts or not all(map(len, prompts)):
        raise RequestError("decode needs prompts of at least one token each; pass some")
    if new_tokens < 1:
        raise RequestError(f"new_tokens is {new_tokens}; ask for at least one")
    longest = max(map(len, prompts)) + new_tokens
    for model in models:
        if (context := model.checkpoint.context) is not None and longest > context:
            raise RequestError(
                f"a prompt and {new_tokens} new tokens make {longest}, more than the context of "
                f"{model.checkpoint.folder} "
                f"({context}); shorten the prompt or ask for fewer new tokens"
            )
