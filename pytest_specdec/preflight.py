"""All that can be refused before a model is loaded, so that a mistake costs seconds and reads as one."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from .acceptance.case import MEASURE, REPLAYING, Case, TextKey
from .acceptance.prompts import read_prompts
from .baselines.store import BaselineStore
from .checkpoint import case_checkpoint, check_pair
from .errors import RequestError
from .gate.permutation import can_resolve, prompts_to_resolve
from .speedup.costs import CostProfile


def check(cases: Iterable[Case], store: BaselineStore) -> None:
    """Refuse cases whose checkpoints, prompts, costs or baselines cannot be used.

    Raises RequestError, CostError or BaselineError. Hub ids are checked when they are loaded.
    """
    cases = tuple(cases)
    for case in cases:
        target = case_checkpoint(case.target)
        drafter = None if case.draft_model is None else case_checkpoint(case.draft_model)
        if target is not None and (case.uses_own_heads or drafter is not None):
            check_pair(target, drafter, case.depth)
        store.record(case)
    for key in dict.fromkeys(case.texts for case in cases):
        _check_prompts(key, [case for case in cases if case.texts == key])
        if any(case.engine in REPLAYING for case in cases if case.texts == key):
            store.texts(key)
    for costs in {case.costs for case in cases if case.costs not in (None, MEASURE)}:
        CostProfile.load(str(costs))


def check_alone(cases: Iterable[Case], *, worker: bool) -> None:
    """Refuse to time rounds beside other workers. Raises RequestError."""
    if worker and any(case.costs == MEASURE for case in cases):
        raise RequestError(
            "--specdec-costs=measure beside other workers times them, too; run without -n, or name a file of costs"
        )


def check_prompts_suffice(cases: Iterable[Case], *, level: float, accumulate: bool) -> None:
    """Refuse sampled gates with too few prompts to ever fail. Replayed ones are exact while the target stays the same.

    Raises RequestError naming the number needed.
    """
    for key in {case.texts for case in cases if case.temperature > 0 and (accumulate or case.engine not in REPLAYING)}:
        prompts = len(read_prompts(key.prompts, key.prompt_limit))
        if not can_resolve(prompts, level):
            raise RequestError(
                f"{key.prompts}: {prompts} prompts can never fail a gate at level {level:.2g}; "
                f"use at least {prompts_to_resolve(level)}"
            )


def check_distinct(cases: Iterable[Case]) -> None:
    """Refuse two different cases that would share one baseline file."""
    seen: dict[str, Case] = {}
    for case in cases:
        if seen.setdefault(case.id, case) != case:
            raise RequestError(
                f"two different cases are both called {case.id} and would share a baseline; "
                "move one of the tests to a folder (suite) of its own"
            )


def _check_prompts(key: TextKey, cases: list[Case]) -> None:
    """Each prompt and its new tokens must fit the context of every model that reads them."""
    prompts = read_prompts(key.prompts, key.prompt_limit)
    target = case_checkpoint(key.target)
    models = [target, *(case_checkpoint(case.draft_model) for case in cases if case.draft_model is not None)]
    narrow = [(model.context, model.folder) for model in models if model is not None and model.context is not None]
    if not narrow or target is None or not (tokenizer := target.folder / "tokenizer.json").is_file():
        return
    context, folder = min(narrow)
    for text, length in _token_counts(tokenizer, tuple(prompt.text for prompt in prompts if prompt.text)).items():
        if length + key.new_tokens > context:
            raise RequestError(
                f"{key.prompts}: prompt {text[:40]!r} has {length} tokens; with {key.new_tokens} new ones it is longer "
                f"than the context of {folder} ({context}); shorten it or lower --specdec-new-tokens"
            )


@functools.cache
def _token_counts(tokenizer: Path, texts: tuple[str, ...]) -> dict[str, int]:
    try:
        from tokenizers import Tokenizer
    except ImportError:  # an engine elsewhere needs none here, and refuses what is too long itself
        return {}
    encode = Tokenizer.from_file(str(tokenizer)).encode
    return {text: len(encode(text).ids) for text in texts}
