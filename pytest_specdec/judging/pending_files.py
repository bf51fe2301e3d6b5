"""The files that a session is going to write: none is written before the end."""

from __future__ import annotations

import functools
from pathlib import Path

from ..baselines.commits import head_commit
from ..baselines.evidence_and_tokens import EvidenceFile
from ..baselines.repeats import seeded
from ..baselines.store import BaselineStore, current_evidence, fingerprint
from ..baselines.writing import dumps
from ..cases.case import Case
from ..records.accumulated import AccumulatedRun
from ..records.prompt_counts import rows_of_run
from ..records.record import SCHEMA, Record
from .comparison import Baseline, Run
from .decisions import Decision
from .diagnosis import token_files


class PendingFiles:
    """Contents by path, in stored form."""

    def __init__(self, store: BaselineStore, *, keeps_texts: bool = True) -> None:
        """Without `keeps_texts` only records and evidence are stored: hashes and counts."""
        self._store, self._keeps_texts = store, keeps_texts
        self.contents: dict[Path, str] = {}

    @functools.cached_property
    def _commit(self) -> str | None:
        """At which the stored baselines are, before they are replaced."""
        return head_commit(self._store.folder)

    def add(self, run: Run, baseline: Baseline, decision: Decision) -> None:
        """Queue what a decision stores of a run."""
        if decision.p_value is not None and baseline.record is not None:
            self._add_evidence(run, baseline.record, decision.p_value)
        if decision.stores == "record":
            self._add_record(run, baseline.record)
            if not self._keeps_texts:
                return
            self._add_texts(run, renewed=baseline.record is not None)
            self.contents |= dict(token_files(run, self._store))
        elif (
            decision.stores == "missing token maps" and self._keeps_texts and self._is_own(run.case)
        ):
            self.contents |= {
                path: text for path, text in token_files(run, self._store) if not path.exists()
            }

    def _is_own(self, case: Case) -> bool:
        """Whether the baseline is the device's own, so that token maps belong beside it."""
        return self._store.in_force(case) == self._store

    def _add_evidence(self, run: Run, record: Record, p_value: float) -> None:
        accumulated = AccumulatedRun(
            p_value=p_value,
            fingerprints=run.measured.fingerprints,
            counts=rows_of_run(run.measured.runs[0]),
        )
        evidence = EvidenceFile(
            schema=SCHEMA,
            baseline=fingerprint(record),
            runs=(*current_evidence(self._store, run.case, record), accumulated),
        )
        self.contents[self._store.evidence_path(run.case)] = dumps(evidence)

    def _add_record(self, run: Run, before: Record | None) -> None:
        record = run.record
        if before is not None:
            record = record.replacing(before, self._commit)
        self.contents[self._store.record_path(run.case)] = dumps(record)

    def _add_texts(self, run: Run, *, renewed: bool) -> None:
        """The run's texts where none are stored, or where the stored ones belong to the record that
        is replaced. A device with baselines of its own keeps texts that all devices share, although
        it rounds their log-probabilities otherwise.
        """
        for number, measurement in enumerate(run.measurements):
            if measurement.texts is None:
                continue
            key = seeded(run.case, number).texts
            stored = self._store.texts(key)
            texts = measurement.texts
            if stored is not None and self._store.device is not None and texts.repeats(stored):
                continue
            if stored is None or (renewed and dumps(texts) != dumps(stored)):
                self.contents[self._store.texts_path(key)] = dumps(texts)
