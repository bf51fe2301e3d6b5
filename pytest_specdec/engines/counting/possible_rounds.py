"""The rounds that an engine may have played on its own texts, as its models allow them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...acceptance.counts import Counts
from ...acceptance.moments import Moments, round_moments
from ...acceptance.renewal import AcceptanceField
from ...acceptance.scores import Scores
from ...acceptance.trees.field import TreeField
from ...cases.case import Case, Sampling
from ...cases.drafter import DrafterSpec
from ...cases.texts import Text
from ...common.errors import RequestError
from ...decoding.drafters.registry import drafter_for
from ...decoding.loading import LoadedModel
from ...decoding.named_processors import ProcessorSource, ready_processors
from ...decoding.processors import Processors
from ...decoding.recorded_masks import MaskedText, RecordedMasks
from ...decoding.replay import DrafterPlan, text_scores
from ...decoding.trees.replay import TreePair, tree_fields
from ...lossless.texts.greedy_divergence import TOLERANCES
from ..adapter_api import PooledCounters, Reported
from .normalise import Definition, text_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountedRun:
    """One run of an engine to be judged."""

    case: Case
    reported: Sequence[Reported]
    categories: Sequence[str]
    definition: Definition
    counts: Counts
    """By that definition."""
    pooled: PooledCounters | None = None

    @property
    def altered(self) -> str | None:
        """The mode in which the engine does not decode with its own models."""
        return next((text.altered for text in self.reported if text.altered), None)

    @property
    def processors(self) -> ProcessorSource:
        """The case's logits processors, or the masks that were recorded with its texts. Raises
        RequestError where only some texts have masks.
        """
        masked = [text for text in self.reported if text.masks is not None]
        if not masked:
            return self.case.texts.processors
        masks = RecordedMasks(
            tuple(
                MaskedText(prompt=text.prompt_ids, new_ids=text.new_ids, masks=text.masks or ())
                for text in masked
            )
        )
        return Processors((masks,), on_drafts=masked[0].masked_drafts)

    @property
    def certain(self) -> bool:
        """Whether the text alone decides the rounds: then `accept` is 0 or 1."""
        convention = self.reported[0].convention
        argmax = convention.argmax_drafts or self.case.drafting.argmax
        tree = self.case.tree is not None and self.case.tree.children == "top-k"
        return self.case.temperature == 0 or argmax or self.case.uses_lookup or tree

    @property
    def texts(self) -> list[Text]:
        """Raises RequestError where the engine does not report its tokens."""
        for text in self.reported:
            if not (text.prompt_ids and text.new_ids):
                raise RequestError(
                    f"{text.where or text.key} comes without token ids, and only these can be "
                    "replayed; "
                    "let the engine return them, or leave the oracle out"
                )
        return [
            text_of(text, category)
            for text, category in zip(self.reported, self.categories, strict=True)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Walk:
    """The rounds that the engine's counting convention allows on its texts."""

    field: AcceptanceField
    proposed: NDArray[np.int64]
    """(texts, longest): tokens drafted by a round at each start."""
    survival: NDArray[np.float64]
    """(texts, longest, k): chance that a round at each start accepts draft steps 0..i."""
    played: NDArray[np.bool_]
    """(texts, longest): whether a round takes place at each start that is reached."""
    counted: NDArray[np.bool_]
    """(texts, longest): whether that round is counted."""
    sure: NDArray[np.bool_] | None = None
    """(texts, heads, longest): whether each text token, as a draft, is accepted with certainty,
    rounding included.

    None where the rule implies no such tokens.
    """

    def moments(self) -> Moments:
        return round_moments(self.survival, self.field.starts, self.played, self.counted)


def walk_of(judged: CountedRun, target: LoadedModel, drafter: LoadedModel | DrafterSpec) -> Walk:
    """Replay the texts of a run. Raises RequestError for a rule or a text that cannot be
    replayed.
    """
    case, definition, texts = judged.case, judged.definition, judged.texts
    sampling, rule = (
        (Sampling(0.0), "greedy") if judged.certain else (case.texts.sampling, case.rule)
    )
    if definition.prefill_drafts:  # the first round drafts the first new token
        texts = [dataclasses.replace(text, prompt_length=text.prompt_length - 1) for text in texts]
    if case.tree is None:
        (scores,) = text_scores(
            target,
            [DrafterPlan(drafter, case.depth, case.k, drafting=case.drafting)],
            texts,
            sampling,
            processors=ready_processors(judged.processors, target, sampling.temperature),
        )
        field = scores.field(rule)
    else:
        scores, field = None, tree_field_of(judged, texts, target, drafter)
    at = np.arange(field.accept.shape[2])
    left = field.lengths[:, None] - at
    proposed = (
        np.full(left.shape, case.k)
        if field.available is None
        else np.minimum(field.available, case.k)
    )
    if judged.reported[0].convention.end == "clipped":
        limits = (
            np.array([len(text.prompt_ids) for text in judged.reported]) + case.texts.new_tokens
        )
        proposed = np.clip(np.minimum(proposed, limits[:, None] - at - 1), 0, None)
    if definition.end == "inside":
        played = left >= case.k
        counted = played & (at != field.starts[:, None]) if definition.prefill_drafts else played
    else:
        played = left > 0
        counted = played if definition.counts_empty else played & (proposed > 0)
    # What is drafted past the text's end may be accepted, and is not counted where it is not
    # delivered.
    within = (
        proposed
        if judged.reported[0].convention.undelivered
        else np.clip(np.minimum(proposed, left - 1), 0, None)
    )
    return Walk(
        field=field,
        proposed=proposed,
        survival=field.survival(within, case.k),
        played=played,
        counted=counted,
        sure=None if scores is None else _sure(scores, rule, target, sampling),
    )


def tree_field_of(
    judged: CountedRun,
    texts: Sequence[Text],
    target: LoadedModel,
    drafter: LoadedModel | DrafterSpec,
    margins: dict[tuple[int, int], float] | None = None,
) -> TreeField:
    """What the trees of a run accept of its texts; `margins` are those of `tree_fields`."""
    assert judged.case.tree is not None
    (field,) = tree_fields(
        target,
        drafter_for(target, drafter, judged.case.depth),
        texts,
        [TreePair(judged.case.tree, judged.case.rule)],
        judged.case.texts.sampling,
        full=judged.reported[0].convention.end == "full",
        margins=margins,
    )
    return field


def _sure(
    scores: Scores, rule: str, target: LoadedModel, sampling: Sampling
) -> NDArray[np.bool_] | None:
    """Rejection sampling accepts every draft that q makes at least as likely as p; both are known
    up to rounding.
    """
    if rule != "rejection":
        return None
    tolerance = (
        2
        * TOLERANCES.get(target.model.dtype, TOLERANCES[torch.bfloat16])
        / min(sampling.temperature, 1.0)
    )
    known = np.isfinite(scores.draft) & np.isfinite(scores.target[:, None])
    surplus = np.subtract(
        scores.draft, scores.target[:, None], out=np.zeros_like(scores.draft), where=known
    )
    certain: NDArray[np.bool_] = surplus > tolerance
    return certain
