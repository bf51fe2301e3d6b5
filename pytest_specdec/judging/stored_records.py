"""The stored records of a session, each read once."""

from __future__ import annotations

from ..baselines.store import BaselineStore
from ..cases.case import Case
from ..records.record import Record


class StoredRecords:
    """Reads records on first use and keeps them."""

    def __init__(self, store: BaselineStore) -> None:
        self._store = store
        self._records: dict[Case, Record | None] = {}

    def of(self, case: Case) -> Record | None:
        """The stored record of a case; None where there is none."""
        if case not in self._records:
            self._records[case] = self._store.record(case)
        return self._records[case]
