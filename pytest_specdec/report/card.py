"""The card of a measured drafter: plain values from its counts, for a model card and for programs.

A round that takes R steps of the target pays where it emits more than R tokens. Requests emit
`request_length` tokens per pass of the target, so that length *is* the cost of a round at
break-even; where a verification costs as much as a step, what is left of it, shared among the
passes of the drafter, is the largest cost of one pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from ..acceptance.counts import Counts
from ..common.student import student_quantile
from ..speedup.advice import Advice
from ..speedup.table import Step
from .row import Number, plain

LEVEL = 0.95
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Costs of a pass of the drafter, in steps of the target, for which the best k is named."""


class CardFigure(TypedDict):
    """A value with its interval over prompts like these."""

    value: Number
    interval: list[Number]
    """95 %, Student's, clustered by prompt; empty where it is not known."""


class CardPosition(TypedDict):
    """A draft position."""

    position: int
    """From 1."""
    survival: CardFigure
    """The share of rounds that accept it and all before it."""
    conditional: CardFigure
    """The same of the rounds that accepted all before it."""


class CardCategory(TypedDict):
    """A category of prompts."""

    name: str
    prompts: int
    acceptance_length: CardFigure
    acceptance_rate: Number


class CardStep(TypedDict):
    """A number of drafts of a round."""

    k: int
    acceptance_length: CardFigure
    """Of the rounds with room for k drafts."""
    acceptance_rate: Number
    """Of the same rounds, pooled."""
    request_length: CardFigure
    """Tokens per pass of the target over whole texts. A round pays while it takes less than this
    number of steps of the target.
    """
    passes: int
    """Passes of the drafter in a round."""
    break_even: CardFigure
    """The cost of a pass of the drafter, in steps of the target, at which drafting breaks even
    where a verification costs as much as a step.
    """
    speedup: CardFigure
    """Theoretical, from the cost profile; unknown without one."""


class CardBest(TypedDict):
    """What to draft where a pass of the drafter has a cost."""

    cost: float
    """Of a pass, in steps of the target; a verification costs as much as a step."""
    k: int
    """The fastest; 0 for no drafting."""
    speedup: float
    """1 without drafting."""


class CardDoctor(TypedDict):
    """What the doctor found of the drafter's folder."""

    verdict: str
    """Empty where nothing was examined."""
    lines: list[str]
    """Its page, or why there is none."""


class CardCircumstances(TypedDict):
    """What was measured, on what, where and by which command."""

    target: str
    target_fingerprint: str
    drafter: str
    drafter_fingerprint: str
    kind: str
    """The type of the drafter."""
    depth: int
    """MTP layers of one pass."""
    prompts: str
    """The prompt file's name."""
    texts: int
    new_tokens: int
    temperature: float
    rule: str
    seed: int
    costs: str
    """The cost profile's file and batch size; empty without one."""
    environment: dict[str, str | int]
    version: str
    """Of pytest-specdec."""
    command: str


class CardDocument(TypedDict):
    """A measured drafter beside its target. Later versions of the same schema add fields and change
    none.
    """

    schema: Literal[1]
    card: CardCircumstances
    k: int
    """Drafts of a round in `categories` and `positions`."""
    categories: list[CardCategory]
    positions: list[CardPosition]
    steps: list[CardStep]
    """By k, from 1."""
    best: list[CardBest]
    best_measured: CardBest | None
    """With the cost profile: `cost` is of a round's drafting, in steps of the target. None without
    one.
    """
    doctor: CardDoctor
    warnings: list[str]
    """Why the numbers should not be trusted, or the drafter not be used."""


def figure(
    value: float, error: float, prompts: int, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> CardFigure:
    """A value and its interval from a standard error over prompts, within the bounds that it
    cannot leave.
    """
    if prompts < 2 or not (math.isfinite(value) and math.isfinite(error)):
        return CardFigure(value=plain(value), interval=[])
    reach = student_quantile((1 + LEVEL) / 2, prompts) * error
    low, high = max(value - reach, bounds[0]), min(value + reach, bounds[1])
    return CardFigure(value=plain(value), interval=[plain(low), plain(high)])


def length_figure(counts: Counts) -> CardFigure:
    """The acceptance length, of the prompts that have rounds."""
    seen = int((counts.rounds > 0).sum())
    return figure(counts.acceptance_length, counts.standard_error, seen, (1.0, counts.k + 1.0))


def categories(counts: Counts) -> list[CardCategory]:
    """By category of prompts, those with rounds, in order of appearance."""
    return [
        CardCategory(
            name=name,
            prompts=len(part.prompts),
            acceptance_length=length_figure(part),
            acceptance_rate=plain(part.acceptance_rate),
        )
        for name, part in counts.by_category().items()
        if part.total_rounds > 0
    ]


def positions(counts: Counts) -> list[CardPosition]:
    """By draft position."""
    prompts = int((counts.rounds > 0).sum())
    rows = zip(
        counts.survival,
        counts.survival_error,
        counts.conditional,
        counts.conditional_error,
        strict=True,
    )
    return [
        CardPosition(
            position=position,
            survival=figure(float(survival), float(survival_error), prompts, (0.0, 1.0)),
            conditional=figure(float(conditional), float(conditional_error), prompts, (0.0, 1.0)),
        )
        for position, (survival, survival_error, conditional, conditional_error) in enumerate(
            rows, 1
        )
    ]


def steps(
    counts: Mapping[int, Counts], passes: Mapping[int, int], advice: Advice | None = None
) -> list[CardStep]:
    """By k; `passes` of the drafter in a round, and the speed-ups of `advice` where there is a cost
    profile.
    """
    known = (
        {} if advice is None else {step.k: step for row in advice.steps.values() for step in row}
    )
    return [_step(k, of_k, passes[k], known.get(k)) for k, of_k in sorted(counts.items())]


def _step(k: int, counts: Counts, passes: int, measured: Step | None) -> CardStep:
    prompts = int((counts.rounds > 0).sum())
    length, error = counts.request_length, counts.request_error
    speedup = CardFigure(value=None, interval=[])
    if measured is not None:
        speedup["value"] = plain(measured.speedup)
        speedup["interval"] = [plain(bound) for bound in measured.interval or ()]
    return CardStep(
        k=k,
        acceptance_length=length_figure(counts),
        acceptance_rate=plain(counts.acceptance_rate),
        request_length=figure(length, error, prompts, (1.0, k + 1.0)),
        passes=passes,
        break_even=figure((length - 1) / passes, error / passes, prompts, (0.0, k / passes)),
        speedup=speedup,
    )


def best(
    counts: Mapping[int, Counts], passes: Mapping[int, int], ratios: Sequence[float] = RATIOS
) -> list[CardBest]:
    """The fastest k for each cost of a pass; no drafting where none is faster than that."""
    found = []
    for ratio in ratios:
        speedups = {
            k: of_k.request_length / (1 + passes[k] * ratio) for k, of_k in sorted(counts.items())
        }
        k = max(speedups, key=lambda k: speedups[k])
        drafts = speedups[k] > 1
        found.append(
            CardBest(cost=ratio, k=k if drafts else 0, speedup=speedups[k] if drafts else 1.0)
        )
    return found
