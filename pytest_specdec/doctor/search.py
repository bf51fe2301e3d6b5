"""Which reading a drafter was trained for: single changes first, then further ones around the best.

Readings are compared by the chance of acceptance (`measure`). The first move, away from the written
reading, needs a gain that is both relevant and certain: at least `MARGIN` of the chance, and a
paired Student bound above 0 at a level shared by all readings of its stage. Stage j spends
alpha / 2^j, so that all stages together spend at most alpha, and a drafter that is read as trained
moves with at most that probability. Once it is known to be misread, the respects in which it is are
estimated: the value with the largest chance is taken, certain or not, and those that are not surely
worse are named beside it. A difference in one more respect needs a gain of `FINE`, certain at
`FURTHER_ALPHA` a stage.

Pairs of changes are many, so a quick screen picks those that are measured. The level is shared by
all pairs, screened out or not: then the bound holds whatever the screen picks, also from the texts
that decide.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from ..acceptance.counts import Counts
from .measure import PairedGain, ReadingScore

MARGIN = 0.01
"""Share of the chance of acceptance below which a gain does not matter."""
FINE = 0.001
"""The same between readings of a drafter that is misread."""
ALPHA = 0.001
"""Chance of naming another reading where the folder is read as trained, over all readings."""
FURTHER_ALPHA = 0.01
"""Chance of a further move, of a drafter that is misread, to a reading that is no better."""
_MOST_STAGES = 6
_MOST_CLIMBS = 8
_MOST_PAIRS = 32
"""Pairs of changes that are measured after the screen."""
Report = Callable[[str, int, int], None]
"""Takes what is done, how much of it is, and of how much: `("measuring readings", 3, 40)`."""

R = TypeVar("R", bound=Hashable)


class Readings(Protocol[R]):
    """The readings that a folder allows."""

    def written(self) -> R:
        """As loaders read the folder."""

    def neighbours(self, reading: R) -> list[R]:
        """Those that differ in one respect."""

    def further(self, reading: R, *, lost: bool) -> list[R]:
        """Others, to be tried where no neighbour is better: more of them for a drafter that no
        reading near helps.
        """

    def taken_back(self, reading: R) -> list[R]:
        """The reading with one of its differences from the written one taken back, each in turn."""

    def revised(self, reading: R) -> list[R]:
        """Those with another value where it differs from the written one, and nowhere else."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings(Generic[R]):
    """What a search measured; `search` makes it."""

    written: R
    best: R
    """The reading that the search ended at."""
    measured: Mapping[R, ReadingScore]
    """Every reading that was measured."""
    last_stage: Sequence[R]
    """The readings that the best one was last compared with."""
    level: float
    """Two-sided level of each of those comparisons."""
    rivals: Sequence[R]
    """Other values where the best reading differs from the written one, that are not surely worse:
    the best ones first.
    """
    tried: int
    """Readings measured beside the written one."""
    screened: int
    """Pairs of changes that were screened."""
    nothing: Counts
    """Of a drafter that knows nothing."""

    def gain(self, reading: R, over: R) -> PairedGain:
        """Of the chance of acceptance."""
        return PairedGain.of_chances(self.measured[over], self.measured[reading])

    def length(self, reading: R) -> float:
        """The acceptance length."""
        return self.measured[reading].length

    @property
    def margin(self) -> float:
        """The least relevant gain over the best reading."""
        return MARGIN * self.measured[self.best].chance

    @property
    def together(self) -> float:
        """The level that the comparisons of the last stage share."""
        return ALPHA if self.best == self.written else FURTHER_ALPHA

    @property
    def knowledge(self) -> PairedGain:
        """What the best reading gains in length over a drafter that knows nothing."""
        return PairedGain.of_lengths(self.nothing, self.measured[self.best].counts)

    @property
    def open(self) -> list[R]:
        """The readings that may be better than the best one by a relevant gain."""
        return [
            reading
            for reading in self.last_stage
            if self.gain(reading, self.best).bounds(self.level)[1] >= self.margin
        ]

    @property
    def equal(self) -> list[R]:
        """Those that cannot be told apart from it, and need not be: the difference, whatever it
        is, is below the margin.
        """
        return [
            reading
            for reading in self.last_stage
            if all(
                abs(bound) < self.margin
                for bound in self.gain(reading, self.best).bounds(self.level)
            )
        ]


def search(
    readings: Readings[R],
    measure: Callable[[R], ReadingScore],
    screen: Callable[[R], float],
    nothing: Counts,
    alpha: float = ALPHA,
    report: Report | None = None,
) -> Findings[R]:
    """Measure the written reading and those around it, and follow what is better.

    `measure` is called once for each reading. `nothing` are the counts of a drafter that knows
    nothing. Where the best reading is no better than that, single changes cannot show which parts
    are right, and pairs of changes are tried: `screen` says quickly how much each accepts, and at
    most `_MOST_PAIRS` that accept more than the best reading are measured.
    """
    return _ReadingSearch(readings, measure, screen, nothing, alpha, report).run()


class _ReadingSearch(Generic[R]):
    def __init__(
        self,
        readings: Readings[R],
        measure: Callable[[R], ReadingScore],
        screen: Callable[[R], float],
        nothing: Counts,
        alpha: float,
        report: Report | None,
    ) -> None:
        self._readings, self._measure, self._nothing = readings, measure, nothing
        self._screen, self._report = screen, report
        self._left = alpha
        self._written = readings.written()
        self._measured: dict[R, ReadingScore] = {}
        self._screened: set[R] = set()
        self._compared: list[R] = []
        self._level = alpha

    def run(self) -> Findings[R]:
        best = self._written
        self._know([best])
        for _ in range(_MOST_STAGES):
            better = self._better(best, self._readings.neighbours(best))
            if better is None:
                better = self._better(
                    best, self._readings.further(best, lost=self._lost(best)), also=True
                )
            if better is None and self._lost(best):
                pairs = self._pairs(best)
                promising = self._promising(best, pairs)
                better = self._better(best, promising, also=True, of=len(pairs))
            if better is None:
                break
            best = self._estimated(better)
        if best != self._written:
            best = self._estimated(self._simplest(best))
        return Findings(
            written=self._written,
            best=best,
            measured=self._measured,
            last_stage=[reading for reading in dict.fromkeys(self._compared) if reading != best],
            level=self._level,
            rivals=self._rivals(best),
            tried=len(self._measured) - 1,
            screened=len(self._screened),
            nothing=self._nothing,
        )

    def _better(
        self, best: R, others: Sequence[R], *, also: bool = False, of: int | None = None
    ) -> R | None:
        """The one of the others that gains most, if the gain is relevant and certain. `of` is how
        many they were picked from, which share the level.
        """
        if not others:
            return None
        self._know(others)
        spent = FURTHER_ALPHA
        if best == self._written:
            self._left /= 2
            spent = self._left
        self._level = 2 * spent / (of or len(others))  # bounds are two-sided, moves go up only
        self._compared = [*(self._compared if also else ()), *others]
        before = self._measured[best]
        gains = {other: PairedGain.of_chances(before, self._measured[other]) for other in others}
        margin = (MARGIN if best == self._written else FINE) * before.chance
        certain = [
            other
            for other, gain in gains.items()
            if gain.amount >= margin and gain.bounds(self._level)[0] > 0
        ]
        return max(certain, key=lambda other: gains[other].amount, default=None)

    def _estimated(self, best: R) -> R:
        """The reading with the largest chance among those with other values where it differs from
        the written one; nobody is accused by it, so it need not be certain.
        """
        for _ in range(_MOST_CLIMBS):
            others = self._revised(best)
            self._know(others)
            top = max([best, *others], key=lambda other: self._measured[other].chance)
            if top == best:
                break
            best = top
        return best

    def _revised(self, best: R) -> list[R]:
        others = [] if best == self._written else self._readings.revised(best)
        return [other for other in others if other not in (best, self._written)]

    def _rivals(self, best: R) -> list[R]:
        """What `Findings.rivals` says, at a level that all of them share."""
        others = [other for other in self._revised(best) if other in self._measured]
        score = self._measured[best]
        rivals = [
            other
            for other in others
            if PairedGain.of_chances(score, self._measured[other]).bounds(
                2 * FURTHER_ALPHA / len(others)
            )[1]
            >= 0
        ]
        return sorted(rivals, key=lambda other: self._measured[other].chance, reverse=True)

    def _lost(self, best: R) -> bool:
        """Whether a reading is not surely better than knowing nothing."""
        gain = PairedGain.of_lengths(self._nothing, self._measured[best].counts)
        return gain.bounds(2 * self._left)[0] <= 0

    def _pairs(self, best: R) -> list[R]:
        """The readings two changes away."""
        steps = [self._readings.neighbours(near) for near in self._readings.neighbours(best)]
        pairs = dict.fromkeys(itertools.chain.from_iterable(steps))
        return [pair for pair in pairs if pair not in self._measured]

    def _promising(self, best: R, pairs: Sequence[R]) -> list[R]:
        """The pairs that accept more than the best reading in the screen, most first."""
        least = self._screen(best)
        shares = []
        for done, pair in enumerate(pairs, 1):
            shares.append(self._screen(pair))
            self._say("screening pairs of changes", done, len(pairs))
        self._screened.update(pairs)
        better = [(share, pair) for share, pair in zip(shares, pairs, strict=True) if share > least]
        better.sort(key=lambda found: found[0], reverse=True)
        return [pair for _, pair in better[:_MOST_PAIRS]]

    def _simplest(self, best: R) -> R:
        """The reading without the changes that it does not need: each is taken back where that
        costs nothing for certain. A misread one stays misread.
        """
        plainer = True
        while plainer:
            plainer = False
            for other in self._readings.taken_back(best):
                if other == self._written:
                    continue
                self._know([other])
                loss = PairedGain.of_chances(self._measured[other], self._measured[best])
                if loss.bounds(self._level)[0] <= 0:
                    best, plainer = other, True
                    break
        return best

    def _know(self, readings: Iterable[R]) -> None:
        new = [reading for reading in dict.fromkeys(readings) if reading not in self._measured]
        for done, reading in enumerate(new, 1):
            self._measured[reading] = self._measure(reading)
            self._say("measuring readings", done, len(new))

    def _say(self, what: str, done: int, total: int) -> None:
        if self._report and total > 1:
            self._report(what, done, total)
