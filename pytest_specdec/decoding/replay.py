"""Replay: what speculative decoding would accept on texts that the target has already emitted.

Speculative decoding is lossless, so a text Y is a sample of the target. Given Y, the draft at a
position would be accepted as that token with probability min(1, q(y)/p(y)) (Leviathan et al., arXiv
2211.17192), and every draft of an accepted prefix is Y's own tokens. One target pass and one
drafter pass over Y therefore give the log-probabilities of every draft step from every round start;
`acceptance.scores` turns them into acceptance under any lossless rule and `acceptance.renewal` into
counts for any k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..acceptance.counts import Counts
from ..acceptance.renewal import End, expected_counts
from ..acceptance.scores import Scores
from ..acceptance.text_origin import GIVEN_CURE, joined
from ..cases.case import Sampling, checked_rule
from ..cases.drafting import DraftSampling, drafting_of
from ..cases.texts import Text
from ..common.errors import MeasurementError
from .drafters.registry import DrafterSource, loaded_pair
from .drafters.registry import check_drafter as check_drafter
from .loading import LoadedModel
from .named_processors import ProcessorSource, ready_processors
from .processors import Processors
from .scoring import BatchScorer, ScoredBatch, ScoringPlan, assembled
from .scoring import DrafterPlan as DrafterPlan
from .target_passes import TargetPasses
from .text_batches import next_batch as next_batch
from .text_batches import padded as padded

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""


def replay(
    target: str | LoadedModel,
    drafter: DrafterSource,
    texts: Sequence[Text],
    *,
    k: int,
    depth: int = 0,
    rule: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    end: End = "inside",
    processors: ProcessorSource = None,
    drafting: DraftSampling | str | None = None,
) -> Counts:
    """Expected counts of speculative decoding on texts that the target has emitted; exact, without
    decoding.

    Parameters
    ----------
    target
        The model that emitted the texts: a checkpoint folder, a hub id, or a model from
        `load_model`.
    drafter
        What proposes tokens: a draft model given as the target is; ``"mtp"`` for the target's own
        MTP heads; ``"prompt-lookup"``; or the name of a type that another package adds.
    texts
        Token ids of prompts and of what the target emitted after them, at the same temperature and
        filters as below: `Decoded.texts`, or `texts_from_ids` of any engine's output. Texts of
        another model or temperature make every number wrong.
    k
        Draft tokens per round.
    depth
        MTP layers used in one pass of the drafter: 0 for a plain draft model, at least 1 for
        ``"mtp"``.
    rule
        Verification rule; the default is ``"rejection"``, and ``"greedy"`` at temperature 0.
        ``"sample-match"``, ``"block"`` and lossless rules of other packages are the others.
    temperature, top_k, top_p
        Applied to target and drafter in this order. Temperature 0 is greedy; top_k 0 and top_p 1
        keep every token.
    end
        Which rounds count near a text's end. ``"inside"``: those whose k draft positions all lie
        in the text, so that each drafts k tokens. ``"clip"``: also shorter ones, as an engine with
        a length limit drafts. ``"whole"``: also those with nothing left to draft, every pass of the
        target.
    processors
        Logits processors under which the target emitted the texts, see `decode`.
    drafting
        How drafts are drawn, see `decode`.

    Returns
    -------
    Counts
        Expected rounds, drafted and accepted tokens of each text.

    Raises
    ------
    RequestError
        For a pair or rule that cannot be replayed, or texts longer than a model's context.
    MeasurementError
        For texts without a single round, NaN, or texts that the target does not emit at this
        temperature and with these filters. At temperature 0 every sixteenth text is looked at.

    References
    ----------
    Leviathan et al., arXiv 2211.17192. docs/replay.md has the derivation.

    Examples
    --------
    >>> from pytest_specdec import decode, replay
    >>> target, draft = "suites/models/text-target", "suites/models/text-draft"
    >>> texts = decode(target, None, ["The function returns"], k=0, temperature=0).texts
    >>> counts = replay(target, draft, texts, k=4, temperature=0)
    >>> 1 <= counts.acceptance_length <= 5
    True
    """
    sampling = Sampling(temperature, top_k, top_p).checked()
    rule = checked_rule(rule, temperature)
    model, ready = loaded_pair(target, drafter, depth)
    (scores,) = text_scores(
        model,
        [DrafterPlan(ready, depth, k, drafting=drafting_of(drafting))],
        texts,
        sampling,
        processors=ready_processors(processors, model, temperature),
        judge_origin=True,
    )
    if scores.origin is not None:
        scores.origin.check(GIVEN_CURE)
    counts = expected_counts(scores.field(rule), k, end)
    if not counts.total_rounds > 0:
        raise MeasurementError(
            f"no text is long enough for a round of k={k}; use longer texts or a smaller k"
        )
    return counts


def check_origin(target: LoadedModel, texts: Sequence[Text], sampling: Sampling) -> None:
    """Raises MeasurementError for texts that the target does not emit under these settings; at
    temperature 0 every sixteenth text is looked at.
    """
    scorer = BatchScorer(target, [], texts, sampling)
    plan = scorer.plan(judge_origin=True)
    units = plan.greedy if sampling.temperature == 0 else plan.batches
    score = scorer.greedy_origin if sampling.temperature == 0 else scorer.score
    origins = [batch.origin for batch in map(score, units) if batch.origin is not None]
    joined(origins).check(GIVEN_CURE)


@torch.inference_mode()
def text_scores(
    target: LoadedModel,
    plans: Sequence[DrafterPlan],
    texts: Sequence[Text],
    sampling: Sampling,
    progress: Progress | None = None,
    *,
    judge_origin: bool = False,
    overlaps: bool = False,
    source: Sequence[Sequence[float]] | None = None,
    known: NDArray[np.floating] | None = None,
    passes: TargetPasses | None = None,
    processors: Processors | None = None,
) -> list[Scores]:
    """The scores of each drafter from one pass of each model over the texts, a few texts at a time.

    With `judge_origin` they carry the target's evidence on the texts' origin, to be checked by the
    caller; at temperature 0, where scores need no pass of the target, it makes one over every
    sixteenth text. With `overlaps` they also hold the chance that a draft is accepted in each
    context, by the rules of the plans, which takes a pass of the target at temperature 0, too.
    `source` are the log-probabilities of each text's new tokens by another target, which emitted
    them. `known` are this target's, the `Scores.target` of an earlier call: then only drafters that
    read its hidden states cost a pass of the target. `passes` stand in for the target's own.
    `processors` are the logits processors of target and drafters.

    Raises RequestError for a text longer than a model's context or with tokens that it does not
    have, MeasurementError for NaN.
    """
    scorer = BatchScorer(
        target,
        plans,
        texts,
        sampling,
        overlaps=overlaps,
        own=source is None,
        scored=known is not None,
        passes=passes,
        processors=processors,
    )
    plan = scorer.plan(judge_origin=judge_origin, stored=passes is not None)
    return assembled(
        texts,
        _in_order(scorer, plan, len(texts), progress or (lambda done, total: None)),
        drafters=len(plans),
        judge_origin=judge_origin,
        source=source,
        known=known,
    )


def _in_order(
    scorer: BatchScorer, plan: ScoringPlan, texts: int, progress: Progress
) -> Iterator[tuple[int, ScoredBatch]]:
    """All batches of a plan, scored here."""
    progress(0, texts)
    done = 0
    for number, rows in enumerate(plan.batches):
        yield number, scorer.score(rows)
        done += len(rows)
        progress(done, texts)
    for number, rows in enumerate(plan.greedy, len(plan.batches)):
        yield number, scorer.greedy_origin(rows)
