"""Sums of a request by draft position, where only totals are known."""

from __future__ import annotations

from collections.abc import Sequence


def accepted_by_position(total: float, per_position: Sequence[float] | None, k: int) -> list[float]:
    """(k,): accepted tokens by position; the total spread evenly where positions are not known."""
    if per_position is None:
        return [total / k] * k
    return [*map(float, per_position), *[0.0] * (k - len(per_position))]


def drafted_by_position(total: float, rounds: int, accepted: Sequence[float]) -> list[float]:
    """(k,): draft tokens by position.

    What is missing to k drafts a round is missing at the last positions, as far as the tokens that
    were `accepted` there allow.
    """
    missing, by_position = rounds * len(accepted) - float(total), []
    for taken in reversed(accepted):
        cut = min(missing, rounds - taken)
        by_position.append(rounds - cut)
        missing -= cut
    return by_position[::-1]
