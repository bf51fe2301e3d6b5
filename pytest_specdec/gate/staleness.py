"""A fixed drafter along a sequence of targets: its loss since the first one, when that passes a
margin, and when training it again pays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ..acceptance.counts import Counts
from ..common.errors import MeasurementError, RequestError
from .paired import Pair, level_of_each


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetMeasured:
    """The drafter with one of the targets."""

    name: str
    counts: Counts
    """Of one round from every start of the texts, see `acceptance.contexts`."""
    contexts: str
    """The target that emitted the texts; its own name where they are fresh."""
    effective_share: float | None
    """Effective share of the contexts; None where there are no weights: at temperature 0."""
    unseen: float
    """Accepted tokens per round that the texts' filters may hide."""
    fresh: Counts | None = None
    """The same on texts that this target emits, where they were sampled beside."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StalenessPoint:
    """One target of the curve."""

    name: str
    length: float
    """Acceptance length from every start alike."""
    loss: float
    """Relative fall of the length since the first target; negative for a gain."""
    interval: tuple[float, float]
    """Of the loss; all intervals of a curve hold together."""
    contexts: str
    effective_share: float | None
    fresh_loss: tuple[float, float, float] | None = None
    """The loss on texts of this target, and its interval: what the texts' change adds is in it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StalenessCurve:
    """The loss of a fixed drafter along targets."""

    points: tuple[StalenessPoint, ...]
    margin: float
    alpha: float
    passed: int | None
    """The first point whose loss is surely above the margin; None where none is."""
    prompts: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrainingCosts:
    """What training the drafter again costs, and what a stale one does."""

    retraining_ms: float
    """Milliseconds of serving that the training takes."""
    token_ms: float
    """Milliseconds of a served token with the drafter of the first target."""
    tokens_per_step: float
    """Tokens served with each target of the sequence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BreakEven:
    """When what a stale drafter has cost equals what training it again costs."""

    lost_ms: tuple[float, ...]
    """Milliseconds lost up to and with each target."""
    at: int | None
    """The first target at which they reach the cost of training; None where none does."""
    range: tuple[int | None, int | None]
    """The same by the upper and by the lower bounds of all losses."""
    next_ms: float
    """Milliseconds lost with each further step like the last one."""


def staleness_curve(
    measured: Sequence[TargetMeasured],
    *,
    margin: float = 0.01,
    alpha: float = 0.01,
    confidence: float = 0.95,
) -> StalenessCurve:
    """The losses with intervals that hold together, and the first that surely passes the margin.

    A loss is the paired relative fall of the acceptance length over prompts. With n targets after
    the first each interval has the level 1 - (1 - confidence) / n (Bonferroni), and a target passes
    the margin where its one-sided bound at alpha / n is above it: the chance to say so of any whose
    loss is not is at most alpha, however steps are correlated.

    Raises RequestError for fewer than two targets, MeasurementError for fewer than two prompts.
    """
    if len(measured) < 2:
        raise RequestError("a curve needs at least two targets; name more")
    first, later = measured[0], len(measured) - 1
    before = first.counts
    if len(before.prompts) < 2:
        raise MeasurementError("intervals need at least two prompts; use more")
    each = level_of_each(confidence, later)
    points = [_point(first, 0.0, (0.0, 0.0))]
    passed = None
    for number, target in enumerate(measured[1:], 1):
        pair = Pair.of(before, target.counts)
        scale = 1 / pair.before.acceptance_length
        loss, low, high = _loss(pair, each)
        hidden = target.unseen * scale
        fresh = None
        if target.fresh is not None:
            fresh = _loss(Pair.of(before, target.fresh), each)
        points.append(_point(target, loss, (low - hidden, high), fresh))
        bound = pair.relative_interval(scale, 1 - 2 * alpha / later)[0] - hidden
        if passed is None and bound > margin:
            passed = number
    return StalenessCurve(
        points=tuple(points),
        margin=margin,
        alpha=alpha,
        passed=passed,
        prompts=len(before.prompts),
    )


def _loss(pair: Pair, level: float) -> tuple[float, float, float]:
    """The relative loss, and its interval."""
    scale = 1 / pair.before.acceptance_length
    return pair.length_drop * scale, *pair.relative_interval(scale, level)


def _point(
    target: TargetMeasured,
    loss: float,
    interval: tuple[float, float],
    fresh: tuple[float, float, float] | None = None,
) -> StalenessPoint:
    return StalenessPoint(
        name=target.name,
        length=target.counts.acceptance_length,
        loss=loss,
        interval=interval,
        contexts=target.contexts,
        effective_share=target.effective_share,
        fresh_loss=fresh,
    )


def break_even_of(curve: StalenessCurve, costs: RetrainingCosts) -> BreakEven:
    """When the drafter has cost as much as training it again would.

    A token takes token_ms / (1 - loss) with a stale drafter: rounds take the same time and emit
    fewer tokens. Training at break-even costs at most twice what the best moment would have,
    whatever the losses to come (the argument of the ski rental problem).
    """
    lost = _lost(curve, costs, lambda point: point.loss)
    most = _lost(curve, costs, lambda point: point.interval[1])
    least = _lost(curve, costs, lambda point: point.interval[0])
    return BreakEven(
        lost_ms=lost,
        at=_reached(lost, costs.retraining_ms),
        range=(_reached(most, costs.retraining_ms), _reached(least, costs.retraining_ms)),
        next_ms=_step_ms(curve.points[-1].loss, costs),
    )


def _step_ms(loss: float, costs: RetrainingCosts) -> float:
    if loss >= 1:
        return float("inf")
    return costs.tokens_per_step * costs.token_ms * (1 / (1 - loss) - 1)


def _lost(
    curve: StalenessCurve, costs: RetrainingCosts, loss_of: Callable[[StalenessPoint], float]
) -> tuple[float, ...]:
    total, lost = 0.0, []
    for point in curve.points:
        total += _step_ms(loss_of(point), costs)
        lost.append(total)
    return tuple(lost)


def _reached(lost: Sequence[float], cost: float) -> int | None:
    return next((number for number, ms in enumerate(lost) if ms >= cost), None)
