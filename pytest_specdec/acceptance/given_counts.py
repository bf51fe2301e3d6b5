"""Counts that a test hands over, request by request: checked, and taken as they are."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from ..common.errors import RequestError
from ..common.limits import MOST_K, MOST_NEW_TOKENS
from .counts import Counts
from .sums import accepted_by_position, drafted_by_position

ROUNDS, SUMS, TOTALS = "given-rounds/1", "given-sums/1", "given-sums/1-no-positions"
"""Ids of how such counts are made: from all rounds of each request, from its sums by position, or
from its sums alone. They are stored and never compared across.
"""
_ROUNDS_FORM = "give each request a list of [drafted, accepted], one for each round"
_SUMS_FORM = (
    "give each request (rounds, drafted, accepted), where accepted is a number or a list by "
    "position"
)
_POOLED = (
    "one total over all requests shows no spread, so no false-alarm rate can be stated for it; "
    "give counts per request, or per repeat of the whole run"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenCounts:
    """Counts with one row per request, and how they were made."""

    counts: Counts
    definition: str
    """`ROUNDS`, `SUMS` or `TOTALS`."""
    keyed: bool
    """Whether requests have keys of the test's own; else their places pair them."""

    @property
    def without_rounds(self) -> int:
        """Number of requests without a single round."""
        return int((self.counts.rounds == 0).sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Sums:
    """The sums of one request."""

    rounds: int
    drafted: int
    accepted: int
    per_position: tuple[int, ...] | None


def given_counts(
    *, rounds: object = None, sums: object = None, k: int | None = None
) -> GivenCounts:
    """Read the counts that a test hands over.

    Parameters
    ----------
    rounds
        By request: `[drafted, accepted]` of each round (one verification by the target), in any
        order. A mapping from the requests' keys, or a list in the order of the requests.
    sums
        In place of `rounds`, by request: `(rounds, drafted, accepted)`. `accepted` is the number
        of accepted tokens, or a list with the number of rounds that accepted position 1, 2, ..., k.
    k
        Most draft tokens of a round. By default the most that any round drafted, or the number of
        positions in `sums`.

    Returns
    -------
    GivenCounts
        One row per request. Requests without keys are called `#0000`, `#0001`, ...

    Raises
    ------
    RequestError
        For anything but whole numbers with 0 <= accepted <= drafted <= k in each round, for a
        single total over all requests, and where no request has a round.

    Examples
    --------
    >>> given = given_counts(rounds={"a": [[3, 2], [3, 0]], "b": [[3, 3]]})
    >>> given.counts.accepted.tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    >>> given_counts(sums={"a": (2, 6, 2), "b": (1, 3, 3)}, k=3).definition
    'given-sums/1-no-positions'
    """
    if (rounds is None) == (sums is None):
        raise RequestError("counts are given as rounds= or as sums=; pass one of the two")
    if sums is None:
        requests, keyed = _requests(rounds, _ROUNDS_FORM)
        counts, definition = _of_rounds(requests, k), ROUNDS
    else:
        requests, keyed = _requests(sums, _SUMS_FORM)
        counts, definition = _of_sums(requests, k)
    if not counts.total_rounds > 0:
        raise RequestError(
            f"none of the {len(requests)} requests has a round; check that the engine drafts, and "
            "which counters the test reads"
        )
    return GivenCounts(counts=counts, definition=definition, keyed=keyed)


def _requests(given: object, form: str) -> tuple[dict[str, Any], bool]:
    """What is given of each request by its key, and whether the keys are the test's own."""
    keyed = isinstance(given, Mapping)
    if isinstance(given, Mapping):
        requests = dict(given)
        for key in requests:
            if not _is_text(key):
                raise RequestError(
                    f"the request key {_shown(key)} is not a text; use a key that names the same "
                    "request in every run, for example its prompt's id"
                )
    elif _is_list(given):
        requests = {f"#{place:04}": item for place, item in enumerate(given)}
    else:
        raise RequestError(f"{_shown(given)} is neither a mapping nor a list of requests; {form}")
    if not requests:
        raise RequestError(f"no request is given; {form}")
    if len(requests) == 1 or not any(map(_is_list, requests.values())):
        raise RequestError(_POOLED)
    return requests, keyed


def _of_rounds(requests: Mapping[str, Any], k: int | None) -> Counts:
    pairs = {key: _rounds_of(key, given) for key, given in requests.items()}
    most = max((drafted for rows in pairs.values() for drafted, _ in rows), default=0)
    steps = np.arange(_checked_k(most, k, "a round drafts"))
    arrays = [np.array(rows, dtype=float).reshape(-1, 2) for rows in pairs.values()]
    return Counts(
        prompts=tuple(pairs),
        categories=("all",) * len(pairs),
        rounds=np.array([len(rows) for rows in arrays], dtype=float),
        drafted=np.array([(rows[:, :1] > steps).sum(0) for rows in arrays], dtype=float),
        accepted=np.array([(rows[:, 1:] > steps).sum(0) for rows in arrays], dtype=float),
    )


def _rounds_of(key: str, given: object) -> list[tuple[int, int]]:
    """The rounds of a request as pairs of whole numbers."""
    if not _is_list(given):
        raise RequestError(f"request {_shown(key)} is {_shown(given)}; {_ROUNDS_FORM}")
    pairs = []
    for number, item in enumerate(given, 1):
        where = f"request {_shown(key)}, round {number}"
        if not _is_list(item) or len(item) != 2:
            raise RequestError(f"{where} is {_shown(item)}; {_ROUNDS_FORM}")
        drafted, accepted = (_whole(value, where) for value in item)
        if accepted > drafted:
            raise RequestError(
                f"{where} accepts {accepted} of {drafted} drafted tokens; give [drafted, accepted] "
                "in this order, without the bonus token"
            )
        pairs.append((drafted, accepted))
    return pairs


def _of_sums(requests: Mapping[str, Any], k: int | None) -> tuple[Counts, str]:
    sums = {key: _sums_of(f"request {_shown(key)}", given) for key, given in requests.items()}
    positions = [row.per_position for row in sums.values() if row.per_position is not None]
    if positions and len(positions) < len(sums):
        raise RequestError(
            "some requests give accepted tokens by position and others only their number; give all "
            "in one form"
        )
    if not positions and k is None:
        raise RequestError("sums without positions do not show k; pass k= to specdec_gate")
    k = _checked_k(max(map(len, positions), default=0), k, "the list of accepted tokens has")
    accepted = []
    for key, row in sums.items():
        _check_sums(f"request {_shown(key)}", row, k)
        accepted.append(accepted_by_position(row.accepted, row.per_position, k))
    drafted = [
        drafted_by_position(row.drafted, row.rounds, taken)
        for row, taken in zip(sums.values(), accepted, strict=True)
    ]
    counts = Counts(
        prompts=tuple(sums),
        categories=("all",) * len(sums),
        rounds=np.array([row.rounds for row in sums.values()], dtype=float),
        drafted=np.array(drafted),
        accepted=np.array(accepted),
    )
    return counts, SUMS if positions else TOTALS


def _sums_of(where: str, given: object) -> _Sums:
    if not _is_list(given) or len(given) != 3:
        raise RequestError(f"{where} is {_shown(given)}; {_SUMS_FORM}")
    rounds, drafted = (_whole(value, where) for value in given[:2])
    if not _is_list(given[2]):
        accepted = _whole(given[2], where)
        return _Sums(rounds=rounds, drafted=drafted, accepted=accepted, per_position=None)
    taken = tuple(_whole(value, where) for value in given[2])
    return _Sums(rounds=rounds, drafted=drafted, accepted=sum(taken), per_position=taken)


def _check_sums(where: str, row: _Sums, k: int) -> None:
    """Refuse sums that no rounds of k drafts have."""
    if row.accepted > row.drafted:
        raise RequestError(
            f"{where} accepts {row.accepted} of {row.drafted} drafted tokens; give (rounds, "
            "drafted, accepted) in this order, without the bonus tokens"
        )
    if row.drafted > row.rounds * k:
        raise RequestError(
            f"{where} drafts {row.drafted} tokens in {row.rounds} rounds of at most {k}; check k= "
            "and the number of rounds"
        )
    by_position = (row.rounds, *(row.per_position or ()))
    if any(later > earlier for earlier, later in itertools.pairwise(by_position)):
        raise RequestError(
            f"{where} accepts {list(by_position[1:])} by position in {row.rounds} rounds; each "
            "position counts the rounds that accepted it and all before it"
        )


def _checked_k(most: int, k: int | None, what: str) -> int:
    """k as it is given, or the most that occurs."""
    if k is None:
        k = most
    if most > k:
        raise RequestError(f"{what} {most} tokens and k is {k}; raise k=")
    if not 1 <= k <= MOST_K:
        raise RequestError(
            f"k is {k}, the most that any round drafts; it must be from 1 to {MOST_K}, so check "
            "that the engine drafts"
        )
    return k


def _whole(value: object, where: str) -> int:
    """A count. Raises RequestError for anything else: NaN, a fraction, a negative number."""
    number: Any = -1 if isinstance(value, bool | np.bool_) else value
    try:
        count = operator.index(number)
    except TypeError:
        count = -1
    if not 0 <= count <= MOST_NEW_TOKENS * MOST_K:
        raise RequestError(f"{where} holds {_shown(value)}; counts are whole numbers from 0")
    return count


def _is_text(value: object) -> bool:
    """Whether a value is a text, not empty, that UTF-8 can hold."""
    return (
        isinstance(value, str) and value != "" and value == value.encode(errors="replace").decode()
    )


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple | np.ndarray)


def _shown(value: object) -> str:
    """A value as messages name it."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."
