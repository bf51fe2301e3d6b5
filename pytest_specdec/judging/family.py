"""The cases that a session judges by one swap test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable

from ..baselines.repeats import accumulates
from ..cases.case import Case
from ..gate.paired import Pair
from ..gate.session_cells import judged_apart, swapped_pair
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
    """The pairs of the session's `cases` that label swaps judge, and how many of its `gates` are
    judged by other tests at a share of alpha of their own.

    A case that is judged exactly, or is an error, takes no share: its part goes to the others.
    `refusal` says why a run is an error whatever its baseline holds.
    """
    swapped = [case for case in cases if not accumulates(case, policy.accumulate)]
    pairs: dict[Hashable, Pair] = {}
    apart = gates - len(swapped)  # accumulated cases, and costs that changed
    for run, baseline in comparisons(swapped):
        if baseline.measured is None or refusal(run, baseline) is not None:
            continue
        pair = swapped_pair(run.measured, baseline.measured, subset=policy.subset)
        if pair is not None:
            pairs[run.case] = pair
        else:
            apart += judged_apart(run.measured, baseline.measured, subset=policy.subset)
    return Family(pairs=pairs, apart=apart)
