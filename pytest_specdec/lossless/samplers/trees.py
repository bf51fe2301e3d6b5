"""assert_lossless_tree: whether a sampler that verifies trees keeps the target's distribution."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from hypothesis import strategies as st

from ...cases.tree import CHILDREN, Children, StaticTree, check_children
from ...common.errors import RequestError
from .check import LosslessResult
from .exact import REPEATS, DistributionGap, distribution_gap
from .failure import SamplerFailure, failure_of
from .prefix_tree import PrefixTree, Row
from .sampler import Arrays, Verify
from .search import smallest
from .strategies import pairs, turns
from .tree_rounds import DraftProbs, TreeRound, TreeSampler

MOST_DRAFTED = 100
"""Trees of drafts of one round at most."""
MOST_NODES_OF_EVERY_SHAPE = 4
"""Trees of up to so many nodes are tried in every shape: 33 of up to 4 nodes."""


def assert_lossless_tree(
    verify: Verify,
    *,
    vocab_size: int = 4,
    nodes: int = 4,
    children: Children | Sequence[Children] = CHILDREN,
    draft_probs: DraftProbs = "drawn",
    arrays: Arrays = "auto",
    dtype: torch.dtype = torch.float32,
    max_examples: int = 100,
    seed: int = 0,
) -> LosslessResult:
    """Raise AssertionError unless the tokens that a sampler of trees emits follow the target's
    joint distribution.

    Every draw of the drafts and of the sampler is followed, so any bias beyond rounding is seen
    where it is tried: on `max_examples` trees and distributions that are searched for one, and on
    every shape of up to 4 nodes, as many as `max_examples`, with fixed distributions. A fault of
    larger trees alone takes a larger `nodes`. The sampler must also leave its arguments as they are
    and emit tokens of the vocabulary.

    Parameters
    ----------
    verify
        The sampler: `verify(target_probs, draft_probs, draft_tokens, parents, generator=None)` gets
        p after the last emitted token and after each node (nodes + 1, V), q of each node
        (nodes, V), the drafts (nodes,) and the number of each node's parent (nodes,), -1 for the
        root; parents come before their children. It returns the tokens of the accepted path, and
        one more. With a parameter `mask` it is also given which nodes each one's attention sees
        (nodes, nodes), with `positions` how far each lies behind the last emitted token (nodes,).
    vocab_size, nodes
        The largest vocabulary and tree to try; trees of more than 100 possible drafts are not.
    children
        How children are drafted, one or several: `"top-k"`, the likeliest tokens in their order,
        nothing random, as EAGLE-2, Medusa and SGLang draft; `"sampled"`, one after the other, never
        the same token twice (Sequoia, RSD); `"replacement"`, independently (SpecTr, SpecInfer).
    draft_probs
        What the sampler is given for q: `"drawn"`, the distribution that each token was drawn from,
        all mass on a token that was certain and none on elder siblings that it could not equal;
        `"model"`, the drafter's own q.
    arrays, dtype
        How the sampler is called, see `assert_lossless`.
    max_examples
        Trees to search, each with distributions of its own.
    seed
        Of the examples.

    Returns
    -------
    LosslessResult
        What was tried.

    Raises
    ------
    AssertionError
        The sampler is not lossless; the message shows the smallest tree found.
    RequestError
        An option is out of range.
    NotEnumerableError
        A draw of the sampler cannot be followed.

    References
    ----------
    Recursive rejection sampling: arXiv 2310.15141, 2402.14160. docs/trees.md names the others.

    Examples
    --------
    Every child tested against the unmodified p, the commonest mistake:

    >>> import torch
    >>> from pytest_specdec.lossless import assert_lossless_tree
    >>> def each_alone(target_probs, draft_probs, draft_tokens, parents, generator=None):
    ...     for node in (parents == -1).nonzero()[:, 0]:
    ...         token, p, q = draft_tokens[node], target_probs[0], draft_probs[node]
    ...         if torch.rand((), generator=generator) * q[token] < p[token]:
    ...             p = target_probs[node + 1]
    ...             return [token, torch.multinomial(p, 1, generator=generator)]
    ...     return [torch.multinomial((p - q).clamp(min=0), 1, generator=generator)]
    >>> try:
    ...     assert_lossless_tree(each_alone, children="replacement", nodes=2, vocab_size=3)
    ... except AssertionError as failure:
    ...     print(str(failure).partition(":")[0])
    each_alone is not lossless (exact)
    """
    __tracebackhide__ = True
    if vocab_size < 2 or nodes < 1 or max_examples < 1:
        raise RequestError(
            f"vocab_size {vocab_size}, nodes {nodes}, max_examples {max_examples}; use at least 2, "
            "1 and 1"
        )
    ways = (children,) if isinstance(children, str) else tuple(children)
    if not ways:
        raise RequestError("no way of drafting children is given; leave `children` out for all")
    for way in ways:
        check_children(way)
    sampler = TreeSampler(verify, arrays, dtype, draft_probs)
    strategy = tree_rounds(vocab_size, nodes, ways)
    repeats = _Repeats()
    found = smallest(
        strategy, lambda given: repeats.wrong(sampler, given) is not None, max_examples, seed
    )
    if found is None:
        shapes = itertools.islice(_every_shape(vocab_size, nodes, ways, seed), max_examples)
        found = next((given for given in shapes if repeats.wrong(sampler, given)), None)
    if found is not None:
        fault = _wrong(sampler, found, REPEATS)
        assert fault is not None
        raise AssertionError(
            f"{sampler.name} is not lossless ({fault.how or 'exact'}): {fault.text}\n"
            f"{_shown(found, fault)}"
        ) from fault.cause
    return LosslessResult(sampler.name, "exact", max_examples)


def tree_output_distribution(
    verify: Verify,
    target: PrefixTree,
    draft: PrefixTree,
    tree: StaticTree,
    *,
    draft_probs: DraftProbs = "drawn",
) -> dict[tuple[int, ...], float]:
    """The distribution of the tokens that one round of a tree emits, exact up to rounding.

    `verify` is called as in `assert_lossless_tree`; `target` and `draft` are as in
    `output_distribution`, p and q after each prefix. Raises as `output_distribution`.
    """
    return TreeRound(target, draft, tree).distribution(TreeSampler(verify, draft_probs=draft_probs))


class _Repeats:
    """Judges trees one after the other; calls of the first wrong one are repeated, to see draws
    that are not followed.
    """

    def __init__(self) -> None:
        self._repeats = REPEATS

    def wrong(self, sampler: TreeSampler, given: TreeRound) -> SamplerFailure | None:
        fault = _wrong(sampler, given, 0)
        if fault is not None and self._repeats:
            fault, self._repeats = _wrong(sampler, given, self._repeats), 0
        return fault


def _wrong(sampler: TreeSampler, given: TreeRound, repeats: int) -> SamplerFailure | None:
    def judged() -> SamplerFailure | None:
        gap: DistributionGap | None = distribution_gap(
            given.distribution(sampler, repeats), given.target, given.k, sampler.tolerance
        )
        return None if gap is None else SamplerFailure.of_distribution(gap)

    return failure_of(judged)


def tree_rounds(
    vocab_size: int, nodes: int, children: Sequence[Children]
) -> st.SearchStrategy[TreeRound]:
    """Trees of 1 to `nodes` nodes over 2 to `vocab_size` tokens, and distributions for them."""
    sizes = st.tuples(
        st.sampled_from(list(children)), st.integers(2, vocab_size), st.integers(1, nodes)
    ).filter(lambda drawn: drawn[0] == "top-k" or drawn[1] ** drawn[2] <= MOST_DRAFTED)
    return sizes.flatmap(lambda drawn: _rounds(*drawn))


@functools.cache
def _rounds(children: Children, vocab_size: int, nodes: int) -> st.SearchStrategy[TreeRound]:
    parents = st.tuples(*(st.integers(-1, node - 1) for node in range(nodes)))
    rows = st.lists(pairs(vocab_size), min_size=1, max_size=3)

    def built(shape: tuple[int, ...], drawn: list[tuple[Row, Row]]) -> TreeRound:
        target, draft = zip(*drawn, strict=True)
        return TreeRound(turns(target), turns(draft), StaticTree(shape, children))

    return st.builds(built, parents, rows)


def _every_shape(
    vocab_size: int, nodes: int, children: Sequence[Children], seed: int
) -> Iterator[TreeRound]:
    """Every tree of up to 4 nodes with children of each kind, the largest first."""
    rng = np.random.default_rng(seed)
    for size in range(min(nodes, MOST_NODES_OF_EVERY_SHAPE), 0, -1):
        shapes = itertools.product(*(range(-1, node) for node in range(size)))
        for shape, way in itertools.product(shapes, children):
            tokens = vocab_size
            while way != "top-k" and tokens**size > MOST_DRAFTED:
                tokens -= 1
            rows = [tuple(map(float, row)) for row in rng.dirichlet(np.ones(tokens), size=6)]
            yield TreeRound(turns(rows[:3]), turns(rows[3:]), StaticTree(shape, way))


def _shown(given: TreeRound, fault: SamplerFailure) -> str:
    """The tree and the distributions along the prefix that is wrong."""
    lines = [f"  {given}, children {given.tree.children}"]
    for length in range(max(len(fault.prefix), 1)):
        before = fault.prefix[:length]
        after = f"  after {list(before)}" if before else ""
        lines.append(f"  p = {_row(given.target, before)}  q = {_row(given.draft, before)}{after}")
    return "\n".join(lines)


def _row(tree: PrefixTree, prefix: tuple[int, ...]) -> str:
    return f"[{', '.join(f'{share:.4g}' for share in tree.row(prefix))}]"
