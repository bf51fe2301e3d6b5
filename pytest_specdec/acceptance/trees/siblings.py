"""The chance that a child is accepted as the text's own token, given the text.

`p` and `q` are the target's and the drafter's distributions in each context, (contexts,
vocabulary), y the text's tokens (contexts,). A round that emits y accepted it as its j-th child
with probability

    a_j = P(child j is accepted and is y) / p(y)

over the drafts of all siblings and the rule's draws; docs/trees.md derives each. What is drafted
below a child is accepted independently of it, given the text, so paths multiply.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...cases.tree import Children
from ...common.errors import RequestError
from ..counts import Array

MOST_SEQUENCES = 1 << 20
"""Sequences of rejected siblings of one context at most, of children drawn without replacement."""


def top_k_acceptance(ranks: NDArray[np.int64], count: int) -> Array:
    """(..., count): children that are the drafter's likeliest tokens, in their order.

    `ranks` are the places of y among the drafter's tokens, 0 for the likeliest. Any lossless rule
    accepts y where it is drafted.
    """
    accepted: Array = (ranks[..., None] == np.arange(count)).astype(np.float64)
    return accepted


def sibling_acceptance(
    rule: str,
    children: Children,
    p: Array,
    q: Array,
    tokens: NDArray[np.int64],
    count: int,
) -> Array:
    """a_j of `count` drawn children, (contexts, count).

    Raises RequestError for a rule whose acceptance does not follow, and for more sequences of
    rejected siblings than can be enumerated.
    """
    if children == "replacement":
        return _replacement(rule, p, q, tokens, count)
    if children != "sampled" or rule not in ("rejection", "sample-match"):
        raise not_replayed(rule, children)
    if count == 1:
        return _replacement(rule, p, q, tokens, 1)
    return np.stack(
        [
            _without_replacement(rule, p[at], q[at], int(token), count)
            for at, token in enumerate(tokens.tolist())
        ]
    ).reshape(len(tokens), count)


def _replacement(rule: str, p: Array, q: Array, tokens: NDArray[np.int64], count: int) -> Array:
    at = np.arange(len(tokens))
    p_y, q_y = p[at, tokens], q[at, tokens]
    if rule == "sample-match":
        matched: Array = q_y[:, None] * (1 - q_y[:, None]) ** np.arange(count)
        return matched
    if rule not in ("rejection", "specinfer"):
        raise not_replayed(rule, "replacement")
    accepted = np.zeros((len(tokens), count))
    residual, reached = p.astype(np.float64), np.ones(len(tokens))
    for child in range(count):
        accepted[:, child] = reached * np.minimum(residual[at, tokens], q_y) / p_y
        left = np.maximum(residual - q, 0.0)
        mass = left.sum(1)
        reached = reached * mass
        residual = np.divide(left, mass[:, None], out=np.zeros_like(left), where=mass[:, None] > 0)
    if rule == "specinfer":  # a random order of children that are alike
        accepted[:] = accepted.mean(1, keepdims=True)
    return accepted


def _without_replacement(rule: str, p: Array, q: Array, token: int, count: int) -> Array:
    """a_j of one context, by the sequences of elder siblings that were rejected.

    Their residuals are max(a p - b q, 0) with two numbers a, b each: after a rejection of a child
    drawn from c q it is max(a p - (b + c) q, 0), normalised, whichever token was rejected.
    """
    support = np.flatnonzero(q > 0)
    if len(support) ** (count - 1) > MOST_SEQUENCES:
        raise RequestError(
            f"{count} children drawn without replacement from {len(support)} tokens have more than "
            f"{MOST_SEQUENCES} sequences, so their acceptance cannot be enumerated; draft fewer "
            "children or with a smaller top-k, or use --specdec-engine=decode"
        )
    matching = rule == "sample-match"
    p_y, q_y, of_p, of_q = p[token], q[token], p[support], q[support]
    weight, drafted = np.ones(1), np.zeros(1)
    a, b = np.ones(1), np.zeros(1)
    gone = np.zeros((1, len(support)), dtype=bool)
    gone[:, support == token] = True  # once rejected it cannot be accepted any more
    accepted = np.zeros(count)
    for child in range(count):
        with np.errstate(divide="ignore"):
            scale = np.where(drafted < 1 - 1e-12, 1 / np.maximum(1 - drafted, 1e-300), 0.0)
        residual = np.maximum(a[:, None] * of_p - b[:, None] * of_q, 0.0)
        if matching:
            accepted[child] = (weight * scale).sum() * q_y
        else:
            own = np.maximum(a * p_y - b * q_y, 0.0)
            accepted[child] = (weight * np.minimum(own, scale * q_y)).sum() / p_y
        if child == count - 1:
            break
        proposed = scale[:, None] * of_q
        lost = proposed if matching else np.maximum(proposed - residual, 0.0)
        lost = np.where(gone, 0.0, lost)
        state, at = np.nonzero(lost)
        mass = np.maximum(a[:, None] * p - (b + scale)[:, None] * q, 0.0).sum(1)
        # A residual without mass is reached by rounding alone.
        divisor = np.where(mass > 0, mass, 1.0)
        weight, drafted = weight[state] * lost[state, at], drafted[state] + of_q[at]
        if not matching:
            alive = (mass > 0)[state]
            weight = weight * alive
            a, b = (a / divisor)[state], ((b + scale) / divisor)[state]
        else:
            a, b = a[state], b[state]
        gone = gone[state]
        gone[np.arange(len(at)), at] = True
    return accepted


def not_replayed(rule: str, children: Children) -> RequestError:
    return RequestError(
        f"rule {rule!r} with children {children!r} cannot be replayed: what it accepts of a text "
        "does not follow from the text, see docs/trees.md; use --specdec-engine=decode"
    )
