"""What each context of a text gives trees: the distributions, and acceptance by sibling."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch
from numpy.typing import NDArray

from ...acceptance.counts import Array
from ...acceptance.trees.siblings import sibling_acceptance, top_k_acceptance
from ...acceptance.trees.values import Contexts, path_values, traversal_values
from ...cases.case import Sampling
from ...cases.texts import Text
from ...cases.tree import Children, StaticTree
from ...cases.tree_rules import effective_children
from ...common.errors import MeasurementError, RequestError
from ..distributions import check_logits, probabilities
from ..drafters.protocol import Drafter, TextBatch
from ..target_passes import TargetPass

_NOWHERE = np.iinfo(np.int64).max


@dataclasses.dataclass
class TextContexts:
    """One text's contexts, by position: the token at a position follows the context there."""

    text: Text
    begin: int
    """First position with distributions."""
    ranks: NDArray[np.int64]
    """(heads, length): places of the text's tokens among the drafter's, huge where undefined."""
    target: Array | None
    """(length - begin, vocabulary): p; None where no children are drawn."""
    draft: Array | None
    """(heads, length - begin, vocabulary): q, 0 where undefined."""

    @property
    def heads(self) -> int:
        return len(self.ranks)

    @functools.cached_property
    def tokens(self) -> NDArray[np.int64]:
        """(length,)"""
        return np.array(self.text.ids, dtype=np.int64)

    @functools.cache  # noqa: B019  # lives as long as one batch
    def slots(self, head: int, count: int, rule: str, children: Children) -> Array:
        """(length, count): a_j of a head at each position."""
        if children == "top-k":
            return top_k_acceptance(self.ranks[head], count)
        assert self.target is not None
        assert self.draft is not None
        whole = np.zeros((len(self.tokens), count))
        whole[self.begin :] = sibling_acceptance(
            rule,
            children,
            self.target,
            self.draft[head],
            self.tokens[self.begin :],
            count,
        )
        return whole

    def __hash__(self) -> int:
        return id(self)


def node_values(tree: StaticTree, rule: str, contexts: TextContexts) -> Array:
    """(nodes, length): the chance that a round at each position accepts each node. Raises
    RequestError for what cannot be replayed.
    """
    children = effective_children(tree)
    length = len(contexts.tokens)
    if rule == "traversal" and children == "replacement":
        begin = contexts.begin
        values = np.zeros((tree.nodes, length))
        values[:, begin:] = traversal_values(
            tree, functools.partial(_at_step, contexts), length - begin
        )
        return values

    def slots(step: int, count: int) -> Array:
        of_head = contexts.slots(step % contexts.heads, count, rule, children)
        ahead = np.zeros_like(of_head)
        ahead[: max(length - step, 0)] = of_head[step:]
        return ahead

    return path_values(tree, slots, length)


def _at_step(contexts: TextContexts, step: int) -> Contexts:
    """The contexts that a draft step meets at each start; none past the text's end, where q is
    0.
    """
    assert contexts.target is not None
    assert contexts.draft is not None
    p, q = contexts.target, contexts.draft[step % contexts.heads]
    count = max(len(p) - step, 0)
    ahead_p, ahead_q = np.full_like(p, 1 / p.shape[1]), np.zeros_like(q)
    ahead_p[:count], ahead_q[:count] = p[step:], q[step:]
    tokens = np.zeros(len(p), dtype=np.int64)
    tokens[:count] = contexts.tokens[contexts.begin + step :]
    return Contexts(ahead_p, ahead_q, tokens)


def observed_contexts(
    drafter: Drafter,
    texts: list[Text],
    ids: torch.Tensor,
    begin: int,
    steps: int,
    sampling: Sampling,
    passed: TargetPass | None,
    drawn: bool,
) -> list[TextContexts]:
    """The contexts of a batch of texts, `ids` (rows, length); with distributions where children are
    `drawn`.

    Raises RequestError for a drafter that does not show its distributions, MeasurementError for a
    token that the target cannot have emitted.
    """
    rows, length = ids.shape
    heads = drafter.heads(steps)
    ranks = np.full((rows, heads, length), _NOWHERE)
    draft: NDArray[np.float32] | None = None
    seen: set[int] = set()

    def observe(head: int, first: int, logits: torch.Tensor, drafted: torch.Tensor | None) -> None:
        nonlocal draft
        check_logits(logits)
        seen.add(head)
        if drafted is not None:
            vocabulary = int(max(int(drafted.max()), int(ids.max()))) + 1
            if passed is not None and drawn:
                vocabulary = passed.logits.shape[-1]
            whole = logits.new_full((*logits.shape[:-1], vocabulary), -torch.inf)
            logits = whole.index_copy_(-1, drafted, logits)
        ranks[:, head, first:] = _ranks(logits, ids[:, first:]).cpu().numpy()
        if drawn:
            q = probabilities(logits, sampling).cpu().numpy()
            if draft is None:
                draft = np.zeros((rows, heads, length - begin, q.shape[-1]), dtype=np.float32)
            draft[:, head, first - begin :] = q

    drafter.score(
        TextBatch(
            texts=texts,
            ids=ids,
            begin=begin,
            steps=steps,
            sampling=sampling,
            hidden_states=None if passed is None else passed.hidden_states,
            layer_states={} if passed is None else passed.layer_states,
            observe=observe,
        )
    )
    if not seen:
        raise RequestError(
            "this drafter does not show its distributions, so trees of it cannot be replayed; use "
            "a draft model, MTP heads, or EAGLE-3, Medusa or Hydra heads"
        )
    target = None
    if drawn:
        assert passed is not None
        check_logits(passed.logits)
        target = probabilities(passed.logits, sampling).cpu().numpy()
        assert draft is not None
        draft = _resized(draft, target.shape[-1])
    return [_of_text(text, begin, ranks[row], target, draft, row) for row, text in enumerate(texts)]


def _of_text(
    text: Text,
    begin: int,
    ranks: NDArray[np.int64],
    target: NDArray[np.float32] | None,
    draft: NDArray[np.float32] | None,
    row: int,
) -> TextContexts:
    length = len(text.ids)
    if target is None or draft is None:
        return TextContexts(text, begin, ranks[:, :length], None, None)
    p = _normalised(target[row, : length - begin])
    q = _normalised(draft[row, :, : length - begin])
    own = p[np.arange(length - begin), list(text.ids[begin:])]
    if (impossible := np.flatnonzero(own[text.prompt_length - begin :] == 0)).size:
        raise MeasurementError(
            f"the target gives the token at position {text.prompt_length + int(impossible[0])} of "
            f"text {text.key} probability 0, so the text is not its own; replay texts that it "
            "emitted, with the temperature and filters that they were sampled with"
        )
    # Prompts may hold tokens that the target would not emit; no round starts there.
    p[np.arange(length - begin), list(text.ids[begin:])] = np.maximum(own, 1e-300)
    return TextContexts(text, begin, ranks[:, :length], p, q)


def _normalised(rows: NDArray[np.float32]) -> Array:
    exact = rows.astype(np.float64)
    mass = exact.sum(-1, keepdims=True)
    normalised: Array = np.divide(exact, mass, out=np.zeros_like(exact), where=mass > 0)
    return normalised


def _resized(draft: NDArray[np.float32], vocabulary: int) -> NDArray[np.float32]:
    """q over the target's tokens, of a drafter that pads its own to another number."""
    width = draft.shape[-1]
    if width >= vocabulary:
        return draft[..., :vocabulary]
    return np.pad(draft, [(0, 0), (0, 0), (0, 0), (0, vocabulary - width)])


def _ranks(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Places of tokens (rows, positions) by falling logits, of equal ones the smaller id first."""
    own = logits.gather(-1, tokens[..., None])
    smaller = torch.arange(logits.shape[-1], device=logits.device) < tokens[..., None]
    return ((logits > own) | ((logits == own) & smaller)).sum(-1)
