"""How deep to draft, round by round: what fixed and dynamic policies gain, exactly, from the
replay's field.

A policy decides in every round how many tokens to draft. Given the texts, rounds are a renewal
process under any policy that sees only what has been emitted and drafted, so one walk over the
positions gives its expected number of rounds with each number of drafts and of accepted tokens.
Numpy only.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..acceptance.counts import Array
from ..acceptance.renewal import AcceptanceField, accepted_distribution, visits
from ..cases.drafter import DRAFT
from .cost_profile import CostProfile
from .table import positive_interval

_TEXTS = 128

RoundMs = Callable[[int], float]
"""Milliseconds of a round by the number of tokens that it drafts; with none it is the target's
step.
"""


@dataclasses.dataclass(frozen=True)
class Drafting:
    """Expected rounds and tokens under a policy, pooled over texts."""

    rounds: Array
    """(k + 1,): rounds that drafted 0..k tokens."""
    accepted: float

    @property
    def acceptance_length(self) -> float:
        """Tokens emitted per round."""
        return 1.0 + self.accepted / float(self.rounds.sum())

    @property
    def drafted(self) -> float:
        """Tokens drafted per round."""
        return float(self.rounds @ np.arange(len(self.rounds)) / self.rounds.sum())

    def milliseconds(self, round_ms: RoundMs) -> float:
        """Of all rounds."""
        return math.fsum(
            count * round_ms(drafted)
            for drafted, count in enumerate(self.rounds.tolist())
            if count > 0
        )

    def speedup(self, round_ms: RoundMs) -> float:
        """Tokens per time over those of the target's steps alone."""
        return self.tokens * round_ms(0) / self.milliseconds(round_ms)

    @property
    def tokens(self) -> float:
        """Tokens emitted."""
        return float(self.rounds.sum()) + self.accepted

    def round_times(self, round_ms: RoundMs) -> Array:
        """(k + 1,): milliseconds of all rounds that drafted 0..k tokens."""
        return np.array(
            [
                count * round_ms(drafted) if count > 0 else 0.0
                for drafted, count in enumerate(self.rounds.tolist())
            ]
        )

    def __add__(self, other: Drafting) -> Drafting:
        return Drafting(self.rounds + other.rounds, self.accepted + other.accepted)


@dataclasses.dataclass(frozen=True)
class Confidences:
    """How likely a draft model found its drafts when it drew them."""

    accepted: Array
    """(texts, longest): of each text's own token."""
    rejected: Array
    """(texts, longest, k): of a draft rejected at each position, and of those that the model would
    draft after it.
    """

    def select(self, rows: slice) -> Confidences:
        """Those of some texts."""
        return Confidences(self.accepted[rows], self.rejected[rows])


def times(costs: CostProfile, depth: int = 0, *, drafter: str = DRAFT) -> RoundMs:
    """A round's milliseconds by what it drafts. Raises ValueError without `target_ms`."""
    target_ms = costs.target_ms
    if target_ms is None:
        raise ValueError("a speed-up needs the profile's target_ms; measure a profile that has it")

    return lambda drafted: costs.round_ms(drafted, depth, drafter=drafter) if drafted else target_ms


def check_covered(costs: CostProfile, most: int, depth: int = 0, *, drafter: str = DRAFT) -> None:
    """Raises CostError unless the profile has the times of rounds that draft 1 to `most` tokens,
    and ValueError without `target_ms`.
    """
    round_ms = times(costs, depth, drafter=drafter)
    for k in range(1, most + 1):
        round_ms(k)


def fixed(field: AcceptanceField, k: int, most: int) -> Drafting:
    """Always k tokens. As for every policy here, all tokens of the texts after the first new ones,
    so that all compare.

    Near a text's end no policy drafts more than is left to emit.
    """

    def part(rows: slice) -> Drafting:
        selected = field.select(rows)
        drafted = _proposed(selected, k)
        return _expected(
            selected, most, selected.survival(drafted, most), np.eye(most + 1)[drafted]
        )

    return _summed(field, part)


def oracle(field: AcceptanceField, most: int, round_ms: RoundMs) -> Drafting:
    """Knows how many drafts each round would accept, and the whole text, and drafts as many of them
    as pay best: no policy emits the texts sooner.

    Dynamic programming from the texts' ends: with m acceptable drafts the cheapest of 0 to m is
    taken, by the milliseconds of the round and of all that follows it.
    """
    cost = np.array([round_ms(drafted) for drafted in range(most + 1)])
    return _summed(field, lambda rows: _hindsight(field.select(rows), most, cost))


def _hindsight(field: AcceptanceField, most: int, cost: Array) -> Drafting:
    counted, _ = field.rounds_at(most, "whole")
    room = _proposed(field, most)
    texts, longest = counted.shape
    acceptable = accepted_distribution(field.survival(room, most))
    # Where times do not rise with the drafts, more drafts than are accepted may take less.
    enough = _cheapest_of_at_least(cost)
    left = np.zeros((texts, longest + most + 1))
    drafted, accepted = np.zeros((2, texts, longest, most + 1))
    rows = np.arange(texts)
    for start in range(longest - 1, int(field.starts.min(initial=longest)) - 1, -1):
        later = left[:, start + 1 : start + most + 2]
        best, least = np.zeros(texts, dtype=np.int64), np.full(texts, np.inf)
        expected = np.zeros(texts)
        for most_accepted in range(most + 1):
            # All of these drafts are accepted, and perhaps further ones are drafted in vain.
            padded = enough[most_accepted, np.maximum(room[:, start], most_accepted)]
            whole = cost[padded] + later[:, most_accepted]
            chance = acceptable[:, start, most_accepted]
            padding = whole <= least
            drafted[rows, start, np.where(padding, padded, best)] += chance
            accepted[rows, start, np.where(padding, most_accepted, best)] += chance
            expected += chance * np.minimum(whole, least)
            exactly = cost[most_accepted] + later[:, most_accepted]
            best = np.where(exactly <= least, most_accepted, best)
            least = np.minimum(least, exactly)
        left[:, start] = np.where(counted[:, start], expected, 0.0)
    weight = visits(field, counted, accepted)
    return Drafting(
        np.einsum("nt,ntd->d", weight, drafted),
        float(np.einsum("nt,nta->a", weight, accepted) @ np.arange(most + 1)),
    )


def _cheapest_of_at_least(cost: Array) -> NDArray[np.int64]:
    """[least, most]: the number of drafts between them that takes the least time."""
    most = len(cost)
    table = np.zeros((most, most), dtype=np.int64)
    for least in range(most):
        for top in range(least, most):
            table[least, top] = least + int(np.argmin(cost[least : top + 1]))
    return table


def confident(
    field: AcceptanceField, confidences: Confidences, threshold: float, most: int
) -> Drafting:
    """Stop after the first draft that the drafter found less likely than `threshold`, as
    transformers does.

    Raises ValueError for the field of anything but a draft model without MTP heads under a rule
    that judges token by token.
    """
    if field.accept.shape[1] != 1 or field.joint or field.available is not None:
        raise ValueError(
            "a confidence threshold works only with a draft model without MTP heads that drafts "
            "token by token; pass the field of such a model"
        )
    return _summed(
        field,
        lambda rows: _confident(field.select(rows), confidences.select(rows), threshold, most),
    )


def _confident(
    field: AcceptanceField, confidences: Confidences, threshold: float, most: int
) -> Drafting:
    room = _proposed(field, most)
    kept = np.minimum(_leading(_ahead(confidences.accepted, most) >= threshold, most), room)
    survival = field.survival(kept, most)
    ends = accepted_distribution(survival)
    wasted = _leading(confidences.rejected[..., :most] >= threshold, most)
    drafted = np.zeros(ends.shape)
    rows, starts = np.indices(kept.shape)
    np.add.at(drafted, (rows, starts, kept), np.take_along_axis(ends, kept[..., None], 2)[..., 0])
    for step in range(most):
        # The draft at this step is rejected; the drafter continues after it until it is below the
        # threshold or reaches its limit.
        rejected = np.where(step < kept, ends[..., step], 0.0)
        position = np.minimum(starts + step, kept.shape[1] - 1)
        np.add.at(
            drafted, (rows, starts, np.minimum(step + wasted[rows, position], room)), rejected
        )
    return _expected(field, most, survival, drafted)


def scheduled(field: AcceptanceField, first: int, most: int) -> Drafting:
    """transformers' heuristic schedule: two tokens more after a round that accepted all, one fewer
    after any other.
    """
    return _summed(field, lambda rows: _scheduled(field.select(rows), first, most))


def _scheduled(field: AcceptanceField, first: int, most: int) -> Drafting:
    counted, _ = field.rounds_at(most, "whole")
    texts, longest = counted.shape
    proposed = [_proposed(field, k) for k in range(1, most + 1)]
    distributions = [accepted_distribution(field.survival(drafted, most)) for drafted in proposed]
    reached = np.zeros((texts, longest + most + 2, most + 1))
    reached[np.arange(texts), field.starts, min(first, most)] = 1.0
    accepted = 0.0
    for start in range(int(field.starts.min(initial=longest)), longest):
        reached[:, start] *= counted[:, start, None]
        for k in range(1, most + 1):
            flow = reached[:, start, k, None] * distributions[k - 1][:, start, : k + 1]
            accepted += float((flow @ np.arange(k + 1)).sum())
            reached[:, start + 1 : start + k + 1, max(k - 1, 1)] += flow[:, :k]
            reached[:, start + k + 1, min(k + 2, most)] += flow[:, k]
    rounds = np.zeros(most + 1)
    for k, drafted in enumerate(proposed, 1):
        np.add.at(rounds, drafted, reached[:, :longest, k])
    return Drafting(rounds, accepted)


Key = TypeVar("Key")


def fastest(draftings: Mapping[Key, Drafting], round_ms: RoundMs) -> Key:
    """Which of several policies emits most tokens per time; the first on a tie."""
    return max(draftings, key=lambda key: draftings[key].speedup(round_ms))


def best_fixed(
    field: AcceptanceField, round_ms: RoundMs, ks: Iterable[int], most: int
) -> tuple[int, Drafting]:
    """The fastest fixed k, and what it drafts; 0 where plain decoding is."""
    draftings = {k: fixed(field, k, most) for k in sorted({0, *ks})}
    k = fastest(draftings, round_ms)
    return k, draftings[k]


def per_category(
    field: AcceptanceField, round_ms: RoundMs, ks: Iterable[int], most: int
) -> tuple[dict[str, int], Drafting]:
    """The fastest fixed k of each prompt category, and what all of them draft."""
    ks = tuple(ks)
    chosen: dict[str, int] = {}
    together = Drafting(np.zeros(most + 1), 0.0)
    for name in dict.fromkeys(field.categories):
        rows = np.flatnonzero([category == name for category in field.categories])
        chosen[name], drafting = best_fixed(field.select(rows), round_ms, ks, most)
        together += drafting
    return chosen, together


@dataclasses.dataclass(frozen=True)
class Gain:
    """Speed of one policy over that of another."""

    ratio: float
    interval: tuple[float, float]
    """95 % interval."""


def gain(
    policy: Sequence[Drafting],
    other: Sequence[Drafting],
    round_ms: RoundMs,
    timing_error: float = 0.0,
) -> Gain:
    """The gain of a policy over another one from what each drafts text by text; at least two texts.

    The delta method on the logarithm, texts being independent. Each time of a round has its
    own relative error `timing_error`, weighted by how much the two policies differ in where their
    time goes.
    """
    both = [functools.reduce(operator.add, draftings) for draftings in (policy, other)]
    influence = _influence(policy, round_ms) - _influence(other, round_ms)
    texts = len(influence)
    shares = [whole.round_times(round_ms) / whole.milliseconds(round_ms) for whole in both]
    variance = (
        texts / (texts - 1) * (influence**2).sum()
        + timing_error**2 * ((shares[0] - shares[1]) ** 2).sum()
    )
    ratio = both[0].speedup(round_ms) / both[1].speedup(round_ms)
    return Gain(ratio, positive_interval(ratio, math.sqrt(variance)))


def _influence(draftings: Sequence[Drafting], round_ms: RoundMs) -> Array:
    """(texts,): what each text adds to the logarithm of the tokens per time, to first order."""
    tokens = np.array([drafting.tokens for drafting in draftings])
    spent = np.array([drafting.milliseconds(round_ms) for drafting in draftings])
    shares: Array = tokens / tokens.sum() - spent / spent.sum()
    return shares


def _summed(field: AcceptanceField, part: Callable[[slice], Drafting]) -> Drafting:
    """Over all texts, a few at a time: distributions of every start and step are held for so
    many.
    """
    together: Drafting | None = None
    for begin in range(0, max(len(field.prompts), 1), _TEXTS):
        drafting = part(slice(begin, begin + _TEXTS))
        together = drafting if together is None else together + drafting
    assert together is not None
    return together


def _proposed(field: AcceptanceField, k: int) -> NDArray[np.int64]:
    """(texts, longest): tokens that a round with at most k drafts at each start."""
    return field.rounds_at(k, "whole")[1]


def _expected(field: AcceptanceField, most: int, survival: Array, drafted: Array) -> Drafting:
    """From the survival (texts, longest, most) and the distribution of drafted tokens (texts,
    longest, most + 1) at each start.
    """
    counted, _ = field.rounds_at(most, "whole")
    weight = visits(field, counted, accepted_distribution(survival))
    return Drafting(
        np.einsum("nt,ntd->d", weight, drafted), float(np.einsum("nt,nti->", weight, survival))
    )


def _ahead(values: Array, steps: int) -> Array:
    """(texts, longest, steps): the value at each position and the next ones; past the text the
    first ones, never counted.
    """
    return np.stack([np.roll(values, -step, axis=1) for step in range(steps)], axis=2)


def _leading(sure: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Drafts until the first that is not sure, this one included, at most `most`."""
    leading: NDArray[np.int64] = np.minimum(np.cumprod(sure, axis=2).sum(2) + 1, most)
    return leading
