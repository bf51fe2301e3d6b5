"""Drafting policies compared on a pair of models: sample texts, replay them once, compute."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from ..cases.case import Sampling, default_rule
from ..cases.drafter import DRAFT, DrafterSpec, OwnHeadsSpec, kind_of
from ..cases.prompts import Prompt
from ..cases.texts import Text, texts_of_prompts
from ..common.errors import RequestError
from ..speedup.cost_profile import CostProfile
from ..speedup.policies import check_covered
from ..speedup.policy_table import PolicyRow, policy_table
from .confidence import confidences
from .drafters.draft_model import DraftModel
from .drafters.protocol import Drafter
from .drafters.registry import DrafterSource, loaded_pair, parsed
from .loading import LoadedModel
from .replay import DrafterPlan, text_scores
from .sampling import encode_prompts, sample_new_tokens

Progress = Callable[[str, int, int], None]


def policies(
    target: str | LoadedModel,
    drafter: DrafterSource,
    prompts: Sequence[Prompt],
    costs: CostProfile,
    *,
    k: int = 8,
    depth: int | None = None,
    temperature: float = 1.0,
    new_tokens: int = 128,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> list[PolicyRow]:
    """What fixed and dynamic drafting gain on a pair, exactly, from one replay of sampled texts.

    Parameters
    ----------
    target, drafter
        Models as paths, hub ids or loaded; the drafter may be `"mtp"` for the target's own MTP
        heads, `"prompt-lookup"`, or the folder of an EAGLE-3 head.
    prompts
        What the texts begin with, see `cases.prompts.read_prompts`.
    costs
        Cost profile of the pair; it must cover 1 to `k` at this depth.
    k
        Most tokens that a round drafts.
    depth
        MTP layers per drafter pass; 0 unless given, or 1 for the target's own heads.
    temperature, new_tokens, seed
        Of the texts, sampled from the target.
    progress
        Called as (what is done, steps done, steps in all).

    Returns
    -------
    list[PolicyRow]
        Plain decoding, every fixed k, the policies that decide in every round, and the oracle, in
        this order. Policies that stop by confidence are there for a draft model at depth 0 only.

    Raises
    ------
    RequestError, CostError
        The pair does not go together; the profile does not cover what is drafted.
    MeasurementError
        No text is long enough for a round of k drafts.
    """
    source = parsed(drafter)
    depth = int(isinstance(source, OwnHeadsSpec)) if depth is None else depth
    kind = _kind(source)
    check_covered(costs, k, depth, drafter=kind)
    loaded_target, drafting = loaded_pair(target, source, depth)
    sampling = Sampling(temperature)
    texts = sampled_texts(loaded_target, prompts, sampling, new_tokens, seed, progress)
    plan = DrafterPlan(drafting, depth, k)
    report_replay = functools.partial(progress, "replay")
    (scores,) = text_scores(loaded_target, [plan], texts, sampling, report_replay)
    stopping = None
    if drafting.takes_confidence and depth == 0:
        stopping = confidences(
            loaded_target,
            drafting.models[0],
            texts,
            k=k,
            sampling=sampling,
            progress=functools.partial(progress, "confidences"),
        )
    return policy_table(
        scores.field(default_rule(temperature)),
        costs,
        most=k,
        depth=depth,
        drafter=kind,
        confidences=stopping,
        progress=progress,
    )


def _kind(source: DrafterSpec | LoadedModel | Drafter) -> str:
    """The drafter as the profile names it. Raises RequestError for one that is loaded and no draft
    model.
    """
    if isinstance(source, LoadedModel | DraftModel):
        return DRAFT
    if isinstance(source, Drafter):
        raise RequestError(
            f"a {type(source).__name__} does not say which times of the cost profile are its own; "
            "pass its folder or name"
        )
    return kind_of(source)


def sampled_texts(
    target: LoadedModel,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    new_tokens: int,
    seed: int,
    progress: Progress,
) -> tuple[Text, ...]:
    """A text of the target for each prompt."""
    ids = encode_prompts(target.tokenizer, prompts)
    continuations = sample_new_tokens(
        target,
        ids,
        new_tokens=new_tokens,
        sampling=sampling,
        seed=seed,
        progress=functools.partial(progress, "sampling texts"),
    )
    return texts_of_prompts(prompts, ids, continuations)
