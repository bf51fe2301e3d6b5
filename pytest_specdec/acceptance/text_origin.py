"""Are texts what the target emits under these settings? Judged by the target's own distributions,
with no false accusation.

Replay holds for texts that the target sampled, so texts of anything else make every number wrong.
Two things are seen in the target's pass over them. A token outside the target's top-k or top-p, or
at temperature 0 below its arg-max by more than rounding explains, cannot have been drawn here. And
a bet against the target: if each token is drawn from p, the product of r(y)/p(y) over a text has
expectation 1 for any distribution r, here r ~ p^a with a of `TILTS` (texts of another temperature),
so the mean over texts and tilts of such products, and of their product over all texts, exceeds 1 /
level with probability `level` at most (Markov's inequality; no normal approximation). A bet at p^(1
+ d) grows only where the mean surprisal is off by more than d/2 of its variance, so rounding of
another machine or number format does not add up in long texts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..cases.case import Sampling
from ..common.errors import MeasurementError
from .counts import Array

TILTS = (0.75, 1.25)
"""Exponents of the bets: r ~ p^0.75 is the target at 4/3 of its temperature, p^1.25 at 4/5 of
it.
"""
LEVEL = 1e-9
"""Probability, per set of texts, that texts of the target are refused."""
OUTSIDE_SHARE = 0.02
"""Largest share of tokens outside the target's support.

On the embedded pair texts sampled in bfloat16 and replayed in float32 have 0.1 % outside top-p 0.9
and 0.6 % outside top-k 20 at temperature 1.6, where most mass lies at the cut-off; sampled texts
that are filed as greedy have 40 %.
"""
OUTSIDE_FEW = 3
"""Tokens outside that any number of tokens may have: a share of a short text is not evidence."""
TIE = 0.25
"""Largest gap of two logits that rounding can close: bfloat16's, since texts do not say in which
format they were made.
"""
SOURCE_SLACK = 0.005
"""Log-probability by which a stored one may be off on average: half precision's rounding, many
times over.
"""
CURE = (
    "restore them from version control, or delete their file and run with --specdec-update=all to "
    "sample new ones"
)
"""For texts that are stored."""
GIVEN_CURE = (
    "replay texts that it emitted, with the temperature and filters that they were sampled with"
)
"""For texts that a caller passes."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Evidence from a target's pass over texts on their origin. All sums are over new tokens."""

    sampling: Sampling
    prompts: tuple[str, ...]
    """Keys of the texts that were looked at."""
    tokens: int
    outside: tuple[int, ...]
    """Of each text: tokens outside the target's top-k or top-p here or, at temperature 0, below its
    arg-max beyond a tie.
    """
    bets: Array
    """(tilts, texts): log of the product of r(y)/p(y) over the text's other tokens; no row at
    temperature 0.
    """

    @property
    def log_evidence(self) -> float:
        """Logarithm of an e-value against the texts: expectation 1 at most for texts of the target;
        -inf without bets.
        """
        if not self.bets.size:
            return -math.inf
        together = np.logaddexp.reduce(self.bets.sum(axis=1)) - math.log(len(self.bets))
        alone = np.logaddexp.reduce(self.bets, axis=None) - math.log(self.bets.size)
        return float(np.logaddexp(together, alone) - math.log(2))

    @property
    def note(self) -> str | None:
        """What to report of texts that are accepted: tokens outside the support. None without
        any.
        """
        count = sum(self.outside)
        return f"{count} of {self.tokens:,} tokens {_lies(self.sampling, count)}" if count else None

    def check(self, cure: str = CURE) -> None:
        """Raises MeasurementError for texts that the target does not emit under these settings."""
        if (problem := self._problem()) is not None:
            raise MeasurementError(
                f"the texts are not this target's under these settings: {problem}; {cure}"
            )

    def _problem(self) -> str | None:
        count = sum(self.outside)
        if count > max(OUTSIDE_SHARE * self.tokens, OUTSIDE_FEW):
            return (
                f"{count} of {self.tokens:,} tokens {_lies(self.sampling, count)} "
                f"({OUTSIDE_SHARE:.0%} at most by rounding)"
            )
        if self.log_evidence < -math.log(LEVEL):
            return None
        row, worst = divmod(int(np.argmax(self.bets)), self.bets.shape[1])
        which = "much less probable" if TILTS[row] < 1 else "much more probable"
        return (
            f"they are {which} than what it samples at temperature {self.sampling.temperature:g} "
            "(chance below "
            f"{LEVEL:g}), most of all the text of prompt {self.prompts[worst]}"
        )


def source_problem(
    now: NDArray[np.floating], source: NDArray[np.floating], new: NDArray[np.bool_]
) -> str | None:
    """Why stored log-probabilities are not those of the target that emitted the texts; None where
    they may be.

    `now` and `source` (texts, longest) are log-probabilities of each text's own token by another
    target and as stored, `new` marks the new tokens. For tokens drawn from the stored probabilities
    p, the expectation of p'/p is 1 at most whatever p' is, so the product of (1 + p'/p) / 2 exceeds
    1 / `LEVEL` with probability `LEVEL` at most.
    """
    ratio = now.astype(np.float64) - source - SOURCE_SLACK
    evidence = float(np.sum(np.logaddexp(0.0, ratio) - math.log(2), where=new))
    if evidence < -math.log(LEVEL):
        return None
    return (
        "the log-probabilities that are stored with the old target's texts are not those of the "
        f"target that emitted them (chance below {LEVEL:g}); restore the file of the texts from "
        "version control, or measure again with --specdec-update=all"
    )


def joined(parts: Sequence[Origin]) -> Origin:
    """The origin of several parts of a set of texts; at least one."""
    return Origin(
        sampling=parts[0].sampling,
        prompts=tuple(key for part in parts for key in part.prompts),
        tokens=sum(part.tokens for part in parts),
        outside=tuple(count for part in parts for count in part.outside),
        bets=np.concatenate([part.bets for part in parts], axis=1),
    )


def _lies(sampling: Sampling, count: int) -> str:
    verb = "lies" if count == 1 else "lie"
    if sampling.temperature == 0:
        return f"{verb} below the target's arg-max by more than a tie"
    filters = [f"top-k {sampling.top_k}"] * (sampling.top_k > 0) + [f"top-p {sampling.top_p:g}"] * (
        sampling.top_p < 1
    )
    return f"{verb} outside the target's {' and '.join(filters) or 'vocabulary'} here"
