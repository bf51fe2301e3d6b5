"""How improbable an engine's counts are, by the exact distribution of the rounds on its own texts.

Judged are the sum over all positions and each position by itself, since a defect that raises one
and lowers another leaves the sum alone; and where the rounds are known, rejections where none can
be: rejection sampling accepts every draft that q makes at least as likely as p, so a recovered
token is always one that p makes likelier than q. The error rate is split among the three.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ...acceptance.counts import Array
from ...acceptance.sum_distribution import sum_distribution
from .checks import rounds_of
from .normalise import starts_of
from .possible_rounds import CountedRun, Walk

_STEPS = 8
"""Acceptance probabilities are rounded to so many steps for the sums that are judged: these are
then whole numbers.

Their distribution is exact all the same, and the rounding costs less than 1 % of their standard
deviation.
"""
_SUM, _POSITIONS, _SURE = 0.5, 0.3, 0.2
"""Parts of the error rate; where some cannot be judged, the others have theirs in proportion."""
_ROUNDING = 1e-5
"""How often rounding may reject what is accepted with certainty here."""


@dataclasses.dataclass(frozen=True)
class Impossible:
    """A rejected draft where the text goes on with a token that rejection sampling would have
    accepted.
    """

    prompt: str
    round: int
    """Its number in the text."""
    position: int
    """Of the token in the text, prompt included."""


@dataclasses.dataclass(frozen=True)
class Deviation:
    """How far one count lies from what the models imply."""

    position: int | None
    """The draft position, from 1; None for all together."""
    z: float
    """In standard deviations; positive where more was accepted. Of impossible rejections minus
    their number.
    """
    p_value: float
    """Two-sided, of this count alone."""
    share: float
    """Part of the error rate that this count has."""
    counted: float = 0.0
    """Of a position where the rounds are known: the share of its drafts, in rounds that reach it,
    that was accepted.
    """
    expected: float = 0.0
    """What the models imply for the same rounds."""
    impossible: tuple[Impossible, ...] | None = None
    """Of rejections that no right engine makes: which; None of other counts."""

    @property
    def adjusted(self) -> float:
        """The p-value after the split of the error rate."""
        return min(1.0, self.p_value / self.share)


def combined(deviations: Sequence[Deviation]) -> float:
    """The p-value of all counts together, by Bonferroni's inequality; 1 without any."""
    return min((deviation.adjusted for deviation in deviations), default=1.0)


def deviations_of(judged: CountedRun, walk: Walk) -> tuple[Deviation, ...]:
    """The sum over all positions first, then each position where several are known, then impossible
    rejections.
    """
    deviations = (
        _of_rounds(judged, walk) if judged.definition.end == "inside" else _of_sums(judged, walk)
    )
    # Less than 1 where some of the three cannot be judged.
    whole = sum(deviation.share for deviation in deviations)
    return tuple(
        dataclasses.replace(deviation, share=deviation.share / whole) for deviation in deviations
    )


def _of_rounds(judged: CountedRun, walk: Walk) -> tuple[Deviation, ...]:
    """Rounds are known by their starts: what each accepted beyond its own expectation, and what
    none may reject.
    """
    k = judged.case.k
    rows, starts, accepted = delivered_rounds(judged, walk)
    taken, counted = np.arange(k + 1), walk.counted[..., None]
    total = np.rint(_STEPS * (taken - walk.survival.sum(-1, keepdims=True)) * counted).astype(int)
    deviations = [_deviation(walk, total, int(total[rows, starts, accepted].sum()), None, _SUM)]
    conditional = _conditional(walk.survival)
    for step in range(k if k > 1 else 0):
        beyond = (taken > step) - conditional[..., step, None]
        gains = np.rint(_STEPS * beyond * (taken >= step) * counted).astype(int)
        at_position = _deviation(
            walk, gains, int(gains[rows, starts, accepted].sum()), step + 1, _POSITIONS / k
        )
        reached = accepted >= step
        if reached.any():
            shares = (
                (accepted[reached] > step).mean(),
                conditional[rows[reached], starts[reached], step].mean(),
            )
            at_position = dataclasses.replace(
                at_position, counted=float(shares[0]), expected=float(shares[1])
            )
        deviations.append(at_position)
    return (
        tuple(deviations)
        if walk.sure is None
        else (*deviations, _impossible(judged, walk, walk.sure))
    )


def _of_sums(judged: CountedRun, walk: Walk) -> tuple[Deviation, ...]:
    """Sums of whole texts: rounds and delivered tokens add up to the text, so more acceptance means
    fewer rounds.
    """
    k = judged.case.k
    positions = (
        judged.definition.positions and not judged.reported[0].convention.undelivered and k > 1
    )
    taken, counted = np.arange(k + 1), walk.counted[..., None]
    rounds = np.broadcast_to(-counted.astype(int), (*walk.counted.shape, k + 1))
    deviations = [_deviation(walk, rounds, -round(counted_rounds(judged)), None, _SUM)]
    for step in range(k if positions else 0):
        gains = (taken > step) * counted.astype(int)
        value = round(float(judged.counts.accepted[:, step].sum()))
        deviations.append(_deviation(walk, gains, value, step + 1, _POSITIONS / k))
    return tuple(deviations)


def _impossible(judged: CountedRun, walk: Walk, sure: NDArray[np.bool_]) -> Deviation:
    """Rejections of what is accepted with certainty; rounding may make a few of very many."""
    rejections: list[Impossible] = []
    rounds, heads = 0, sure.shape[1]
    for row, text in enumerate(judged.reported):
        for number, (start, drafted, accepted) in enumerate(starts_of(text)):
            at = start + accepted
            rounds += 1
            # An engine may call an accepted last token, or one at the limit, rejected.
            if (
                accepted < drafted
                and at < walk.field.lengths[row] - 1
                and sure[row, accepted % heads, at]
            ):
                rejections.append(Impossible(prompt=text.key, round=number, position=at))
    p_value = float(special.bdtrc(len(rejections) - 1, rounds, _ROUNDING)) if rejections else 1.0
    return Deviation(
        position=None,
        z=-float(len(rejections)),
        p_value=p_value,
        share=_SURE,
        impossible=tuple(rejections),
    )


def counted_rounds(judged: CountedRun) -> float:
    """Rounds as the engine counted them, or as its sums imply."""
    if judged.pooled is None:
        return judged.counts.total_rounds
    tokens = [text.tokens for text in judged.reported]
    return rounds_of(judged.pooled.totals, judged.pooled.convention, judged.case.k, tokens)


def _deviation(
    walk: Walk, gains: NDArray[np.int64], value: int, position: int | None, share: float
) -> Deviation:
    distribution = sum_distribution(walk.survival, walk.field.starts, walk.played, gains)
    return Deviation(
        position=position, z=distribution.z(value), p_value=distribution.p_value(value), share=share
    )


def delivered_rounds(
    judged: CountedRun, walk: Walk
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Text, start and delivered accepted tokens of each counted round, (rounds,) each."""
    rounds: list[tuple[int, int, int]] = []
    for row, text in enumerate(judged.reported):
        length = int(walk.field.lengths[row])
        for start, _, accepted in starts_of(text):
            if start < length and walk.counted[row, start]:
                most = judged.case.k if text.convention.undelivered else length - start - 1
                rounds.append((row, start, min(accepted, most)))
    rows, starts, taken = np.array(rounds, dtype=int).reshape(-1, 3).T
    return rows, starts, taken


def _conditional(survival: Array) -> Array:
    """(..., k): the chance of each draft step in rounds that reach it; 0 where none does."""
    before = np.concatenate([np.ones((*survival.shape[:-1], 1)), survival[..., :-1]], axis=-1)
    chances: Array = np.divide(survival, before, out=np.zeros_like(survival), where=before > 0)
    return chances
