"""The end of a session: what workers measured is taken over, files are written or pruned, and the
exit status is set.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..common.display import short, told_files
from ..common.errors import BaselineError, SpecdecError
from ..config.dividing import SHARD
from ..config.options import LANGUAGE, PRUNE
from ..config.settings import Settings
from ..judging.judgements import JudgementLog
from .build import Components
from .facts import session_facts
from .state import Outcome
from .workers import WorkerResults, worker_output

if TYPE_CHECKING:
    from ..baselines.seen_files import SeenFiles


class SessionFinish:
    """Writes files on the controller alone; a worker sends what it has."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        components: Components,
        comparisons: JudgementLog,
        outcome: Outcome,
    ) -> None:
        self._config, self._settings, self._components = config, settings, components
        self._comparisons, self._outcome = comparisons, outcome
        self._interrupted = self._worker_lost = False
        self._seen = None if worker_output(config) is not None else self._opened()

    def _opened(self) -> SeenFiles | None:
        """The folder of the baselines as the session finds it, an update that was cut short
        completed. Raises BaselineError where it cannot be completed.
        """
        folder = self._settings.baselines
        if not folder.is_dir():
            return None
        from ..baselines.seen_files import SeenFiles
        from ..baselines.update import recover

        self._outcome.notes += recover(folder)
        return SeenFiles.of(folder)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over what an xdist worker measured."""
        results = WorkerResults.receive(getattr(node, "workeroutput", None) or {})
        self._worker_lost |= error is not None
        outcome = self._outcome
        outcome.files |= results.files
        outcome.problem = outcome.problem or results.problem
        outcome.stale = list(results.stale)
        self._comparisons.unseen.update(results.unseen)

    def pytest_keyboard_interrupt(self) -> None:
        """Also for pytest.exit, which may come with any exit status."""
        self._interrupted = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, object, object]:
        self._finish(session, exitstatus)
        unseen = sorted(self._comparisons.unseen)
        if unseen and session.exitstatus == pytest.ExitCode.OK:
            self._outcome.notes.append(
                f"the gate failed {', '.join(unseen)}, and no test did; the exit status is 1"
            )
        result = yield
        if unseen and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return result

    def _finish(self, session: pytest.Session, exitstatus: int) -> None:
        outcome = self._outcome
        for runner in self._components.runners_in_use:
            outcome.files |= runner.pending
        if (output := worker_output(self._config)) is not None:
            WorkerResults(
                problem=outcome.problem,
                files=outcome.files,
                stale=outcome.stale,
                unseen=self._comparisons.unseen,
            ).send(output)
            return
        if outcome.candidates:
            from ..judging.candidates import compare_rows

            compare_rows(outcome.rows.values(), outcome.candidates)
        if outcome.axes:
            from ..judging.axes import compare_axes

            compare_axes(outcome.rows.values(), outcome.axes)
        if outcome.problem is not None:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            return
        if self._interrupted or exitstatus in (
            pytest.ExitCode.INTERRUPTED,
            pytest.ExitCode.INTERNAL_ERROR,
        ):
            if outcome.files:
                outcome.notes.append(
                    f"interrupted: none of {len(outcome.files)} baseline files was written; run "
                    "again to the end"
                )
            return
        try:
            parted = self._parted()
            self._update()  # first: a report that cannot be written costs no baseline
            outcome.notes += parted
            self._write(self._reports())
            if outcome.stale:
                self._name_or_prune_stale(stopped=bool(session.shouldstop or session.shouldfail))
        except SpecdecError as error:
            outcome.problem = str(error)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def _update(self) -> None:
        """Write the baselines, as a set. Raises BaselineError where the session has a part of it
        only, or the folder is not as the session found it.
        """
        folder, files = self._settings.baselines, self._outcome.files
        if files and self._worker_lost:
            raise BaselineError(
                f"a worker crashed: none of {len(files)} baseline files was written; run again, "
                "with fewer workers if memory is short"
            )
        if files:
            from ..baselines.update import update

            update(folder, files, seen=self._seen)
            self._outcome.notes += told_files(files)
        elif self._seen is not None:
            self._seen.check(folder / Path(name).parent / "*" for name in self._outcome.rows)

    def _parted(self) -> list[str]:
        """What to say of baselines whose texts the session replaces."""
        if not self._outcome.files:
            return []
        from ..baselines.parted import parted_by, parted_notes

        return parted_notes(parted_by(self._outcome.files))

    def _reports(self) -> Mapping[Path, str]:
        paths, rows = self._settings.reports, self._outcome.rows
        if not rows:
            if paths and self._settings.value(SHARD) is None:
                self._outcome.notes.append(
                    "no case was measured, so no report was written; select a test that uses "
                    "specdec_run or specdec_gate"
                )
            return {}
        from ..report import render

        language = self._settings.value(LANGUAGE)
        facts = session_facts(self._config) if paths else None
        return {path: render(path.suffix, rows.values(), language, facts) for path in paths}

    def _write(self, files: Mapping[Path, str]) -> None:
        if files:
            from ..baselines.store import write_all

            write_all(files)
            self._outcome.notes += told_files(files)

    def _name_or_prune_stale(self, *, stopped: bool) -> None:
        notes = self._outcome.notes
        stale = [path for path in self._outcome.stale if path not in self._outcome.files]
        prune = self._settings.value(PRUNE)
        if stopped:
            notes += ["stopped early: nothing was pruned; run again to the end"] * prune
        elif not prune:
            names = ", ".join(map(short, stale[:3])) + (", ..." if len(stale) > 3 else "")
            notes.append(
                f"{len(stale)} stored files that no test asks for: {names}; delete with "
                f"{PRUNE.flag}"
            )
        else:
            from ..baselines.update import update

            update(self._settings.baselines, dict.fromkeys(stale))
            notes += [f"deleted {short(path)}" for path in stale]
