"""Policies side by side: what lies between a fixed k and an oracle. Numpy only."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..acceptance.renewal import AcceptanceField
from ..cases.drafter import DRAFT
from ..common.errors import MeasurementError
from .cost_profile import CostProfile
from .policies import (
    Confidences,
    Drafting,
    Gain,
    RoundMs,
    confident,
    fastest,
    fixed,
    gain,
    oracle,
    per_category,
    scheduled,
    times,
)

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
TRANSFORMERS_THRESHOLD = 0.4
"""`assistant_confidence_threshold` of transformers."""
_DYNAMIC = 3
"""Dynamic policies that use no confidences."""
HEADERS = ("policy", "drafted", "length", "speed-up", "of the oracle")
NOTE = (
    "drafted and length = tokens per round, over whole texts; speed-up over plain decoding, from "
    "the cost profile; "
    "of the oracle = its share"
)


Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class PolicyRow:
    """A policy and its results."""

    name: str
    drafting: Drafting
    speedup: float
    share: float
    """Of the oracle's speed-up."""
    detail: str = ""
    """What it chose, where its name does not show it."""
    gain: Gain | None = None
    """Over the best fixed k: of the fastest dynamic policy other than the oracle, where there are
    two texts or more.
    """

    def cells(self) -> tuple[str, ...]:
        """A word for each header."""
        drafting = self.drafting
        numbers = (
            f"{drafting.drafted:.2f}",
            f"{drafting.acceptance_length:.3f}",
            f"{self.speedup:.3f}x",
            f"{self.share:.1%}",
        )
        return (self.name, *numbers)


def policy_table(
    field: AcceptanceField,
    costs: CostProfile,
    *,
    most: int,
    depth: int = 0,
    drafter: str = DRAFT,
    confidences: Confidences | None = None,
    progress: Progress = lambda what, done, total: None,
) -> list[PolicyRow]:
    """Plain decoding, every fixed k up to `most`, and what beats them: per category, by confidence,
    scheduled, oracle.

    `progress` is called as (what, policies done, policies in all).

    Raises ValueError for a profile without `target_ms`, CostError for one that does not cover 1 to
    `most`, and MeasurementError for texts without a round.
    """
    round_ms = times(costs, depth, drafter=drafter)
    total = most + 1 + _DYNAMIC + (0 if confidences is None else len(THRESHOLDS))
    each = {}
    for k in range(most + 1):
        each[k] = fixed(field, k, most)
        progress("policies", k + 1, total)
    if not each[most].rounds[most] > 0:
        raise MeasurementError(
            f"no text is long enough for a round of k={most}; use longer texts or a smaller k"
        )
    best_k = fastest(each, round_ms)
    named = list(_fixed(field, each, most, best_k))
    for policy in _dynamic(field, round_ms, most, confidences):
        named.append(policy)
        progress("policies", len(named), total)
    rows = _rows(named, round_ms)
    best = max(range(most + 1, len(rows) - 1), key=lambda number: rows[number].speedup)
    rows[best] = dataclasses.replace(
        rows[best], gain=_gain(field, named[best], named[best_k], round_ms, costs.relative_error)
    )
    return rows


@dataclasses.dataclass(frozen=True)
class _Named:
    """A policy's name, what it drafts in all texts and in some of them, and what it chose."""

    name: str
    drafting: Drafting
    part: Callable[[slice], Drafting]
    detail: str = ""


def _fixed(
    field: AcceptanceField, each: Mapping[int, Drafting], most: int, best: int
) -> Iterator[_Named]:
    for k, drafting in each.items():
        name = (f"k = {k}" if k else "plain decoding") + " (best fixed k)" * (k == best)
        yield _Named(
            name,
            drafting,
            functools.partial(_part, field, functools.partial(fixed, k=k, most=most)),
        )


def _dynamic(
    field: AcceptanceField, round_ms: RoundMs, most: int, confidences: Confidences | None
) -> Iterator[_Named]:
    """Dynamic policies; the oracle comes last."""
    chosen, drafting = per_category(field, round_ms, range(1, most + 1), most)

    def categorical(rows: slice) -> Drafting:
        texts = field.select(rows)
        return functools.reduce(
            operator.add,
            (
                fixed(texts.select(np.array([row])), chosen[name], most)
                for row, name in enumerate(texts.categories)
            ),
        )

    yield _Named(
        "k by category",
        drafting,
        categorical,
        ", ".join(f"{name} {k}" for name, k in chosen.items()),
    )
    schedule = functools.partial(scheduled, first=5, most=most)
    yield _whole(f"schedule of transformers, from {min(5, most)}", field, schedule)
    if confidences is not None:
        yield from _by_confidence(field, confidences, round_ms, most)
    yield _whole("oracle", field, functools.partial(oracle, most=most, round_ms=round_ms))


def _whole(
    name: str, field: AcceptanceField, policy: Callable[[AcceptanceField], Drafting]
) -> _Named:
    """A policy that needs nothing but the field."""
    return _Named(name, policy(field), functools.partial(_part, field, policy))


def _part(
    field: AcceptanceField, policy: Callable[[AcceptanceField], Drafting], rows: slice
) -> Drafting:
    return policy(field.select(rows))


def _by_confidence(
    field: AcceptanceField, confidences: Confidences, round_ms: RoundMs, most: int
) -> Iterator[_Named]:
    curve = {threshold: confident(field, confidences, threshold, most) for threshold in THRESHOLDS}
    best = fastest(curve, round_ms)

    def part(threshold: float, rows: slice) -> Drafting:
        return confident(field.select(rows), confidences.select(rows), threshold, most)

    for threshold, drafting in curve.items():
        marks = ["best"] * (threshold == best) + ["transformers' default"] * (
            threshold == TRANSFORMERS_THRESHOLD
        )
        name = f"stop below {threshold:g}" + (f" ({', '.join(marks)})" if marks else "")
        yield _Named(name, drafting, functools.partial(part, threshold))


def _rows(named: Sequence[_Named], round_ms: RoundMs) -> list[PolicyRow]:
    """A row for each policy, the oracle last."""
    speedups = [policy.drafting.speedup(round_ms) for policy in named]
    return [
        PolicyRow(
            name=policy.name,
            drafting=policy.drafting,
            speedup=speedup,
            share=speedup / speedups[-1],
            detail=policy.detail,
        )
        for policy, speedup in zip(named, speedups, strict=True)
    ]


def _gain(
    field: AcceptanceField, policy: _Named, plain: _Named, round_ms: RoundMs, timing_error: float
) -> Gain | None:
    """The gain of a policy over a fixed k; None for a single text."""
    texts = [slice(text, text + 1) for text in range(len(field.prompts))]
    if len(texts) < 2:
        return None
    return gain(list(map(policy.part, texts)), list(map(plain.part, texts)), round_ms, timing_error)
