"""Theoretical speed-up from acceptance and costs. Plain Python: needs neither torch, numpy nor
pytest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..cases.drafter import DRAFT
from .cost_profile import CostProfile


def acceptance_length(conditional: Iterable[float]) -> float:
    """Expected tokens per round, 1 + p1 + p1 p2 + ..., from the conditional acceptance of each step
    of one context.

    For a measured average over many prompts use `Counts.acceptance_length`: a product of means is
    not the mean of products. Raises ValueError for a value outside 0..1.
    """
    length, survival = 1.0, 1.0
    for probability in conditional:
        if not 0.0 <= probability <= 1.0:
            raise ValueError(
                f"conditional acceptance {probability!r} is not a probability; pass fractions, 0.8 "
                "for 80 %"
            )
        survival *= probability
        length += survival
    return length


def theoretical_speedup(
    acceptance_length: float, *, target_ms: float, verify_ms: float, draft_ms: float
) -> float:
    """Throughput with drafts over throughput without: length * target / (verify + draft), times in
    milliseconds.

    Raises ValueError when a time is negative or the round takes none.
    """
    if min(target_ms, verify_ms, draft_ms) < 0 or verify_ms + draft_ms <= 0:
        raise ValueError(
            "times must not be negative and a round must take some time; pass milliseconds"
        )
    return acceptance_length * target_ms / (verify_ms + draft_ms)


def best_k(
    lengths: Mapping[int, float], costs: CostProfile, *, depth: int = 0, drafter: str = DRAFT
) -> int:
    """The k that emits most tokens per millisecond, given the acceptance length at each k; the
    smaller k on a tie.

    Raises ValueError for no lengths and CostError for a k or depth that the profile does not cover.
    """
    if not lengths:
        raise ValueError("no acceptance length to choose from; pass {k: acceptance length}")
    return max(
        sorted(lengths), key=lambda k: lengths[k] / costs.round_ms(k, depth, drafter=drafter)
    )


def best_depth(
    lengths: Mapping[tuple[int, int], float], costs: CostProfile, *, drafter: str = DRAFT
) -> tuple[int, int]:
    """The (k, depth) that emits most tokens per millisecond, given the acceptance length at
    each.
    """
    if not lengths:
        raise ValueError(
            "no acceptance length to choose from; pass {(k, depth): acceptance length}"
        )
    return max(
        sorted(lengths), key=lambda cell: lengths[cell] / costs.round_ms(*cell, drafter=drafter)
    )
