"""The cases that a session judges by one swap test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable

from ..baselines.repeats import accumulates
from ..cases.case import Case
from ..gate.paired import Pair
from ..gate.session_cells import share_kept, swapped_pair
from ..gate.session_test import Family
from .comparison import Baseline, Run
from .policy import Policy

Comparisons = Callable[[Collection[Case]], Iterable[tuple[Run, Baseline]]]
"""The runs of cases, measured where they were not yet, and the stored baselines of each; cases that
cannot be measured or have no baseline are left out.
"""


def family_of(
    cases: Collection[Case],
    comparisons: Comparisons,
    *,
    policy: Policy,
    gates: int,
    refusal: Callable[[Run, Baseline], str | None],
) -> Family:
    """The pairs of the session's `cases` that label swaps judge, and how many shares of alpha, one
    for each of its `gates`, other tests keep.

    A case that is judged exactly, or is an error, keeps none: its share goes to the swaps.
    `refusal` says why a run is an error whatever its baseline holds.
    """
    swapped = [case for case in cases if not accumulates(case, policy.accumulate)]
    pairs: dict[Hashable, Pair] = {}
    apart = float(gates - len(swapped))  # accumulated cases, and costs that changed
    for run, baseline in comparisons(swapped):
        if baseline.measured is None or refusal(run, baseline) is not None:
            continue
        sides = run.measured, baseline.measured
        apart += share_kept(*sides, subset=policy.subset)
        pair = swapped_pair(*sides, subset=policy.subset)
        if pair is not None:
            pairs[run.case] = pair
    return Family(pairs=pairs, apart=apart)
