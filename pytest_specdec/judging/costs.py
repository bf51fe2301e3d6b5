"""The times of a session's cases: read from its cost profile, measured, or those of baselines."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path

from ..cases.case import MEASURE, Case
from ..cases.drafter import DrafterSpec
from ..common.errors import CostError
from ..engines.protocol import Engine
from ..records.case_costs import CaseCosts
from ..speedup.cost_profile import CostProfile
from .stored_records import StoredRecords


class SessionCosts:
    """The costs of each case. A profile that is measured is measured once for each pair of models
    and temperature.
    """

    def __init__(
        self, cases: Collection[Case], engine: Engine | None, records: StoredRecords
    ) -> None:
        """Without an engine nothing can be measured."""
        self._cases, self._engine, self._records = tuple(cases), engine, records
        self._measured: dict[tuple[str, DrafterSpec, float], CostProfile] = {}

    def profile(self, case: Case) -> CostProfile | None:
        """The session's cost profile of a case, read or, on first use, measured; None where the
        case names none.
        """
        if case.costs == MEASURE:
            return self._measured_profile(case)
        return None if case.costs is None else _load(Path(case.costs))

    def of(self, case: Case) -> CaseCosts | None:
        """The case's costs under the session's profile; without a profile those of its baseline."""
        if case.costs is not None:
            return costs_of(case, self.profile(case))
        stored = self._records.of(case)
        return None if stored is None else stored.costs

    def differ(self, case: Case) -> bool:
        """Whether a case has other costs than its baseline, which must have some; measured ones
        always differ.
        """
        stored = self._records.of(case)
        before = None if stored is None else stored.costs
        return before is not None and (case.costs == MEASURE or before != self.of(case))

    def _measured_profile(self, case: Case) -> CostProfile:
        key = case.target, case.drafter, case.temperature
        if key not in self._measured:
            sharing = [
                other
                for other in self._cases
                if other.costs == MEASURE
                and (other.target, other.drafter, other.temperature) == key
            ]
            assert self._engine is not None
            self._measured[key] = self._engine.models.costs(sharing)
        return self._measured[key]


def costs_of(case: Case, profile: CostProfile | None) -> CaseCosts | None:
    """What a round of a case takes; None where the profile does not cover it."""
    if profile is None:
        return None
    try:
        verify = profile.verify_ms(case.verified)
        draft = profile.draft_ms(case.drafted, case.depth, drafter=case.drafter_name)
    except CostError:
        return None
    return CaseCosts(
        target_ms=profile.target_ms,
        verify_ms=verify,
        draft_ms=draft,
        relative_error=round(profile.relative_error, 6),
        samples=profile.samples,
        machine=profile.machine,
        software=profile.software,
    )


@functools.cache
def _load(path: Path) -> CostProfile:
    return CostProfile.load(path)
