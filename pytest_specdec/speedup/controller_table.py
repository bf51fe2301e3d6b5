"""Controllers side by side, with their regret against the oracle and the best fixed k; schedules by
batch size. Numpy only.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..acceptance.renewal import AcceptanceField
from ..cases.drafter import DRAFT
from ..common.errors import MeasurementError, RequestError
from .controlled import Controlled, Regret, controlled, in_hindsight, regret
from .controllers import Controller, FixedDrafts, LoadSchedule
from .cost_profile import CostProfile
from .policies import Confidences, RoundMs, times

CONTROLLER_HEADERS = ("controller", "drafted", "length", "speed-up")
REGRET_HEADERS = ("time over that of", "the best fixed k", "the oracle")
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControllerRow:
    """A controller and its results at one batch size."""

    controller: Controller | None
    """None for the oracle."""
    result: Controlled
    speedup: float
    over_fixed: Regret
    """Time over that of the best fixed k, less one."""
    over_oracle: Regret

    def cells(self) -> tuple[str, ...]:
        """A word for each of `CONTROLLER_HEADERS`."""
        result = self.result
        return (
            result.name,
            f"{result.drafted:.2f}",
            f"{result.acceptance_length:.3f}",
            f"{self.speedup:.3f}x",
        )

    def regrets(self) -> tuple[str, ...]:
        """A word for each of `REGRET_HEADERS`."""
        return (self.result.name, str(self.over_fixed), str(self.over_oracle))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControllerTable:
    """What controllers do on the same texts with the same costs."""

    rows: tuple[ControllerRow, ...]
    best_k: int

    @property
    def best(self) -> ControllerRow:
        """The fastest controller."""
        return max(
            (row for row in self.rows if row.controller is not None), key=lambda row: row.speedup
        )


def controller_table(
    field: AcceptanceField,
    costs: CostProfile,
    controllers: Sequence[Controller],
    *,
    most: int,
    depth: int = 0,
    drafter: str = DRAFT,
    confidences: Confidences | None = None,
    limits: NDArray[np.int64] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> ControllerTable:
    """Plain decoding, the best fixed k up to `most`, controllers, and the oracle.

    Raises ValueError for a profile without `target_ms`, CostError for one that does not cover 1 to
    `most`, and MeasurementError for texts without a round.
    """
    round_ms = times(costs, depth, drafter=drafter)
    fixed = [controlled(field, FixedDrafts(k), most=most, limits=limits) for k in range(most + 1)]
    if not fixed[most].rounds[:, :, most].sum() > 0:
        raise MeasurementError(
            f"no text is long enough for a round of k={most}; use longer texts or a smaller k"
        )
    spent = {1: round_ms}
    best_k = max(range(most + 1), key=lambda k: fixed[k].speedup(spent))
    top = in_hindsight(field, round_ms, most)
    found: list[tuple[Controller | None, Controlled]] = [(FixedDrafts(0), fixed[0])]
    if best_k:
        found.append((FixedDrafts(best_k), fixed[best_k]))
    for number, controller in enumerate(controllers, 1):
        walked = controlled(field, controller, most=most, confidences=confidences, limits=limits)
        found.append((controller, walked))
        progress("controllers", number, len(controllers))
    found.append((None, top))
    error = costs.relative_error
    return ControllerTable(
        rows=tuple(
            ControllerRow(
                controller=controller,
                result=result,
                speedup=result.speedup(spent),
                over_fixed=regret(result, fixed[best_k], spent, error),
                over_oracle=regret(result, top, spent, error),
            )
            for controller, result in found
        ),
        best_k=best_k,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadTable:
    """A number of tokens for each batch size, beside one for all."""

    best: Mapping[int, tuple[int, float]]
    """By batch size: the best k and its speed-up."""
    steps: tuple[tuple[int, int], ...]
    """The schedule: (largest batch size, tokens) in order."""
    fixed_k: int
    """The best single k."""
    over_fixed: Regret
    """Time of the schedule over that of the best single k, less one."""
    over_plain: Regret


def load_table(
    field: AcceptanceField,
    profiles: Mapping[int, CostProfile],
    *,
    most: int,
    shares: Mapping[int, float] | None = None,
    trace: Sequence[int] = (),
    depth: int = 0,
    drafter: str = DRAFT,
) -> LoadTable:
    """The best k at each batch size, and what a schedule of them gains.

    Parameters
    ----------
    profiles
        By batch size, each with its own times.
    shares
        Share of the tokens served at each batch size; then times are the machine's, a round of b
        rows counting 1/b for each.
    trace
        Or the batch size of each round of a request; then times are the request's.

    Raises
    ------
    RequestError
        For neither or both, or batch sizes without a profile.
    """
    check_loads(profiles, shares, trace)
    sizes = sorted(profiles)
    whole = [controlled(field, FixedDrafts(k), most=most) for k in range(most + 1)]
    clock = {size: times(profiles[size], depth, drafter=drafter) for size in sizes}
    best = {}
    for size in sizes:
        speeds = [fixed.speedup({1: clock[size]}) for fixed in whole]
        k = int(np.argmax(speeds))
        best[size] = (k, speeds[k])
    steps = _merged(
        [
            (following - 1, best[size][0])
            for size, following in zip(sizes, [*sizes[1:], sizes[-1] + 1], strict=True)
        ]
    )
    if trace:

        def along(steps: tuple[tuple[int, int], ...]) -> Controlled:
            return controlled(field, LoadSchedule(steps, tuple(trace)), most=most)

        at_all = [along(((max(trace), k),)) for k in range(most + 1)]
        scheduled, spent = along(steps), clock
    else:
        assert shares is not None
        at_all = [_mixed(whole, shares, dict.fromkeys(shares, k)) for k in range(most + 1)]
        scheduled = _mixed(whole, shares, {size: best[size][0] for size in shares})
        spent = {size: _per_row(clock[size], size) for size in sizes}
    totals = [float(one.spent(spent).sum()) for one in at_all]
    fixed_k = int(np.argmin(totals))
    error = max(profile.relative_error for profile in profiles.values())
    return LoadTable(
        best=best,
        steps=steps,
        fixed_k=fixed_k,
        over_fixed=regret(scheduled, at_all[fixed_k], spent, error),
        over_plain=regret(scheduled, at_all[0], spent, error),
    )


def check_loads(
    profiles: Mapping[int, CostProfile], shares: Mapping[int, float] | None, trace: Sequence[int]
) -> None:
    """Raises RequestError for what `load_table` refuses."""
    if (shares is None) == (not trace):
        raise RequestError("pass either shares of batch sizes or a trace of them")
    used = set(trace) if shares is None else set(shares)
    if missing := sorted(used - set(profiles)):
        raise RequestError(
            f"no cost profile has batch size {missing[0]}; measure one with: python -m "
            f"pytest_specdec costs --batch {missing[0]}"
        )
    if shares is not None and not (
        all(share > 0 for share in shares.values()) and abs(sum(shares.values()) - 1) < 1e-6
    ):
        raise RequestError("shares of batch sizes are positive and sum to 1; correct --load")


def _per_row(round_ms: RoundMs, size: int) -> RoundMs:
    return lambda drafted: round_ms(drafted) / size


def _mixed(
    whole: Sequence[Controlled], shares: Mapping[int, float], ks: Mapping[int, int]
) -> Controlled:
    """A share of the tokens at each batch size, with its own fixed k."""
    sizes = tuple(sorted(shares))
    rounds = np.stack([shares[size] * whole[ks[size]].rounds[:, 0] for size in sizes], axis=1)
    return Controlled(name="mixed", loads=sizes, rounds=rounds, tokens=whole[0].tokens)


def _merged(steps: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Neighbours with the same number as one."""
    groups = itertools.groupby(steps, key=lambda step: step[1])
    return tuple((max(end for end, _ in group), k) for k, group in groups)
