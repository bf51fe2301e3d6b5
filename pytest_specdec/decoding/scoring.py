"""A set of texts scored batch by batch. A batch's scores depend on its own texts alone, so batches
may be scored in any order and in any process; put together they are what one process computes, bit
for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..acceptance.scores import Scores
from ..acceptance.text_origin import Origin, joined
from ..cases.case import Sampling
from ..cases.drafting import AS_TARGET, DraftSampling
from ..cases.texts import Text
from ..checkpoints.drafter_folders import check_drafts
from .distributions import (
    below_the_best,
    check_logits,
    check_scores,
    log_distributions,
    log_scores,
    target_scores,
)
from .draft_arrays import DraftArrays, new_token_values, overlap_rules
from .drafters.protocol import DraftScores, TextBatch
from .drafters.registry import DrafterSource, drafter_for
from .drafters.teacher_forcing import as_array
from .loading import LoadedModel
from .named_processors import check_drafters
from .processed_passes import ProcessedPasses, of_texts
from .processors import Processors
from .target_passes import ModelPasses, TargetPasses
from .text_batches import batches, by_length, padded, tokens_together
from .text_limits import check_context, check_tokens

_GREEDY_EVERY = 16
"""At temperature 0 the origin of one text in so many is checked where a pass of the target costs
something: texts of another target differ in half of their tokens, not in few.
"""


@dataclasses.dataclass(frozen=True)
class DrafterPlan:
    """A drafter and how far its scores must reach."""

    drafter: DrafterSource
    depth: int
    steps: int
    """Largest k; the only one where k decides all drafts (`Drafter.whole_blocks`)."""
    rules: tuple[str, ...] = ("rejection",)
    """Verification rules of its cases."""
    drafting: DraftSampling = AS_TARGET
    """How its drafts are drawn."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoringPlan:
    """Which texts are scored together."""

    batches: tuple[tuple[int, ...], ...]
    """Numbers of the texts of each batch."""
    greedy: tuple[tuple[int, ...], ...] = ()
    """Batches of texts whose origin takes a pass of its own, at temperature 0."""

    @classmethod
    def of(
        cls,
        texts: Sequence[Text],
        *,
        device: str,
        vocabulary: int,
        greedy: bool,
        stored: bool = False,
    ) -> ScoringPlan:
        """The plan on a type of device, for a target with so many tokens. With `greedy` the origin
        of texts at temperature 0 is judged, of all of them where passes are `stored`.
        """
        tokens = tokens_together(device, vocabulary)
        chosen = list(range(0, len(texts), 1 if stored else _GREEDY_EVERY)) if greedy else []
        return cls(
            batches=tuple(map(tuple, batches(by_length(texts), texts, tokens))),
            greedy=tuple(map(tuple, batches(chosen, texts, tokens))),
        )

    @property
    def units(self) -> tuple[tuple[int, ...], ...]:
        """All batches, in the order in which one process scores them."""
        return (*self.batches, *self.greedy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredBatch:
    """The scores of one batch, from position `begin` on; undefined past the end of each text."""

    rows: tuple[int, ...]
    begin: int
    log_p: NDArray[np.float32] | None = None
    """(rows, length - begin): the target's; None where they were not computed."""
    drafts: tuple[DraftScores, ...] = ()
    """By drafter; none of a batch that is for the origin alone."""
    origin: Origin | None = None


class BatchScorer:
    """Scores batches of texts by a target and drafters that are loaded. Parameters and errors are
    those of `replay.text_scores`.
    """

    def __init__(
        self,
        target: LoadedModel,
        plans: Sequence[DrafterPlan],
        texts: Sequence[Text],
        sampling: Sampling,
        *,
        overlaps: bool = False,
        own: bool = True,
        scored: bool = False,
        passes: TargetPasses | None = None,
        processors: Processors | None = None,
    ) -> None:
        """Without `own` the texts are those of another target, and their tokens may lie outside
        this one's support. Where they were `scored` before, the target's log-probabilities are not
        computed again.
        """
        self._target, self._texts, self._sampling = target, texts, sampling
        self._own, self._scored, self._processors = own, scored, processors
        self._plans = plans
        self._drafters = [drafter_for(target, plan.drafter, plan.depth) for plan in plans]
        self._rules = [overlap_rules(plan.rules, sampling) if overlaps else () for plan in plans]
        models = [target, *(model for drafter in self._drafters for model in drafter.models)]
        check_drafters(self._drafters, processors)
        for drafter, plan in zip(self._drafters, plans, strict=True):
            check_drafts(
                plan.drafter,
                plan.steps,
                drafter.most_drafts,
                trained=drafter.can_draft_more,
                drafting=plan.drafting,
            )
            drafter.begin(texts)
        check_context(models, max((len(text.ids) for text in texts), default=0))
        check_tokens(models, [text.ids for text in texts])
        self._passes = passes or ModelPasses(target)
        if processors is not None:
            self._passes = ProcessedPasses(self._passes, processors)

    def plan(self, *, judge_origin: bool, stored: bool = False) -> ScoringPlan:
        """Which texts are scored together."""
        return ScoringPlan.of(
            self._texts,
            device=self._target.device.type,
            vocabulary=self._target.model.get_input_embeddings().num_embeddings,
            greedy=judge_origin and self._sampling.temperature == 0,
            stored=stored,
        )

    @torch.inference_mode()
    def read_ahead(self, batches: Sequence[tuple[int, ...]]) -> None:
        """Before batches are scored: run models whose weights stay in files layer by layer over all
        of them.
        """
        layers = sorted({number for drafter in self._drafters for number in drafter.reads_layers})
        sampled = self._sampling.temperature > 0 and not self._scored
        reads = sampled or bool(layers) or any(self._rules)
        drafting = [model for drafter in self._drafters for model in drafter.models]
        for model in [*([self._target] if reads else []), *drafting]:
            if model.stream is not None:
                texts = [[self._texts[row].ids for row in rows] for rows in batches]
                ids = [padded(batch, model.device) for batch in texts]
                model.stream.compute(ids, layers if model is self._target else ())

    @torch.inference_mode()
    def score(self, rows: tuple[int, ...]) -> ScoredBatch:
        """One batch, from the first new token of any of its texts on."""
        texts = [self._texts[row] for row in rows]
        ids = padded([text.ids for text in texts], self._target.device)
        length, begin = ids.shape[1], max(min(text.prompt_length for text in texts), 1)
        sampled = self._sampling.temperature > 0 and not self._scored
        reads_hidden = any(drafter.reads_hidden for drafter in self._drafters)
        layers = sorted({number for drafter in self._drafters for number in drafter.reads_layers})
        needs_target = any(self._rules)
        passed = log_p = origin = distributions = None
        # At temperature 0 the text itself is the target's choice, and the pass is for hidden states
        # alone.
        if sampled or reads_hidden or layers or needs_target:
            first = begin if sampled or needs_target else length
            passed = self._passes.run(ids, texts, first, hidden=reads_hidden, layers=layers)
        if passed is not None and sampled and self._own:
            log_p, origin = _own_scores(passed.logits, ids[:, begin:], texts, begin, self._sampling)
        elif passed is not None and sampled:
            log_p = as_array(log_scores(passed.logits, ids[:, begin:], self._sampling))
        if passed is not None and needs_target:
            distributions = log_distributions(passed.logits, self._sampling)
            check_scores(distributions[..., 0])  # NaN in all of a row, where any logit makes none
        batch = TextBatch(
            texts=texts,
            ids=ids,
            begin=begin,
            steps=0,
            sampling=self._sampling,
            greedy=self._sampling.temperature == 0,
            hidden_states=None if passed is None else passed.hidden_states,
            layer_states={} if passed is None else passed.layer_states,
            target=distributions,
            processors=None if self._processors is None else of_texts(self._processors, texts),
        )
        drafts = self._drafts(batch)
        return ScoredBatch(rows=rows, begin=begin, log_p=log_p, drafts=drafts, origin=origin)

    def _drafts(self, batch: TextBatch) -> tuple[DraftScores, ...]:
        """The scores of each drafter, which learns how far they must reach, how its drafts are
        drawn, and by which rules they are verified.
        """
        return tuple(
            drafter.score(
                dataclasses.replace(
                    batch,
                    steps=plan.steps,
                    sampling=plan.drafting.sampling(self._sampling),
                    rules=rules,
                    target=batch.target if rules else None,
                )
            )
            for drafter, plan, rules in zip(self._drafters, self._plans, self._rules, strict=True)
        )

    @torch.inference_mode()
    def greedy_origin(self, rows: tuple[int, ...]) -> ScoredBatch:
        """The origin of texts that should be greedy, from a pass for it alone."""
        texts = [self._texts[row] for row in rows]
        ids = padded([text.ids for text in texts], self._target.device)
        begin = max(min(text.prompt_length for text in texts), 1)
        logits = self._passes.run(ids, texts, begin, hidden=False, layers=()).logits
        check_logits(logits)
        new = _new_tokens(texts, begin, ids[:, begin:])
        outside = (below_the_best(logits, ids[:, begin:]) & new).sum(-1).tolist()
        keys = tuple(text.key for text in texts)
        no_bets = np.zeros((0, len(texts)))
        origin = Origin(Sampling(0.0), keys, int(new.sum()), tuple(outside), no_bets)
        return ScoredBatch(rows=rows, begin=begin, origin=origin)


def assembled(
    texts: Sequence[Text],
    scored: Iterable[tuple[int, ScoredBatch]],
    *,
    drafters: int,
    judge_origin: bool = False,
    source: Sequence[Sequence[float]] | None = None,
    known: NDArray[np.floating] | None = None,
) -> list[Scores]:
    """The scores of each of so many drafters from batches, which come with their number in the plan
    and in any order; at least one. Other parameters are those of `replay.text_scores`.
    """
    longest = max((len(text.ids) for text in texts), default=0)
    log_p = np.zeros((len(texts), longest), dtype=np.float32)
    if known is not None:
        log_p[:] = known
    drafts: list[DraftArrays] = []
    origins: dict[int, Origin] = {}
    for number, batch in scored:
        rows = list(batch.rows)
        place = slice(batch.begin, max(len(texts[row].ids) for row in rows))
        if batch.log_p is not None:
            log_p[rows, place] = batch.log_p
        if batch.drafts:
            drafts = drafts or [
                DraftArrays.empty(found.log_q.shape[1], texts=len(texts), longest=longest)
                for found in batch.drafts
            ]
            for arrays, of_drafter in zip(drafts, batch.drafts, strict=True):
                arrays.fill(rows, place, of_drafter)
        if batch.origin is not None:
            origins[number] = batch.origin
    assert len(drafts) == drafters
    parts = [origins[number] for number in sorted(origins)]
    origin = joined(parts) if judge_origin and parts else None
    emitted_by = None if source is None else new_token_values(texts, source, longest)
    return [arrays.scores(texts, log_p, origin, emitted_by) for arrays in drafts]


def _own_scores(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    texts: Sequence[Text],
    begin: int,
    sampling: Sampling,
) -> tuple[NDArray[np.float32], Origin]:
    """The target's log-probabilities (rows, positions) of tokens from position `begin` on, and the
    texts' origin.
    """
    scores = target_scores(logits, tokens, sampling)
    new = _new_tokens(texts, begin, tokens)
    bets = scores.bets.double().masked_fill(~new, 0.0).sum(-1)
    outside = (scores.outside & new).sum(-1).tolist()
    keys = tuple(text.key for text in texts)
    return as_array(scores.log_p), Origin(
        sampling, keys, int(new.sum()), tuple(outside), bets.cpu().numpy()
    )


def _new_tokens(texts: Sequence[Text], begin: int, tokens: torch.Tensor) -> torch.Tensor:
    """Which tokens (rows, positions) from position `begin` on are new ones of their texts, neither
    prompt nor padding.
    """
    at = torch.arange(begin, begin + tokens.shape[1])
    lengths = torch.tensor([[text.prompt_length, len(text.ids)] for text in texts])
    return ((at >= lengths[:, :1]) & (at < lengths[:, 1:])).to(tokens.device)
