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
from typing import Any

import numpy as np
import torch

from ..acceptance.counts import Counts
from ..acceptance.lookup import lookup_draft
from ..acceptance.renewal import End, expected_counts
from ..acceptance.scores import Scores
from ..acceptance.text_origin import Origin, joined
from ..cases.case import LOOKUP, OWN_HEADS, Sampling, checked_rule
from ..cases.texts import Text
from ..checkpoints.checkpoint import check_pair
from ..common.errors import MeasurementError, RequestError
from .distributions import below_the_best, check_finite, log_scores, target_scores
from .loading import LoadedModel, check_folders, loaded
from .mtp_forward import project, teacher_forced_hidden

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""

_LOGIT_BUDGET = {"cpu": 1 << 21, "cuda": 1 << 28}
"""Logits held at once, in numbers: 8 MiB in float32 on a CPU, about what its caches hold, 1 GiB on
a GPU.
"""
_GREEDY_EVERY = 16
"""At temperature 0 the origin of one text in so many is looked at: other texts differ in half of
their tokens, not in few.
"""


@dataclasses.dataclass(frozen=True)
class DrafterPlan:
    """A drafter and how far its scores must reach."""

    model: LoadedModel | str
    """A draft model, or the name of a drafter without one: the target's own heads or prompt
    lookup.
    """
    depth: int
    steps: int
    """Largest k; a draft model's scores serve every k."""

    @property
    def heads(self) -> int:
        """Rows of the scores: 1 + depth for a draft model, else one per draft step."""
        return 1 + self.depth if isinstance(self.model, LoadedModel) else self.steps


def replay(
    target: str | LoadedModel,
    drafter: str | LoadedModel,
    texts: Sequence[Text],
    *,
    k: int,
    depth: int = 0,
    rule: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    end: End = "inside",
) -> Counts:
    """Exact expected counts of a pair on given texts; models as paths, hub ids or loaded.

    `drafter` is a model, `"mtp"` for the target's own MTP heads (then depth is at least 1) or
    `"prompt-lookup"`; `rule` any lossless verification rule, `rejection` (`greedy` at temperature
    0) unless told otherwise. Raises RequestError for a pair or rule that cannot be replayed and
    MeasurementError for texts without a round.
    """
    rule = checked_rule(rule, temperature)
    own, model = loaded_pair(target, drafter, depth)
    (scores,) = text_scores(
        own, [DrafterPlan(model, depth, k)], texts, Sampling(temperature, top_k, top_p)
    )
    counts = expected_counts(scores.field(rule), k, end)
    if not counts.total_rounds > 0:
        raise MeasurementError(
            f"no text is long enough for a round of k={k}; use longer texts or a smaller k"
        )
    return counts


def loaded_pair(
    target: str | LoadedModel, drafter: str | LoadedModel, depth: int
) -> tuple[LoadedModel, LoadedModel | str]:
    """A pair with what comes as a path or hub id loaded. Raises RequestError for one that does not
    go together.
    """
    check_folders(target, drafter)
    own = loaded(target)
    model = drafter if drafter in (OWN_HEADS, LOOKUP) else loaded(drafter)
    check_drafter(own, model, depth)
    return own, model


def check_drafter(target: LoadedModel, drafter: LoadedModel | str, depth: int) -> None:
    """Raises RequestError for a drafter that cannot draft for the target, or not at this depth."""
    if drafter != LOOKUP:
        check_pair(
            target.checkpoint,
            drafter.checkpoint if isinstance(drafter, LoadedModel) else None,
            depth,
        )
    elif depth:
        raise RequestError(f"depth {depth}: prompt lookup has no MTP layers; use --specdec-depth=0")


@torch.inference_mode()
def text_scores(
    target: LoadedModel,
    drafters: Sequence[DrafterPlan],
    texts: Sequence[Text],
    sampling: Sampling,
    progress: Progress | None = None,
    *,
    judge_origin: bool = False,
) -> list[Scores]:
    """The scores of each drafter from one pass of each model over the texts, a few texts at a time.

    With `judge_origin` they come with what the target says of the texts' origin, to be checked by
    the caller; at temperature 0, where scores need no pass of the target, it makes one over every
    sixteenth text. Raises RequestError for a text longer than a model's context or with tokens that
    it does not have, MeasurementError for NaN.
    """
    longest = max((len(text.ids) for text in texts), default=0)
    models = [target, *(plan.model for plan in drafters if isinstance(plan.model, LoadedModel))]
    check_context(models, longest)
    check_tokens(models, texts)
    own = np.zeros((len(texts), longest), dtype=np.float32)
    drafts = [
        np.full((len(texts), plan.heads, longest), -np.inf, dtype=np.float32) for plan in drafters
    ]
    order = sorted(
        range(len(texts)), key=lambda row: (len(texts[row].ids), texts[row].prompt_length)
    )
    budget = _LOGIT_BUDGET.get(target.device.type, _LOGIT_BUDGET["cpu"])
    tokens = budget // target.model.get_input_embeddings().num_embeddings
    done = 0
    origins: list[Origin] = []
    if progress:
        progress(0, len(order))
    while done < len(order):
        rows = next_batch(order[done:], texts, tokens)
        origin = _fill(own, drafts, target, drafters, [texts[row] for row in rows], rows, sampling)
        origins += [origin] if origin is not None else []
        done += len(rows)
        if progress:
            progress(done, len(order))
    if judge_origin and sampling.temperature == 0:
        origins = _greedy_origins(target, texts[::_GREEDY_EVERY], tokens)
    found = joined(origins) if judge_origin and origins else None
    return [
        _scores(plan, texts, own, draft, found)
        for plan, draft in zip(drafters, drafts, strict=True)
    ]


def _fill(
    own: np.ndarray,
    drafts: list[np.ndarray],
    target: LoadedModel,
    drafters: Sequence[DrafterPlan],
    texts: list[Text],
    rows: list[int],
    sampling: Sampling,
) -> Origin | None:
    """Write one batch's log-probabilities into the arrays, from the first new token of any of its
    texts.

    Returns what the target says of the texts' origin, where it was asked for its distributions.
    """
    ids = padded([text.ids for text in texts], target.device)
    length = ids.shape[1]
    begin = max(min(text.prompt_length for text in texts), 1)
    wants_hidden = any(plan.model == OWN_HEADS for plan in drafters)
    outputs = origin = None
    # At temperature 0 the text itself says what the target chose, and the pass is for hidden states
    # alone.
    if sampling.temperature > 0 or wants_hidden:
        outputs = _passed(target, ids, begin if sampling.temperature > 0 else length, wants_hidden)
    if outputs is not None and sampling.temperature > 0:
        own[rows, begin:length], origin = _own_scores(
            outputs.logits, ids[:, begin:], texts, begin, sampling
        )
    for draft, plan in zip(drafts, drafters, strict=True):
        if plan.model == LOOKUP:
            continue
        if isinstance(plan.model, LoadedModel):
            theirs = ids.to(plan.model.device)
            passed = _passed(plan.model, theirs, begin, plan.depth > 0)
            draft[rows, 0, begin:length] = _numbers(
                log_scores(passed.logits, theirs[:, begin:], sampling)
            )
            if not plan.depth:
                continue
            first, hidden, owner = 1, passed.hidden_states[-1], plan.model
        else:
            assert outputs is not None
            theirs, first, hidden, owner = ids, 0, outputs.hidden_states[-1], target
        states = teacher_forced_hidden(owner.heads, theirs, hidden, plan.depth, plan.heads - first)
        for step, state in enumerate(states):
            # The state at anchor s predicts token s + 2 + step; the last anchor's token lies past
            # the text.
            at = max(begin, step + 2)
            scores = log_scores(
                project(owner.heads, state[:, at - step - 2 : -1]), theirs[:, at:], sampling
            )
            draft[rows, first + step, at:length] = _numbers(scores)
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
    return _numbers(scores.log_p), Origin(
        sampling, keys, int(new.sum()), tuple(outside), bets.cpu().numpy()
    )


def _greedy_origins(target: LoadedModel, texts: Sequence[Text], tokens: int) -> list[Origin]:
    """The origin of texts that are said to be greedy, from a pass of their own."""
    origins = []
    done = 0
    while done < len(texts):
        batch = [texts[row] for row in next_batch(list(range(done, len(texts))), texts, tokens)]
        done += len(batch)
        ids, begin = (
            padded([text.ids for text in batch], target.device),
            max(min(text.prompt_length for text in batch), 1),
        )
        logits = _passed(target, ids, begin, hidden=False).logits
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


def _passed(model: LoadedModel, ids: torch.Tensor, begin: int, hidden: bool) -> Any:
    """One pass over texts; its logits are (rows, length - begin, vocabulary), the distributions of
    the tokens from `begin` on.
    """
    keys = (
        {"logits_to_keep": torch.arange(begin - 1, ids.shape[1] - 1, device=ids.device)}
        if model.keeps_logits
        else {}
    )
    outputs = model.model(ids, use_cache=False, output_hidden_states=hidden, **keys)
    if not keys:
        outputs.logits = outputs.logits[:, begin - 1 : -1]
    return outputs


def _scores(
    plan: DrafterPlan,
    texts: Sequence[Text],
    own: np.ndarray,
    draft: np.ndarray,
    origin: Origin | None,
) -> Scores:
    lengths = np.array([len(text.ids) for text in texts])
    starts = np.array([text.first_draft for text in texts])
    available = None
    if plan.model == LOOKUP:
        draft, available = lookup_draft(texts, plan.steps, own.shape[1])
    draft[
        np.broadcast_to(np.arange(draft.shape[2]) >= lengths[:, None, None], draft.shape)
    ] = -np.inf
    keys, categories = tuple(text.key for text in texts), tuple(text.category for text in texts)
    return Scores(keys, categories, own, draft, starts, lengths, available, origin)


def _numbers(scores: torch.Tensor) -> np.ndarray:
    check_finite(scores)
    array: np.ndarray = scores.cpu().numpy()
    return array


def check_context(
    models: Sequence[LoadedModel],
    longest: int,
    cure: str = "shorten the prompt or lower --specdec-new-tokens",
) -> None:
    """Raises RequestError for texts beyond a model's context."""
    for model in models:
        if (context := model.checkpoint.context) is not None and longest > context:
            raise RequestError(
                f"a text of {longest} tokens is longer than the context of "
                f"{model.checkpoint.folder} ({context}); {cure}"
            )


def check_tokens(models: Sequence[LoadedModel], texts: Sequence[Text]) -> None:
    """Raises RequestError for texts with token ids that a model does not have."""
    lowest, highest = (
        pick((pick(text.ids) for text in texts if text.ids), default=0) for pick in (min, max)
    )
    for model in models:
        rows = model.model.get_input_embeddings().num_embeddings
        if lowest < 0 or highest >= rows:
            wrong = lowest if lowest < 0 else highest
            raise RequestError(
                f"a text holds the token {wrong} and {model.checkpoint.folder} knows {rows} "
                "tokens; use texts of this model's "
                "tokenizer"
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
    """(rows, longest): zeros behind shorter texts, where causal models do not look."""
    longest = max(map(len, ids))
    return torch.tensor([[*own, *([0] * (longest - len(own)))] for own in ids], device=device)
