"""Replay: what speculative decoding would accept on texts that the target has already emitted.

Speculative decoding is lossless, so a text Y is a sample of the target. Given Y, the draft at a position would be
accepted as that token with probability min(1, q(y)/p(y)) (Leviathan et al., arXiv 2211.17192), and every draft of an
accepted prefix is Y's own tokens. One target pass and one drafter pass over Y therefore give the acceptance of every
draft step from every round start; `acceptance.renewal` turns that into counts for any k.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..acceptance.case import OWN_HEADS
from ..acceptance.counts import Counts
from ..acceptance.renewal import AcceptanceField, End, expected_counts
from ..acceptance.texts import Text
from ..errors import MeasurementError, RequestError
from .heads import project, teacher_forced_hidden
from .loading import LoadedModel, load_model

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""

_LOGIT_BUDGET = {"cpu": 1 << 22, "cuda": 1 << 28}
"""Logits held at once, in numbers: 16 MiB in float32 on a CPU, 1 GiB on a GPU."""


@dataclasses.dataclass(frozen=True)
class DrafterPlan:
    """A drafter and how far its field must reach."""

    model: LoadedModel | None
    """None for the target's own MTP heads."""
    depth: int
    steps: int
    """Largest k; only own heads need it, a draft model's field serves every k."""

    @property
    def heads(self) -> int:
        """Rows of the field: 1 + depth for a draft model, one per draft step for own heads."""
        return self.steps if self.model is None else 1 + self.depth


def replay(
    target: str | LoadedModel,
    drafter: str | LoadedModel,
    texts: Sequence[Text],
    *,
    k: int,
    depth: int = 0,
    temperature: float = 1.0,
    end: End = "inside",
) -> Counts:
    """Exact expected counts of a pair on given texts; models as paths, hub ids or loaded.

    `drafter` is `"mtp"` for the target's own MTP heads (then depth is at least 1). Raises RequestError for a pair
    that cannot be measured and MeasurementError for texts without a round.
    """
    from ..checkpoint import check_pair

    loaded = load_model(target) if isinstance(target, str) else target
    model = None if drafter == OWN_HEADS else load_model(drafter) if isinstance(drafter, str) else drafter
    check_pair(loaded.checkpoint, model.checkpoint if model else None, depth)
    (field,) = acceptance_fields(loaded, [DrafterPlan(model, depth, k)], texts, temperature)
    counts = expected_counts(field, k, end)
    if not counts.total_rounds > 0:
        raise MeasurementError(f"no text is long enough for a round of k={k}; use longer texts or a smaller k")
    return counts


@torch.inference_mode()
def acceptance_fields(
    target: LoadedModel,
    drafters: Sequence[DrafterPlan],
    texts: Sequence[Text],
    temperature: float,
    progress: Progress | None = None,
) -> list[AcceptanceField]:
    """The acceptance field of each drafter from one pass of each model over the texts.

    Raises RequestError for a text longer than the target's context.
    """
    longest = max((len(text.ids) for text in texts), default=0)
    for model in (target, *(plan.model for plan in drafters if plan.model)):
        if (context := model.checkpoint.context) is not None and longest > context:
            raise RequestError(
                f"a text of {longest} tokens is longer than the context of {model.checkpoint.folder} ({context}); "
                "shorten the prompt or lower --specdec-new-tokens"
            )
    accepts = [np.zeros((len(texts), plan.heads, longest)) for plan in drafters]
    order = sorted(range(len(texts)), key=lambda row: len(texts[row].ids))
    budget = _LOGIT_BUDGET.get(target.device.type, _LOGIT_BUDGET["cpu"])
    tokens = budget // target.model.get_input_embeddings().num_embeddings
    done = 0
    if progress:
        progress(0, len(order))
    while done < len(order):
        rows = _batch(order[done:], texts, tokens)
        ids = _padded([texts[row].ids for row in rows], target.device)
        _fill(accepts, target, drafters, ids, rows, temperature)
        done += len(rows)
        if progress:
            progress(done, len(order))
    return [_as_field(accept, texts) for accept in accepts]


def _fill(
    accepts: list[np.ndarray],
    target: LoadedModel,
    drafters: Sequence[DrafterPlan],
    ids: torch.Tensor,
    rows: list[int],
    temperature: float,
) -> None:
    """Write one batch's acceptance into each drafter's array."""
    wants_hidden = any(plan.model is None for plan in drafters)
    outputs = target.model(ids, use_cache=False, output_hidden_states=wants_hidden)
    reference = _scores(outputs.logits[:, :-1], ids[:, 1:], temperature)
    lengths = ids.shape[1]
    for accept, plan in zip(accepts, drafters, strict=True):
        if plan.model is None:
            first, hidden, owner = 0, outputs.hidden_states[-1], target
        else:
            own = plan.model.model(ids.to(plan.model.device), use_cache=False, output_hidden_states=plan.depth > 0)
            scores = _scores(own.logits[:, :-1].to(ids.device), ids[:, 1:], temperature)
            accept[rows, 0, 1:lengths] = _acceptance(scores, reference, temperature)
            if not plan.depth:
                continue
            first, hidden, owner = 1, own.hidden_states[-1], plan.model
        states = teacher_forced_hidden(owner.heads, ids.to(owner.device), hidden, plan.depth, plan.heads - first)
        for step, state in enumerate(states):
            # The state at anchor s predicts token s + 2 + step; the last anchor's token lies past the text.
            scores = _scores(project(owner.heads, state[:, :-1]).to(ids.device), ids[:, step + 2 :], temperature)
            accept[rows, first + step, step + 2 : lengths] = _acceptance(scores, reference[:, step + 1 :], temperature)


def _scores(logits: torch.Tensor, tokens: torch.Tensor, temperature: float) -> torch.Tensor:
    """Log-probability of each token, (batch, length); at temperature 0 whether it is the arg-max."""
    if temperature == 0:
        return (logits.argmax(-1) == tokens).float()
    return torch.log_softmax(logits.float() / temperature, -1).gather(-1, tokens[..., None])[..., 0]


def _acceptance(draft: torch.Tensor, target: torch.Tensor, temperature: float) -> np.ndarray:
    """min(1, q/p) from log-probabilities; at temperature 0 the draft's own 0 or 1."""
    accept = draft if temperature == 0 else (draft - target).clamp(max=0).exp()
    array: np.ndarray = accept.double().cpu().numpy()
    if np.isnan(array).any():
        raise MeasurementError("a model returns NaN probabilities; check its weights, or use --specdec-dtype=float32")
    return array


def _batch(order: list[int], texts: Sequence[Text], tokens: int) -> list[int]:
    """The next rows, by length, that make at most so many tokens; at least one."""
    rows: list[int] = []
    for row in order:
        if rows and (len(rows) + 1) * len(texts[row].ids) > tokens:
            break
        rows.append(row)
    return rows


def _padded(ids: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """(rows, longest): zeros behind shorter texts, where causal models do not look."""
    longest = max(map(len, ids))
    return torch.tensor([[*own, *([0] * (longest - len(own)))] for own in ids], device=device)


def _as_field(accept: np.ndarray, texts: Sequence[Text]) -> AcceptanceField:
    lengths = np.array([len(text.ids) for text in texts])
    past_end = np.arange(accept.shape[2])[None, None] >= lengths[:, None, None]
    return AcceptanceField(
        tuple(text.key for text in texts),
        tuple(text.category for text in texts),
        np.where(past_end, 0.0, accept),
        np.array([text.first_draft for text in texts]),
        lengths,
    )
