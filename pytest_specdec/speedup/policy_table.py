"""Policies side by side: what is left on the table between a fixed k and an oracle. Numpy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from ..acceptance.renewal import AcceptanceField
from ..errors import MeasurementError
from .costs import CostProfile
from .policies import Confidences, Drafting, RoundMs, confident, fastest, fixed, oracle, per_category, scheduled, times

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
TRANSFORMERS_THRESHOLD = 0.4
"""`assistant_confidence_threshold` of transformers."""
_DYNAMIC = 3
"""Policies that decide anew without confidences."""
HEADERS = ("policy", "drafted", "length", "speed-up", "of the oracle")
NOTE = (
    "drafted and length = tokens per round, over whole texts; speed-up over plain decoding, from the cost profile; "
    "of the oracle = its share"
)


Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class PolicyRow:
    """A policy and what it comes to."""

    name: str
    drafting: Drafting
    speedup: float
    share: float
    """Of the oracle's speed-up."""
    detail: str = ""
    """What it chose, where its name does not say it."""

    def cells(self) -> tuple[str, ...]:
        """A word for each header."""
        drafting = self.drafting
        numbers = (f"{drafting.drafted:.2f}", f"{drafting.acceptance_length:.3f}", f"{self.speedup:.3f}x", f"{self.share:.1%}")
        return (self.name, *numbers)


def policy_table(
    field: AcceptanceField,
    costs: CostProfile,
    *,
    most: int,
    depth: int = 0,
    own_heads: bool = False,
    lookup: bool = False,
    confidences: Confidences | None = None,
    progress: Progress = lambda what, done, total: None,
) -> list[PolicyRow]:
    """Plain decoding, every fixed k up to `most`, and what beats them: per category, by confidence, scheduled, oracle.

    `progress` is called as (what, policies done, policies in all).

    Raises ValueError for a profile without `target_ms`, CostError for one that does not cover 1 to `most`, and
    MeasurementError for texts without a round.
    """
    round_ms = times(costs, depth, own_heads=own_heads, lookup=lookup)
    total = most + 1 + _DYNAMIC + (0 if confidences is None else len(THRESHOLDS))
    each = {}
    for k in range(most + 1):
        each[k] = fixed(field, k, most)
        progress("policies", k + 1, total)
    if not each[most].rounds[most] > 0:
        raise MeasurementError(f"no text is long enough for a round of k={most}; use longer texts or a smaller k")
    named = list(_fixed(each, round_ms))
    for one in _dynamic(field, round_ms, most, confidences):
        named.append(one)
        progress("policies", len(named), total)
    speedups = [one.speedup(round_ms) for _, one, _ in named]
    return [
        PolicyRow(name=name, drafting=one, speedup=speedup, share=speedup / speedups[-1], detail=detail)
        for (name, one, detail), speedup in zip(named, speedups, strict=True)
    ]


_Named = tuple[str, Drafting, str]
"""A policy's name, what it drafts, and what it chose."""


def _fixed(each: Mapping[int, Drafting], round_ms: RoundMs) -> Iterator[_Named]:
    best = fastest(each, round_ms)
    for k, drafting in each.items():
        yield (f"k = {k}" if k else "plain decoding") + " (best fixed k)" * (k == best), drafting, ""


def _dynamic(field: AcceptanceField, round_ms: RoundMs, most: int, confidences: Confidences | None) -> Iterator[_Named]:
    """What decides anew; the oracle comes last."""
    chosen, drafting = per_category(field, round_ms, range(1, most + 1), most)
    yield "k by category", drafting, ", ".join(f"{name} {k}" for name, k in chosen.items())
    yield f"schedule of transformers, from {min(5, most)}", scheduled(field, 5, most), ""
    if confidences is not None:
        curve = {threshold: confident(field, confidences, threshold, most) for threshold in THRESHOLDS}
        best = fastest(curve, round_ms)
        for threshold, own in curve.items():
            told = ["best"] * (threshold == best) + ["transformers' default"] * (threshold == TRANSFORMERS_THRESHOLD)
            yield f"stop below {threshold:g}" + (f" ({', '.join(told)})" if told else ""), own, ""
    yield "oracle", oracle(field, most), ""
