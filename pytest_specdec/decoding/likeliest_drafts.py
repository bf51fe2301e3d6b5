"""What a drafter finds likeliest in each context of given texts: what it would draft in the place
of a token that it finds unlikely.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ..cases.case import Sampling
from ..cases.texts import Text
from .distributions import check_logits, probabilities
from .drafters.protocol import Drafter, TextBatch
from .loading import LoadedModel
from .target_passes import ModelPasses
from .text_batches import padded


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikeliestDrafts:
    """Of one text, for each position that head 0 can draft."""

    tokens: tuple[int, ...]
    """The drafter's likeliest tokens."""
    probabilities: tuple[float, ...]
    """Their q."""


@torch.inference_mode()
def likeliest_drafts(
    target: LoadedModel, drafter: Drafter, texts: Sequence[Text], sampling: Sampling
) -> list[LikeliestDrafts] | None:
    """The likeliest first draft at each position of texts, from one pass of each model. `sampling`
    is what drafts are drawn by. None for a drafter that does not show its distributions.

    Raises MeasurementError for NaN and infinite logits.
    """
    ids = padded([text.ids for text in texts], target.device)
    length = ids.shape[1]
    best = torch.zeros(ids.shape, dtype=torch.long)
    chance = torch.zeros(ids.shape)
    seen = False

    def observe(head: int, first: int, logits: torch.Tensor, drafted: torch.Tensor | None) -> None:
        nonlocal seen
        if head:
            return
        check_logits(logits)
        seen = True
        likeliest = probabilities(logits, sampling).max(-1)
        places = likeliest.indices
        best[:, first:] = (places if drafted is None else drafted[places]).cpu()
        chance[:, first:] = likeliest.values.float().cpu()

    passed = None
    if drafter.reads_hidden or drafter.reads_layers:
        passed = ModelPasses(target).run(
            ids, texts, length, hidden=drafter.reads_hidden, layers=drafter.reads_layers
        )
    drafter.begin(texts)
    drafter.score(
        TextBatch(
            texts=texts,
            ids=ids,
            begin=max(min(text.prompt_length for text in texts), 1),
            steps=1,
            sampling=sampling,
            hidden_states=None if passed is None else passed.hidden_states,
            layer_states={} if passed is None else passed.layer_states,
            observe=observe,
        )
    )
    if not seen:
        return None
    spans = [slice(text.first_draft, len(text.ids)) for text in texts]
    return [
        LikeliestDrafts(
            tokens=tuple(best[row, span].tolist()),
            probabilities=tuple(chance[row, span].tolist()),
        )
        for row, span in enumerate(spans)
    ]
