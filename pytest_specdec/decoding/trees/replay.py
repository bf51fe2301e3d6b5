"""Replay of trees: what a tree of drafts would have accepted of texts that the target emitted.

A static tree needs what replay of chains needs, one pass of target and drafter over the texts:
every node on an accepted path holds the text's own tokens, and its siblings enter by their
distribution alone. A dynamic tree depends on what is drafted beside the text, so it is grown at
each start of a round; it is certain, so the starts are, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from ...acceptance.counts import Array, Counts
from ...acceptance.renewal import End, expected_counts
from ...acceptance.trees.field import TreeField
from ...cases.case import Sampling
from ...cases.texts import Text
from ...cases.tree import DynamicTree, StaticTree, Tree, tree_of
from ...cases.tree_rules import checked_tree_rule, not_replayable_tree
from ...checkpoints.drafter_folders import check_drafts
from ...common.errors import MeasurementError, RequestError
from ..drafters.protocol import Drafter
from ..drafters.registry import DrafterSource, loaded_pair
from ..loading import LoadedModel
from ..replay import Progress, check_origin
from ..target_passes import ModelPasses
from ..text_batches import batches, padded
from ..text_limits import check_context, check_tokens
from .drafting import cut, draft_tree
from .proposers import tree_proposer
from .text_contexts import TextContexts, node_values, observed_contexts

_LOGITS = 1 << 21
"""Logits held at once, in numbers."""


@dataclasses.dataclass(frozen=True)
class TreePair:
    """A tree and the rule that verifies it."""

    tree: Tree
    rule: str


def replay_tree(
    target: str | LoadedModel,
    drafter: DrafterSource,
    texts: Sequence[Text],
    *,
    tree: Tree | str | Sequence[Sequence[int]],
    depth: int = 0,
    rule: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    end: End = "inside",
) -> Counts:
    """Expected counts of speculative decoding with trees of drafts on texts that the target has
    emitted; exact, without decoding.

    Parameters
    ----------
    target, drafter, texts, temperature, top_k, top_p, end
        As for `replay`; drafters are those of `decode_tree`.
    tree, depth, rule
        As for `decode_tree`. Rules ``"naive"``, which is lossy, and ``"traversal"`` with children
        drawn without replacement are refused, as are such children in numbers that cannot be
        enumerated.

    Returns
    -------
    Counts
        Expected rounds and, by depth, drafted and accepted tokens of each text; k is the tree's
        depth.

    Raises
    ------
    RequestError
        For a pair, tree or rule that cannot be replayed.
    MeasurementError
        For texts without a single round, or that the target does not emit at this temperature and
        with these filters. At temperature 0 every sixteenth text is looked at.

    References
    ----------
    docs/trees.md has the derivations.

    Examples
    --------
    >>> from pytest_specdec import decode_tree, replay_tree
    >>> pair = "suites/models/text-target", "suites/models/text-draft"
    >>> options = {"tree": "0 1 0.0 1.0", "temperature": 0}
    >>> decoded = decode_tree(*pair, ["The function returns"], new_tokens=32, **options)
    >>> counts = replay_tree(*pair, decoded.texts, **options)
    >>> bool((counts.accepted == decoded.counts.accepted).all())
    True
    """
    shape = tree_of(tree)
    rule = checked_tree_rule(rule, shape, temperature)
    model, drafting = loaded_pair(target, drafter, depth)
    check_drafts(drafter, shape.depth, drafting.most_drafts)
    sampling = Sampling(temperature, top_k, top_p)
    (field,) = tree_fields(model, drafting, texts, [TreePair(shape, rule)], sampling)
    check_origin(model, texts, sampling)
    counts = expected_counts(field, shape.depth, end)
    if not counts.total_rounds > 0:
        raise MeasurementError(
            f"no text is long enough for a round of depth {shape.depth}; use longer texts or a "
            "shallower tree"
        )
    return counts


@torch.inference_mode()
def tree_fields(
    target: LoadedModel,
    drafter: Drafter,
    texts: Sequence[Text],
    pairs: Sequence[TreePair],
    sampling: Sampling,
    progress: Progress | None = None,
    *,
    full: bool = False,
    margins: dict[tuple[int, int], float] | None = None,
) -> list[TreeField]:
    """The field of each tree, from one pass of each model over the texts; dynamic trees are grown
    at each start of a round.

    With `full` dynamic trees are grown whole near a text's end, where the text has no room for
    them. `margins` receives `DraftedNodes.margin` of each dynamic tree by text and start.

    Raises RequestError for what cannot be replayed.
    """
    for pair in pairs:
        if (problem := not_replayable_tree(pair.rule, pair.tree)) is not None:
            raise RequestError(f"{problem}; use --specdec-engine=decode")
    if not texts:
        raise RequestError("there is no text to replay; pass at least one")
    check_context([target, *drafter.models], max(len(text.ids) for text in texts))
    check_tokens([target, *drafter.models], [text.ids for text in texts])
    longest = max(len(text.ids) for text in texts)
    reach = [np.zeros((len(texts), longest, pair.tree.depth)) for pair in pairs]
    done = 0
    for rows in tree_batches(texts, target.model.get_input_embeddings().num_embeddings):
        parts = [texts[row] for row in rows]
        _fill(reach, rows, target, drafter, parts, pairs, sampling, full, margins)
        done += len(rows)
        if progress:
            progress(done, len(texts))
    return [field_of_texts(of_pair, texts) for of_pair in reach]


def tree_batches(texts: Sequence[Text], vocabulary: int) -> tuple[tuple[int, ...], ...]:
    """Numbers of the texts that are replayed together by a target with so many tokens; a batch
    replayed by itself is replayed as among the others.
    """
    order = sorted(range(len(texts)), key=lambda row: len(texts[row].ids))
    return tuple(map(tuple, batches(order, texts, _LOGITS // vocabulary)))


def field_of_texts(reach: Array, texts: Sequence[Text]) -> TreeField:
    """The field of texts whose trees accept `reach` (texts, longest, depth)."""
    return TreeField.of(
        reach,
        prompts=tuple(text.key for text in texts),
        categories=tuple(text.category for text in texts),
        starts=np.array([text.first_draft for text in texts]),
        lengths=np.array([len(text.ids) for text in texts]),
    )


def _fill(
    reach: list[Array],
    rows: Sequence[int],
    target: LoadedModel,
    drafter: Drafter,
    texts: list[Text],
    pairs: Sequence[TreePair],
    sampling: Sampling,
    full: bool,
    margins: dict[tuple[int, int], float] | None,
) -> None:
    """Write one batch of texts into the arrays of all pairs."""
    static = [pair for pair in pairs if isinstance(pair.tree, StaticTree)]
    drawn = any(pair.tree.children != "top-k" for pair in static)
    ids = padded([text.ids for text in texts], target.device)
    begin = max(min(text.prompt_length for text in texts), 1)
    passed = None
    if drawn or drafter.reads_hidden or drafter.reads_layers:
        passed = ModelPasses(target).run(
            ids,
            texts,
            begin if drawn else ids.shape[1],
            hidden=drafter.reads_hidden,
            layers=drafter.reads_layers,
        )
    if static:
        steps = max(pair.tree.depth for pair in static)
        contexts = observed_contexts(drafter, texts, ids, begin, steps, sampling, passed, drawn)
        for pair, whole in zip(pairs, reach, strict=True):
            if isinstance(pair.tree, StaticTree):
                for row, of_text in zip(rows, contexts, strict=True):
                    whole[row, : len(of_text.text.ids)] = _static_reach(pair, of_text)
    for pair, whole in zip(pairs, reach, strict=True):
        if isinstance(pair.tree, DynamicTree):
            for place, (row, text) in enumerate(zip(rows, texts, strict=True)):
                states = None
                if passed is not None and drafter.reads_layers:
                    parts = [passed.layer_states[number][place] for number in drafter.reads_layers]
                    states = torch.cat(parts, -1)
                elif passed is not None and passed.hidden_states is not None:
                    states = passed.hidden_states[-1][place]
                found = _walk(
                    whole[row], pair.tree, drafter, text, ids[place], states, sampling, full
                )
                if margins is not None:
                    margins |= {(row, start): margin for start, margin in found.items()}


def _static_reach(pair: TreePair, contexts: TextContexts) -> Array:
    """(length, depth) of one text."""
    assert isinstance(pair.tree, StaticTree)
    values = node_values(pair.tree, pair.rule, contexts)
    reach = np.zeros((len(contexts.text.ids), pair.tree.depth))
    for node, depth in enumerate(pair.tree.depths):
        reach[:, depth - 1] += values[node]
    return np.clip(reach, 0.0, 1.0)


def _walk(
    reach: Array,
    tree: DynamicTree,
    drafter: Drafter,
    text: Text,
    ids: torch.Tensor,
    states: torch.Tensor | None,
    sampling: Sampling,
    full: bool,
) -> dict[int, float]:
    """Grow the trees of one text's rounds; other starts of `reach` (length, depth) stay 0. Returns
    their margins by start.
    """
    margins: dict[int, float] = {}
    proposer = tree_proposer(drafter)
    start, read, length = text.first_draft, 0, len(text.ids)
    while start < length:
        known = None if states is None else states[max(read - 1, 0) : start - 1]
        proposer.read(ids[read:start], known)
        read = start
        left = length - start
        shape = cut(tree, tree.depth if full or left >= tree.depth else left - 1)
        accepted = 0
        if shape is not None:
            drafted = draft_tree(proposer, shape, sampling)
            accepted = len(drafted.path_of(text.ids[start:length]))
            margins[start] = drafted.margin
        reach[start, :accepted] = 1.0
        start += accepted + 1
    return margins
