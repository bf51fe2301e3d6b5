"""The record: counts per prompt, and every metric as a property of them."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ..common.errors import MeasurementError

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Counts:
    """Rounds, drafted and accepted tokens of each prompt: integers when counted, expectations when
    replayed. Every metric is a property.

    A round proposes draft positions 1 to k; those accepted are a prefix. Counts of the same k add
    up prompt by prompt with `merge`. Raises ValueError for arrays whose shapes do not go together,
    MeasurementError for NaN and infinite numbers.

    Examples
    --------
    Two prompts, k = 2: of 10 and 5 rounds 8 and 3 accepted the first draft, 4 and 3 both.

    >>> import numpy as np
    >>> from pytest_specdec import Counts
    >>> counts = Counts(
    ...     prompts=("a", "b"),
    ...     categories=("prose", "code"),
    ...     rounds=np.array([10.0, 5.0]),
    ...     drafted=np.array([[10.0, 10.0], [5.0, 5.0]]),
    ...     accepted=np.array([[8.0, 4.0], [3.0, 3.0]]),
    ... )
    >>> counts.acceptance_length
    2.2
    >>> counts.acceptance_rate
    0.6
    >>> counts.by_category()["code"].acceptance_length
    2.2
    """

    prompts: tuple[str, ...]
    """Keys that pair prompts across runs: hashes of their contents, or row numbers."""
    categories: tuple[str, ...]
    """(prompts,): each prompt's category."""
    rounds: Array
    """(prompts,): verifications by the target with k drafts."""
    drafted: Array
    """(prompts, k): rounds that proposed draft position i."""
    accepted: Array
    """(prompts, k): rounds that accepted draft position i, and so all before it."""
    emitted: Array | None = None
    """(prompts,): tokens of each whole text after its first new one; None where the engine does not
    give them.
    """
    passes: Array | None = None
    """(prompts,): passes of the target that emitted them, those with nothing left to draft
    included.
    """

    def __post_init__(self) -> None:
        rows = len(self.prompts)
        if (
            len(self.categories) != rows
            or self.rounds.shape != (rows,)
            or self.drafted.shape[:1] != (rows,)
        ):
            raise ValueError(
                f"counts of {rows} prompts need one category, rounds entry and drafted row each"
            )
        if self.drafted.shape != self.accepted.shape or self.drafted.ndim != 2:
            raise ValueError(
                f"drafted {self.drafted.shape} and accepted {self.accepted.shape} must both be "
                "(prompts, k)"
            )
        if (self.emitted is None) != (self.passes is None):
            raise ValueError(
                "emitted tokens and the passes that emitted them go together; give both or neither"
            )
        for name in ("rounds", "drafted", "accepted", "emitted", "passes"):
            array = getattr(self, name)
            if array is not None and not np.isfinite(array).all():
                raise MeasurementError(
                    f"the {name} of a prompt are not finite; check what computed or reported them"
                )

    @property
    def k(self) -> int:
        """Draft tokens per round."""
        return int(self.drafted.shape[1])

    @property
    def total_rounds(self) -> float:
        return float(self.rounds.sum())

    @property
    def acceptance_rate(self) -> float:
        """Accepted over drafted tokens, pooled; nan without a drafted token."""
        return _ratio(self.accepted.sum(), self.drafted.sum())

    @property
    def expected_accepted(self) -> float:
        """Accepted tokens per round, without the bonus or recovered token."""
        return _ratio(self.accepted.sum(), self.rounds.sum())

    @property
    def acceptance_length(self) -> float:
        """Tokens emitted per round: 1 + accepted / rounds, pooled over prompts."""
        return 1.0 + self.expected_accepted

    @property
    def request_length(self) -> float:
        """Tokens of a whole request per pass of the target, pooled over prompts; nan where they are
        not known.

        What a request gets, over the same tokens for every k: the acceptance length counts the
        rounds with room for all k drafts alone, and so other rounds for another k.
        """
        if self.emitted is None or self.passes is None:
            return float("nan")
        return _ratio(self.emitted.sum(), self.passes.sum())

    @property
    def request_error(self) -> float:
        """Standard error of the request length, as `standard_error`; nan where it is not known."""
        if (
            self.emitted is None
            or self.passes is None
            or len(self.prompts) < 2
            or not self.passes.sum() > 0
        ):
            return float("nan")
        residuals = (self.emitted - self.request_length * self.passes) / self.passes.sum()
        return float(np.std(residuals, ddof=1) * np.sqrt(len(self.prompts)))

    @property
    def residuals(self) -> Array:
        """(prompts,): each prompt's accepted tokens beyond the pooled mean of its rounds, over all
        rounds; they sum to 0.
        """
        residuals: Array = (
            self.accepted.sum(1) - self.expected_accepted * self.rounds
        ) / self.total_rounds
        return residuals

    @property
    def standard_error(self) -> float:
        """Of the acceptance length, over prompts like these: the delta method for a ratio,
        clustered by prompt.

        nan with fewer than two prompts.
        """
        prompts = len(self.prompts)
        return (
            float(np.std(self.residuals, ddof=1) * np.sqrt(prompts))
            if prompts > 1
            else float("nan")
        )

    @property
    def macro_acceptance_length(self) -> float:
        """The mean over prompts of each prompt's own acceptance length: another quantity, never
        gated.
        """
        seen = self.rounds > 0
        return (
            float(np.mean(1.0 + self.accepted.sum(1)[seen] / self.rounds[seen]))
            if seen.any()
            else float("nan")
        )

    @property
    def efficiency(self) -> float:
        """Expected accepted tokens over drafted tokens per round."""
        return _ratio(self.expected_accepted, _ratio(self.drafted.sum(), self.rounds.sum()))

    @property
    def survival(self) -> Array:
        """(k,): the share of rounds that accepted positions 1..i, what vLLM calls the per-position
        rate.
        """
        drafted = self.drafted.sum(0)
        share: Array = np.divide(
            self.accepted.sum(0), drafted, out=np.full(self.k, np.nan), where=drafted > 0
        )
        return share

    @property
    def conditional(self) -> Array:
        """(k,): P(position i accepted | 1..i-1 accepted); nan past the last position ever reached.

        Where rounds draft different numbers of tokens it is a ratio over different rounds, and 1 at
        most.
        """
        survival = self.survival
        before = np.concatenate([[1.0], survival[:-1]])
        share: Array = np.divide(survival, before, out=np.full(self.k, np.nan), where=before > 0)
        return np.minimum(share, 1.0)

    @property
    def survival_error(self) -> Array:
        """(k,): standard errors of `survival`, as `standard_error`; nan where not known."""
        return self._error_of(self._survival_influence())

    @property
    def conditional_error(self) -> Array:
        """(k,): standard errors of `conditional`, by the delta method for a ratio of two survivals,
        clustered by prompt; nan where they are not known.
        """
        influence, before = self._survival_influence(), np.concatenate([[1.0], self.survival[:-1]])
        earlier = np.concatenate([np.zeros((len(self.prompts), 1)), influence[:, :-1]], axis=1)
        change = influence - self.conditional * earlier
        own = np.divide(change, before, out=np.full_like(change, np.nan), where=before > 0)
        return self._error_of(own)

    def _survival_influence(self) -> Array:
        """(prompts, k): how much each prompt moves the pooled survival of each position."""
        drafted = self.drafted.sum(0)
        share: Array = np.divide(
            self.accepted - self.survival * self.drafted,
            drafted,
            out=np.full_like(self.accepted, np.nan, dtype=np.float64),
            where=drafted > 0,
        )
        return share

    def _error_of(self, influence: Array) -> Array:
        prompts = len(self.prompts)
        if prompts < 2:
            return np.full(self.k, np.nan)
        error: Array = np.std(influence, axis=0, ddof=1) * np.sqrt(prompts)
        return error

    def select(self, rows: list[int]) -> Counts:
        """The counts of some prompts, by row."""
        return Counts(
            tuple(self.prompts[row] for row in rows),
            tuple(self.categories[row] for row in rows),
            self.rounds[rows],
            self.drafted[rows],
            self.accepted[rows],
            None if self.emitted is None else self.emitted[rows],
            None if self.passes is None else self.passes[rows],
        )

    def by_category(self) -> dict[str, Counts]:
        """One `Counts` per prompt category, in order of appearance."""
        names = dict.fromkeys(self.categories)
        return {
            name: self.select(
                [row for row, category in enumerate(self.categories) if category == name]
            )
            for name in names
        }

    def merge(self, other: Counts) -> Counts:
        """Add another run's counts: same prompts add up, new prompts are appended. Raises
        ValueError for another k.
        """
        if other.k != self.k:
            raise ValueError(
                f"counts of k={self.k} and k={other.k} do not add; merge runs of one k"
            )
        rows = {key: row for row, key in enumerate(self.prompts)}
        twins = [rows.get(key) for key in other.prompts]
        fresh = other.select([row for row, twin in enumerate(twins) if twin is None])
        old = [(row, twin) for row, twin in enumerate(twins) if twin is not None]
        known = self.emitted is not None and other.emitted is not None
        names = ("rounds", "drafted", "accepted", *(("emitted", "passes") if known else ()))
        merged = [np.concatenate([getattr(self, name), getattr(fresh, name)]) for name in names]
        for array, name in zip(merged, names, strict=True):
            for row, twin in old:
                array[twin] += getattr(other, name)[row]
        return Counts(self.prompts + fresh.prompts, self.categories + fresh.categories, *merged)


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below > 0 else float("nan")
