"""Acceptance over the course of a run: first rounds beside later ones, requests before and after a
change, and good requests mixed with bad ones.

Whole sums hide all three: a drafter that begins on the wrong states hurts one round of each text, a
cache that goes stale hurts the later requests, and a replica with other weights some of them. The
models say how many tokens each round should accept, given the text, and so how a run without such
faults varies:

- *First rounds* are judged by the exact distribution of their sum (`acceptance.sum_distribution`).
- *A change* after an unknown request is judged by an e-value, the mean over all requests r >= 2 and
  over several bets of the bet that all requests from r on accept more, or less, than the models
  imply (a mixture of test martingales: Shafer, arXiv 1903.06991; e-detectors: Shin, Ramdas and
  Rinaldo, arXiv 2203.03532). Each factor has mean 1 by the exact distribution of a request's
  rounds, so 1 over the e-value is a p-value.
- *A mixture* spreads the requests' scores further than the models do. Their sum of squares is
  compared with runs that are drawn from the models.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ...acceptance.counts import Array
from ...acceptance.renewal import accepted_distribution
from ...acceptance.sum_distribution import sum_distribution

BETS = tuple(sign * size for size in (0.03, 0.1, 0.3) for sign in (-1, 1))
"""Exponents of the bets, per token accepted beyond what the models imply."""
DRAWN = 1999
"""Runs that are drawn from the models."""
_STEPS = 8
"""As in `deviations`: expectations of first rounds are rounded to so many steps a token."""
_FAR = 3.0
"""Standard deviations beyond which a request is listed as a bad one of a mixture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlayedRounds:
    """A run's counted rounds beside what its models imply on the same texts."""

    survival: Array
    """(texts, longest, k): chance that a round at each start accepts draft steps 0..i."""
    starts: NDArray[np.int64]
    """(texts,): where each text's first round starts."""
    played: NDArray[np.bool_]
    """(texts, longest): whether a round takes place at each start that is reached."""
    counted: NDArray[np.bool_]
    """(texts, longest): whether that round is counted."""
    rows: NDArray[np.int64]
    """(rounds,): the text of each counted round, in the order of the requests."""
    begun: NDArray[np.int64]
    """(rounds,): where it starts."""
    accepted: NDArray[np.int64]
    """(rounds,): its accepted tokens."""

    @property
    def expected(self) -> Array:
        """(rounds,): accepted tokens that the models imply."""
        sums: Array = self.survival.sum(-1)[self.rows, self.begun]
        return sums

    @property
    def excess(self) -> Array:
        """(rounds,): accepted tokens beyond them."""
        return self.accepted - self.expected

    def by_request(self, values: Array) -> Array:
        """(texts,): sums of a value of each round."""
        sums: Array = np.bincount(self.rows, values, minlength=len(self.starts)).astype(float)
        return sums

    def gains(self) -> Array:
        """(texts, longest, k + 1): tokens beyond the models' of a counted round at each start."""
        taken = np.arange(self.survival.shape[-1] + 1)
        gains: Array = (taken - self.survival.sum(-1, keepdims=True)) * self.counted[..., None]
        return gains


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
    """Accepted tokens per round of some rounds, and what the models imply for the same ones."""

    counted: float
    expected: float

    def __str__(self) -> str:
        return f"{self.counted:.2f} drafts and not {self.expected:.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeCourse:
    """What a run's rounds say of its course. Use it as `assert course.steady, course.message`."""

    alpha: float
    first_p_value: float
    """Of the first rounds; 1 where they are not counted."""
    first: Shares
    change_e_value: float
    change: int
    """The request after which acceptance most likely changed, from 1."""
    after: Shares
    """Of the requests after it."""
    mixture_p_value: float
    bad: tuple[int, ...]
    """Requests far below the models, from 0, the worst first."""
    of_bad: Shares
    requests: int

    @property
    def p_value(self) -> float:
        """Of the three together, by Bonferroni's inequality."""
        change = min(1.0, 1 / self.change_e_value) if self.change_e_value > 0 else 1.0
        return min(1.0, 3 * min(self.first_p_value, change, self.mixture_p_value))

    @property
    def steady(self) -> bool:
        return self.p_value > self.alpha

    @property
    def message(self) -> str:
        """One sentence: what is unsteady, and what to look at."""
        if self.steady:
            return (
                f"{self.requests} requests accept as their models imply from the first to the last "
                f"(p {self.p_value:.2g}); nothing to do"
            )
        if self.first_p_value <= self.alpha / 3:
            return (
                f"the first round of a text accepts {self.first} (p {self.first_p_value:.1g}); "
                "check which states and which cache the drafter begins with after the prompt"
            )
        if self.change_e_value >= 3 / self.alpha:
            return (
                f"after request {self.change} of {self.requests} a round accepts {self.after} "
                f"(e-value {self.change_e_value:.1g}); check what ages: caches, slots, adapters, "
                "a restarted worker"
            )
        return (
            f"the requests are a mixture (p {self.mixture_p_value:.1g}): {len(self.bad)} of "
            f"{self.requests} accept {self.of_bad}, the others as their models imply; check that "
            "all replicas hold the same weights and settings"
        )


def time_course(rounds: PlayedRounds, *, alpha: float, seed: int = 0) -> TimeCourse:
    """Judge the course of a run; a right engine is called unsteady with probability `alpha` at
    most.

    Example: `time_course(PlayedRounds(...), alpha=0.01).steady`.
    """
    first = rounds.begun == rounds.starts[rounds.rows]
    scores = rounds.by_request(rounds.excess)
    e_value, change = _change(rounds, scores)
    p_value, spread = _mixture(rounds, scores, np.random.default_rng(seed))
    far = scores / np.maximum(spread, 1e-9)
    bad = [int(row) for row in np.argsort(far, kind="stable") if far[row] < -_FAR]
    return TimeCourse(
        alpha=alpha,
        first_p_value=_first(rounds, first),
        first=_shares(rounds, first),
        change_e_value=e_value,
        change=change,
        after=_shares(rounds, rounds.rows >= change),
        mixture_p_value=p_value,
        bad=tuple(bad),
        of_bad=_shares(rounds, np.isin(rounds.rows, bad)),
        requests=len(rounds.starts),
    )


def _shares(rounds: PlayedRounds, chosen: NDArray[np.bool_]) -> Shares:
    if not chosen.any():
        return Shares(counted=0.0, expected=0.0)
    return Shares(
        counted=float(rounds.accepted[chosen].mean()),
        expected=float(rounds.expected[chosen].mean()),
    )


def _first(rounds: PlayedRounds, first: NDArray[np.bool_]) -> float:
    """The p-value of the first rounds, where they are counted."""
    if not first.any():
        return 1.0
    at = np.arange(rounds.survival.shape[1])
    gains = np.rint(_STEPS * rounds.gains()).astype(int)
    gains[at != rounds.starts[:, None]] = 0
    value = gains[rounds.rows[first], rounds.begun[first], rounds.accepted[first]].sum()
    return sum_distribution(rounds.survival, rounds.starts, rounds.played, gains).p_value(
        int(value)
    )


def _change(rounds: PlayedRounds, scores: Array) -> tuple[float, int]:
    """The e-value of a change, and the number of requests before the likeliest one."""
    if len(scores) < 2:
        return 1.0, len(scores)
    bets = np.array([bet * scores - _log_means(rounds, bet) for bet in BETS])
    after = bets[:, ::-1].cumsum(1)[:, ::-1][:, 1:]  # (bets, requests - 1): from each request on
    best = np.logaddexp.reduce(after, 0)
    total = np.logaddexp.reduce(best) - np.log(after.size)
    return float(np.exp(min(total, 700.0))), int(best.argmax()) + 1


def _log_means(rounds: PlayedRounds, bet: float) -> Array:
    """(texts,): log of the mean, over what the models may play, of exp(bet * a request's score)."""
    chances = accepted_distribution(rounds.survival)
    factors = chances * np.exp(bet * rounds.gains())
    texts, longest, ends = factors.shape
    ahead, result = np.ones((ends + 1, texts)), np.ones(texts)
    for start in range(longest - 1, int(rounds.starts.min()) - 1, -1):
        here = (factors[:, start] * ahead[:ends].T).sum(1)
        here = np.where(rounds.played[:, start], here, 1.0)
        result = np.where(rounds.starts == start, here, result)
        ahead = np.concatenate([here[None], ahead[:-1]])
    return np.log(result)


def _mixture(rounds: PlayedRounds, scores: Array, rng: np.random.Generator) -> tuple[float, Array]:
    """The p-value of the requests' spread, and (texts,) each request's standard deviation."""
    drawn = _drawn_scores(rounds, rng)
    spread = drawn.std(0)
    known = spread > 1e-9
    if not known.any():
        return 1.0, spread
    own = float(((scores[known] / spread[known]) ** 2).sum())
    others = ((drawn[:, known] / spread[known]) ** 2).sum(1)
    return float((1 + (others >= own).sum()) / (1 + len(others))), spread


def _drawn_scores(rounds: PlayedRounds, rng: np.random.Generator) -> Array:
    """(DRAWN, texts): scores of requests whose rounds are drawn from the models."""
    cumulated = accepted_distribution(rounds.survival).cumsum(-1)
    gains = rounds.gains()
    texts, longest, _ = gains.shape
    at = np.tile(rounds.starts, (DRAWN, 1))
    scores = np.zeros((DRAWN, texts))
    for start in range(int(rounds.starts.min()), longest):
        here = (at == start) & rounds.played[:, start]
        if not here.any():
            continue
        runs, rows = np.nonzero(here)
        taken = (rng.random(len(rows))[:, None] > cumulated[rows, start, :-1]).sum(1)
        scores[runs, rows] += gains[rows, start, taken]
        at[runs, rows] += taken + 1
    return scores
