"""The stored side of every case."""

from __future__ import annotations

from ..baselines.repeats import accumulates
from ..baselines.store import BaselineStore, current_evidence
from ..cases.case import Case
from ..gate.accumulation import EarlierRun
from ..records.prompt_counts import counts_of_rows
from ..records.record import Record
from .comparison import Baseline, Judge
from .costs import SessionCosts
from .stored_records import StoredRecords


class StoredBaselines:
    """Baselines with the judge that compares runs with them, each read on first use."""

    def __init__(
        self,
        *,
        store: BaselineStore,
        records: StoredRecords,
        costs: SessionCosts,
        judge: Judge,
        accumulate: bool,
    ) -> None:
        self._store, self._records, self._costs = store, records, costs
        self._judge, self._accumulate = judge, accumulate
        self._baselines: dict[Case, Baseline] = {}

    def of(self, case: Case) -> Baseline:
        """The baseline of a case, present or missing."""
        if case not in self._baselines:
            record = self._records.of(case)
            self._baselines[case] = Baseline(
                case,
                record,
                path=self._store.in_force(case).record_path(case),
                judge=self._judge,
                costs=self._costs.of(case),
                earlier=self._earlier_runs(case, record),
            )
        return self._baselines[case]

    def _earlier_runs(self, case: Case, record: Record | None) -> list[EarlierRun]:
        """The runs that were accumulated against the record."""
        if record is None or not accumulates(case, self._accumulate):
            return []
        return [
            EarlierRun(p_value=run.p_value, counts=counts_of_rows(run.counts, case.k))
            for run in current_evidence(self._store, case, record)
        ]
