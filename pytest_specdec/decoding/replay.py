"""Replay: what speculative decoding would accept on texts that the target has already emitted.

Speculative decoding is lossless, so a text Y is a sample of the target. Given Y, the draft at a
position would be accepted as that token with probability min(1, q(y)/p(y)) (Leviathan et al., arXiv
2211.17192), and every draft of an accepted prefix is Y's own tokens. One target pass and one
drafter pass over Y therefore give the log-probabilities of every draft step from every round start;
`acceptance.scores` turns them into acceptance under any lossless rule and `acceptance.renewal` into
counts for any k.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..acceptance.counts import Counts
from ..acceptance.renewal import End, expected_counts
from ..acceptance.scores import Scores
from ..acceptance.text_origin import Origin, joined
from ..cases.case import Sampling, checked_rule
from ..cases.drafting import AS_TARGET, Drafting, drafting_of
from ..cases.texts import Text
from ..checkpoints.drafter_folders import check_drafts
from ..common.errors import MeasurementError
from .distributions import (
    below_the_best,
    check_finite,
    log_distributions,
    log_scores,
    target_scores,
)
from .draft_arrays import DraftArrays, new_token_values, overlap_rules
from .drafters.protocol import Drafter, TextBatch
from .drafters.registry import DrafterSource, drafter_for, loaded_pair
from .drafters.registry import check_drafter as check_drafter
from .drafters.teacher_forcing import as_array
from .loading import LoadedModel
from .named_processors import ProcessorSource, check_drafters, ready_processors
from .processed_passes import ProcessedPasses, of_texts
from .processors import Processors
from .target_passes import ModelPasses, TargetPasses
from .text_limits import check_context, check_tokens

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""

_LOGIT_BUDGET = {"cpu": 1 << 21, "cuda": 1 << 28}
"""Logits held at once, in numbers: 8 MiB in float32 on a CPU, about what its caches hold, 1 GiB on
a GPU.
"""
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
    drafting: Drafting = AS_TARGET
    """How its drafts are drawn."""


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
    drafting: Drafting | str | None = None,
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
        For texts without a single round, NaN, or a token that the target cannot have emitted.

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
    rule = checked_rule(rule, temperature)
    model, ready = loaded_pair(target, drafter, depth)
    sampling = Sampling(temperature, top_k, top_p)
    (scores,) = text_scores(
        model,
        [DrafterPlan(ready, depth, k, drafting=drafting_of(drafting))],
        texts,
        sampling,
        processors=ready_processors(processors, model, temperature),
    )
    counts = expected_counts(scores.field(rule), k, end)
    if not counts.total_rounds > 0:
        raise MeasurementError(
            f"no text is long enough for a round of k={k}; use longer texts or a smaller k"
        )
    return counts


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
    longest = max((len(text.ids) for text in texts), default=0)
    drafters = [drafter_for(target, plan.drafter, plan.depth) for plan in plans]
    models = [target, *(model for drafter in drafters for model in drafter.models)]
    check_drafters(drafters, processors)
    for drafter, plan in zip(drafters, plans, strict=True):
        _check_steps(plan, drafter)
        drafter.begin(texts)
    check_context(models, longest)
    check_tokens(models, texts)
    log_p = np.zeros((len(texts), longest), dtype=np.float32)
    if known is not None:
        log_p[:] = known
    drafts = [
        DraftArrays.empty(
            drafter,
            plan.steps,
            texts=len(texts),
            longest=longest,
            rules=overlap_rules(plan.rules, sampling) if overlaps else (),
            sampling=plan.drafting.sampling(sampling),
        )
        for drafter, plan in zip(drafters, plans, strict=True)
    ]
    order = _by_length(texts)
    budget = _LOGIT_BUDGET.get(target.device.type, _LOGIT_BUDGET["cpu"])
    tokens = budget // target.model.get_input_embeddings().num_embeddings
    done = 0
    origins: list[Origin] = []
    passes = passes or ModelPasses(target)
    every = _GREEDY_EVERY if isinstance(passes, ModelPasses) else 1
    if processors is not None:
        passes = ProcessedPasses(passes, processors)
    progress = progress or (lambda done, total: None)
    progress(0, len(order))
    while done < len(order):
        rows = next_batch(order[done:], texts, tokens)
        parts = [texts[row] for row in rows]
        own, scored = source is None, known is not None
        ids = padded([text.ids for text in parts], target.device)
        origin = _fill(
            log_p, drafts, passes, ids, parts, rows, sampling, processors, own=own, scored=scored
        )
        origins += [origin] if origin is not None else []
        done += len(rows)
        progress(done, len(order))
    if judge_origin and sampling.temperature == 0:
        origins = _greedy_origins(target, passes, texts[::every], tokens)
    origin = joined(origins) if judge_origin and origins else None
    emitted_by = None if source is None else new_token_values(texts, source, longest)
    return [draft.scores(texts, log_p, origin, emitted_by) for draft in drafts]


def _check_steps(plan: DrafterPlan, drafter: Drafter) -> None:
    """Raises RequestError for more drafts than the drafter makes."""
    check_drafts(
        plan.drafter,
        plan.steps,
        drafter.most_drafts,
        trained=drafter.can_draft_more,
        drafting=plan.drafting,
    )


def _fill(
    log_p: NDArray[np.float32],
    drafts: list[DraftArrays],
    passes: TargetPasses,
    ids: torch.Tensor,
    texts: list[Text],
    rows: list[int],
    sampling: Sampling,
    processors: Processors | None,
    *,
    own: bool,
    scored: bool,
) -> Origin | None:
    """Write one batch's log-probabilities into the arrays, from the first new token of any of its
    texts; `ids` is (rows, length).

    Returns the texts' origin by the target's distributions, where those were computed. Without
    `own` the texts are those of another target, and their tokens may lie outside this one's
    support. Where they were `scored` before, the target's log-probabilities stay as they are.
    """
    length = ids.shape[1]
    begin = max(min(text.prompt_length for text in texts), 1)
    sampled = sampling.temperature > 0 and not scored
    reads_hidden = any(draft.drafter.reads_hidden for draft in drafts)
    layers = sorted({number for draft in drafts for number in draft.drafter.reads_layers})
    needs_target = any(draft.rules for draft in drafts)
    passed = origin = distributions = None
    # At temperature 0 the text itself is the target's choice, and the pass is for hidden states
    # alone.
    if sampled or reads_hidden or layers or needs_target:
        first = begin if sampled or needs_target else length
        passed = passes.run(ids, texts, first, hidden=reads_hidden, layers=layers)
    if passed is not None and sampled and own:
        log_p[rows, begin:length], origin = _own_scores(
            passed.logits, ids[:, begin:], texts, begin, sampling
        )
    elif passed is not None and sampled:
        log_p[rows, begin:length] = as_array(log_scores(passed.logits, ids[:, begin:], sampling))
    if passed is not None and needs_target:
        distributions = log_distributions(passed.logits, sampling)
    for draft in drafts:
        batch = TextBatch(
            texts=texts,
            ids=ids,
            begin=begin,
            steps=draft.steps,
            sampling=draft.sampling,
            greedy=sampling.temperature == 0,
            hidden_states=None if passed is None else passed.hidden_states,
            layer_states={} if passed is None else passed.layer_states,
            target=distributions if draft.rules else None,
            rules=draft.rules,
            processors=None if processors is None else of_texts(processors, texts),
        )
        draft.fill(rows, batch)
    return origin


def _own_scores(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    texts: Sequence[Text],
    begin: int,
    sampling: Sampling,
) -> tuple[np.ndarray, Origin]:
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


def _greedy_origins(
    target: LoadedModel, passes: TargetPasses, texts: Sequence[Text], tokens: int
) -> list[Origin]:
    """The origin of texts that should be greedy, from a separate pass."""
    origins = []
    done = 0
    while done < len(texts):
        batch = [texts[row] for row in next_batch(list(range(done, len(texts))), texts, tokens)]
        done += len(batch)
        ids, begin = (
            padded([text.ids for text in batch], target.device),
            max(min(text.prompt_length for text in batch), 1),
        )
        logits = passes.run(ids, batch, begin, hidden=False, layers=()).logits
        check_finite(logits)
        new = _new_tokens(batch, begin, ids[:, begin:])
        outside = (below_the_best(logits, ids[:, begin:]) & new).sum(-1).tolist()
        keys = tuple(text.key for text in batch)
        origins.append(
            Origin(Sampling(0.0), keys, int(new.sum()), tuple(outside), np.zeros((0, len(batch))))
        )
    return origins


def _new_tokens(texts: Sequence[Text], begin: int, tokens: torch.Tensor) -> torch.Tensor:
    """Which tokens (rows, positions) from position `begin` on are new ones of their texts, neither
    prompt nor padding.
    """
    at = torch.arange(begin, begin + tokens.shape[1])
    lengths = torch.tensor([[text.prompt_length, len(text.ids)] for text in texts])
    return ((at >= lengths[:, :1]) & (at < lengths[:, 1:])).to(tokens.device)


def _by_length(texts: Sequence[Text]) -> list[int]:
    """The texts' numbers, so that texts of like lengths follow one another."""
    return sorted(
        range(len(texts)), key=lambda row: (len(texts[row].ids), texts[row].prompt_length)
    )


def next_batch(order: list[int], texts: Sequence[Text], tokens: int) -> list[int]:
    """The next rows, by length, that make at most so many tokens; at least one."""
    rows: list[int] = []
    for row in order:
        if rows and (len(rows) + 1) * len(texts[row].ids) > tokens:
            break
        rows.append(row)
    return rows


def padded(ids: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """(rows, longest): zeros after shorter texts, where causal models do not look."""
    longest = max(map(len, ids))
    rows = [[*row, *([0] * (longest - len(row)))] for row in ids]
    return torch.tensor(rows, device=device)
