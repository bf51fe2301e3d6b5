"""What controllers are measured on: texts of the target, replayed once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..acceptance.renewal import AcceptanceField
from ..cases.case import Sampling, default_rule
from ..cases.drafter import OwnHeadsSpec
from ..cases.prompts import Prompt
from ..speedup.policies import Confidences
from .confidence import confidences
from .drafters.draft_model import DraftModel
from .drafters.registry import DrafterSource, loaded_pair, parsed
from .loading import LoadedModel
from .measured_policies import sampled_texts
from .replay import DrafterPlan, text_scores

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplayedTexts:
    """What a controller's walk needs of a pair."""

    field: AcceptanceField
    limits: NDArray[np.int64]
    """(texts,): the length that each text could have reached."""
    confidences: Confidences | None
    """None for drafters that do not stop by them."""


def replayed_texts(
    target: str | LoadedModel,
    drafter: DrafterSource,
    prompts: Sequence[Prompt],
    *,
    k: int,
    depth: int | None = None,
    temperature: float = 1.0,
    new_tokens: int = 128,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> ReplayedTexts:
    """Sample a text for each prompt and replay it.

    The arguments are those of `measured_policies.policies`. Raises RequestError for a pair that
    does not go together.
    """
    source = parsed(drafter)
    depth = int(isinstance(source, OwnHeadsSpec)) if depth is None else depth
    model, drafting = loaded_pair(target, source, depth)
    sampling = Sampling(temperature)
    texts = sampled_texts(model, prompts, sampling, new_tokens, seed, progress)
    plan = DrafterPlan(drafting, depth, k)
    report = functools.partial(progress, "replay")
    (scores,) = text_scores(model, [plan], texts, sampling, report)
    sure = None
    if drafting.takes_confidence and isinstance(drafting, DraftModel):
        sure = confidences(
            model,
            drafting.model,
            texts,
            k=k,
            sampling=sampling,
            progress=functools.partial(progress, "confidences"),
        )
    return ReplayedTexts(
        field=scores.field(default_rule(temperature)),
        limits=np.array([text.prompt_length + new_tokens for text in texts]),
        confidences=sure,
    )
