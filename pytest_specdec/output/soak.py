"""Acceptance against request number: what a server does over hundreds of requests.

The same prompts are asked again and again, greedily and sampled in turn, and nothing is known of
the models. Two facts hold of a server that stays what it is:

- Sampled requests of one prompt are exchangeable. The rank of each among those before it is then
  uniform and independent (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World,
  theorem 8.2), and bets on low or high ranks are an e-process for every change point at once
  (`gate.evidence`, in both directions). It may be looked at after every request.
- Greedy requests of one prompt are the same request, with the same text and the same rounds, but
  for numerical ties. Some that accept other drafts on the same text than the others are a mixture
  of good and bad requests, or all from one on, a change.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from ..gate.evidence import bet

APART = 0.1
"""Relative difference in rounds on one greedy text beyond which no tie explains it."""
TIED_ROUNDS = 1
"""Rounds of a short text that a tie of the drafter may move."""
_BINS = 6
"""Parts of a run whose acceptance is printed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoakRequest:
    """One request and what was counted for it."""

    prompt: int
    greedy: bool
    rounds: int
    accepted: int
    first: int | None = None
    """Drafts that its first round accepted, where rounds are reported."""
    text: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
    """The e-process of a change in acceptance over the sampled requests."""

    highest: float
    """Its highest value; 1 over it is a p-value."""
    since: int
    """The sampled request from which on acceptance most likely differs, from 1."""
    before: float
    """Acceptance length of the sampled requests before it."""
    after: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class GreedySplit:
    """Greedy requests that count other rounds on the same text than most of their prompt."""

    requests: int
    bad: tuple[int, ...]
    """Their numbers among the greedy requests, from 0."""
    of_bad: float
    """Acceptance length of these."""
    of_others: float
    """And of the other requests of their prompts."""
    other_texts: int
    """Requests with another greedy text than most of their prompt: ties, or a mixture of models."""

    @property
    def change(self) -> bool:
        """Whether these are all requests from one on, as after a change, and no mixture."""
        return bool(self.bad) and self.requests - self.bad[0] == len(self.bad)


def drift(requests: Sequence[SoakRequest], rng: np.random.Generator) -> Drift:
    """Bet on a change in the sampled requests' acceptance, in their order."""
    sampled = [request for request in requests if not request.greedy]
    scores = [request.accepted / max(request.rounds, 1) for request in sampled]
    ranks = conformal_ranks(scores, [request.prompt for request in sampled], rng)
    lower, upper = change_evidence(ranks), change_evidence([1 - rank for rank in ranks])
    highest = max(
        ((one + other) / 2 for one, other in zip(lower.values, upper.values, strict=True)),
        default=1.0,
    )
    since = (lower if max(lower.values, default=0) >= max(upper.values, default=0) else upper).since
    return Drift(
        highest=highest,
        since=since,
        before=acceptance_length(sampled[: since - 1]),
        after=acceptance_length(sampled[since - 1 :]),
    )


def conformal_ranks(
    scores: Sequence[float], groups: Sequence[int], rng: np.random.Generator
) -> list[float]:
    """The share of earlier scores of the same group below each, ties broken by chance: uniform and
    independent where each group's scores are exchangeable.
    """
    seen: dict[int, list[float]] = collections.defaultdict(list)
    ranks = []
    for score, group in zip(scores, groups, strict=True):
        before = np.array(seen[group])
        below, equal = (before < score).sum(), (before == score).sum() + 1
        ranks.append(float((below + rng.random() * equal) / (len(before) + 1)))
        seen[group].append(score)
    return ranks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChangeEvidence:
    """An e-process after each request."""

    values: tuple[float, ...]
    since: int
    """The likeliest change point, from 1."""


def change_evidence(p_values: Sequence[float]) -> ChangeEvidence:
    """`gate.evidence.accumulate` after every value, in one pass: a change from request s on has
    prior weight 1 / (s (s + 1)).
    """
    weighed, values, log_products, total = 0.0, [], [0.0], 0.0
    for number, p_value in enumerate(p_values, 1):
        factor = bet(p_value)
        weighed = min((weighed + 1 / (number * (number + 1))) * factor, 1e300)
        values.append(weighed + 1 / (number + 1))
        total += math.log(factor)
        log_products.append(total)
    # The product from s on is largest where the product before s is smallest.
    since = 1 + int(np.argmin(log_products[:-1])) if p_values else 1
    return ChangeEvidence(values=tuple(values), since=since)


def greedy_split(requests: Sequence[SoakRequest]) -> GreedySplit:
    """Compare greedy requests of the same prompt and text by their rounds."""
    greedy = [request for request in requests if request.greedy]
    by_prompt: dict[int, list[int]] = collections.defaultdict(list)
    for number, request in enumerate(greedy):
        by_prompt[request.prompt].append(number)
    bad: list[int] = []
    others: list[int] = []
    other_texts = 0
    for numbers in by_prompt.values():
        texts = collections.Counter(greedy[number].text for number in numbers)
        usual, _ = texts.most_common(1)[0]
        same = [number for number in numbers if greedy[number].text == usual]
        other_texts += len(numbers) - len(same)
        most = _usual([greedy[number].rounds for number in same])
        far = [
            number
            for number in same
            if abs(greedy[number].rounds - most) > max(APART * most, TIED_ROUNDS)
        ]
        bad += far
        others += [number for number in same if number not in far] if far else []
    return GreedySplit(
        requests=len(greedy),
        bad=tuple(sorted(bad)),
        of_bad=acceptance_length([greedy[number] for number in bad]),
        of_others=acceptance_length([greedy[number] for number in others]),
        other_texts=other_texts,
    )


def _usual(values: Sequence[int]) -> int:
    """The most frequent value, the earliest of several; the first one where all are another one
    from some request on.
    """
    switches = sum(one != other for one, other in itertools.pairwise(values))
    if switches == 1:
        return values[0]
    ((most, _),) = collections.Counter(values).most_common(1)
    return most


def acceptance_length(requests: Sequence[SoakRequest]) -> float:
    """Tokens per round, pooled; nan without rounds."""
    rounds = sum(request.rounds for request in requests)
    return 1 + sum(request.accepted for request in requests) / rounds if rounds else math.nan


def course_words(requests: Sequence[SoakRequest]) -> str:
    """Acceptance length against request number, in a few parts of the run."""
    parts = np.array_split(np.arange(len(requests)), min(_BINS, max(len(requests) // 8, 1)))
    return ", ".join(
        f"{part[0] + 1}-{part[-1] + 1} {acceptance_length([requests[at] for at in part]):.2f}"
        for part in parts
    )


def first_round_words(requests: Sequence[SoakRequest]) -> str:
    """What first rounds accept beside later ones; empty where rounds are not reported."""
    known = [request for request in requests if request.first is not None and request.rounds > 1]
    if not known:
        return ""
    first = sum(request.first or 0 for request in known)
    later = sum(request.accepted - (request.first or 0) for request in known)
    rounds = sum(request.rounds - 1 for request in known)
    return (
        f"first rounds of texts accept {first / len(known):.2f} drafts and later ones "
        f"{later / rounds:.2f}"
    )
