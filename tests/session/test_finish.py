"""The end of a session: what is written, what is sent, and with which exit status it ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.records import row
from helpers.session_parts import settings

from pytest_specdec.baselines.disk import Disk
from pytest_specdec.baselines.update import update
from pytest_specdec.judging.judgements import JudgementLog
from pytest_specdec.session.finish import SessionFinish
from pytest_specdec.session.state import Outcome
from pytest_specdec.session.workers import WorkerResults


class Parts:
    """The end of a session with its surroundings."""

    def __init__(
        self,
        root: Path,
        *,
        pending: dict[Path, str] | None = None,
        worker: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.outcome, self.comparisons = Outcome(), JudgementLog()
        config: Any = SimpleNamespace(
            invocation_params=SimpleNamespace(args=("--specdec-report=out.json",)),
            rootpath=root,
            getoption=lambda name, default: default,
        )
        if worker is not None:
            config.workeroutput = worker
        runners = [] if pending is None else [SimpleNamespace(pending=pending)]
        components: Any = SimpleNamespace(runners_in_use=runners)
        self.hooks = SessionFinish(
            config, settings(root, **options), components, self.comparisons, self.outcome
        )

    def end(self, status: int = pytest.ExitCode.OK, *, stopped: bool = False) -> int:
        """The exit status after the session."""
        session: Any = SimpleNamespace(exitstatus=status, shouldstop=stopped, shouldfail=False)
        hook = self.hooks.pytest_sessionfinish(session, status)
        next(hook)
        with pytest.raises(StopIteration):
            hook.send(None)
        return int(session.exitstatus)

    @property
    def notes(self) -> str:
        return "\n".join(self.outcome.notes)


def test_baselines_and_reports_are_written(tmp_path: Path) -> None:
    baseline = tmp_path / "baselines" / "a.json"
    parts = Parts(tmp_path, pending={baseline: "{}\n"}, report=(Path("out.json"),))
    parts.outcome.rows["text/a"] = row(id="text/a")
    assert parts.end() == pytest.ExitCode.OK
    assert baseline.read_text() == "{}\n"
    assert '"text/a"' in (tmp_path / "out.json").read_text()
    assert parts.notes.count("wrote ") == 2


def test_a_report_of_nothing_is_not_written(tmp_path: Path) -> None:
    parts = Parts(tmp_path, report=(Path("out.json"),))
    assert parts.end() == pytest.ExitCode.OK
    assert not (tmp_path / "out.json").exists()
    assert "no case was measured, so no report was written" in parts.notes


def test_a_report_that_cannot_be_written_costs_no_baseline(tmp_path: Path) -> None:
    baseline, folder = tmp_path / "baselines" / "a.json", tmp_path / "out.json"
    folder.mkdir()
    parts = Parts(tmp_path, pending={baseline: "{}\n"}, report=(Path("out.json"),))
    parts.outcome.rows["text/a"] = row(id="text/a")
    assert parts.end() == pytest.ExitCode.USAGE_ERROR
    assert baseline.exists()
    assert parts.outcome.problem is not None


def test_a_problem_writes_nothing(tmp_path: Path) -> None:
    parts = Parts(tmp_path, pending={tmp_path / "a.json": "{}"})
    parts.outcome.problem = "no target; pass one"
    assert parts.end() == pytest.ExitCode.USAGE_ERROR
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("status", [pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR])
@pytest.mark.parametrize("by_hook", [False, True])
def test_an_interrupted_session_writes_nothing(
    tmp_path: Path, status: pytest.ExitCode, by_hook: bool
) -> None:
    parts = Parts(tmp_path, pending={tmp_path / "a.json": "{}"})
    if by_hook:  # pytest.exit may end with any status
        parts.hooks.pytest_keyboard_interrupt()
        status = pytest.ExitCode.OK
    assert parts.end(status) == status
    assert not (tmp_path / "a.json").exists()
    assert "interrupted: none of 1 baseline files was written" in parts.notes


def test_a_failure_that_no_test_saw_sets_the_exit_status(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.comparisons.unseen |= {"text/b", "text/a"}
    assert parts.end() == pytest.ExitCode.TESTS_FAILED
    assert "the gate failed text/a, text/b, and no test did; the exit status is 1" in parts.notes
    parts = Parts(tmp_path)
    parts.comparisons.unseen.add("text/a")
    assert parts.end(pytest.ExitCode.NO_TESTS_COLLECTED) == pytest.ExitCode.NO_TESTS_COLLECTED


def test_stale_files_are_named_and_pruned_on_request(tmp_path: Path) -> None:
    stale = [tmp_path / "baselines" / f"{name}.json" for name in "abcd"]
    stale[0].parent.mkdir()
    for path in stale:
        path.write_text("{}")
    parts = Parts(tmp_path)
    parts.outcome.stale = list(stale)
    parts.end()
    assert "4 stored files that no test asks for: " in parts.notes
    assert "c.json, ...; delete with --specdec-prune" in parts.notes
    assert all(path.exists() for path in stale)
    parts = Parts(tmp_path, pending={stale[0]: "{}\n"}, prune=True)
    parts.outcome.stale = list(stale)
    parts.end()
    assert [path.exists() for path in stale] == [True, False, False, False]
    assert parts.notes.count("deleted ") == 3


def test_nothing_is_pruned_after_an_early_stop(tmp_path: Path) -> None:
    stale = tmp_path / "a.json"
    stale.write_text("{}")
    parts = Parts(tmp_path, prune=True)
    parts.outcome.stale = [stale]
    parts.end(stopped=True)
    assert stale.exists()
    assert "stopped early: nothing was pruned" in parts.notes


def test_a_worker_sends_what_the_controller_takes_over(tmp_path: Path) -> None:
    output: dict[str, Any] = {}
    baseline = tmp_path / "baselines" / "a.json"
    worker = Parts(tmp_path, pending={baseline: "{}\n"}, worker=output)
    worker.outcome.stale = [tmp_path / "old.json"]
    worker.comparisons.unseen.add("text/a")
    worker.end()
    assert not baseline.exists()
    controller = Parts(tmp_path)
    controller.hooks.pytest_testnodedown(SimpleNamespace(workeroutput=output), None)
    assert controller.outcome.stale == [tmp_path / "old.json"]
    assert controller.end() == pytest.ExitCode.TESTS_FAILED
    assert baseline.read_text() == "{}\n"


def test_the_first_workers_problem_is_the_sessions(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    for problem in ("first", "second"):
        output: dict[str, Any] = {}
        WorkerResults(problem=problem).send(output)
        parts.hooks.pytest_testnodedown(SimpleNamespace(workeroutput=output), None)
    parts.hooks.pytest_testnodedown(SimpleNamespace(), "crashed")  # a worker that crashed
    assert parts.outcome.problem == "first"
    assert parts.end() == pytest.ExitCode.USAGE_ERROR


def test_a_lost_worker_leaves_nothing_written(tmp_path: Path) -> None:
    parts = Parts(tmp_path, pending={tmp_path / "baselines" / "text" / "a.json": "{}\n"})
    parts.hooks.pytest_testnodedown(SimpleNamespace(), "Not properly terminated")
    assert parts.end() == pytest.ExitCode.USAGE_ERROR
    assert "a worker crashed: none of 1 baseline files was written" in str(parts.outcome.problem)
    assert not (tmp_path / "baselines").exists()


@pytest.mark.parametrize("writes", [False, True])
def test_baselines_that_change_meanwhile_end_the_session(tmp_path: Path, writes: bool) -> None:
    stored, own = (tmp_path / "baselines" / "text" / f"{name}.json" for name in "ab")
    stored.parent.mkdir(parents=True)
    stored.write_text("{}\n")
    parts = Parts(tmp_path, pending={own: "{}\n"} if writes else None)
    parts.outcome.rows["text/a"] = row(id="text/a")
    stored.write_text('{"another": "session"}\n')
    assert parts.end() == pytest.ExitCode.USAGE_ERROR
    assert "a.json changed while this session ran" in str(parts.outcome.problem)
    assert not own.exists()


def test_other_suites_may_change_meanwhile(tmp_path: Path) -> None:
    stored = tmp_path / "baselines" / "audio" / "a.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}\n")
    parts = Parts(tmp_path)
    parts.outcome.rows["text/a"] = row(id="text/a")
    stored.write_text('{"another": "session"}\n')
    assert parts.end() == pytest.ExitCode.OK


def test_an_update_that_was_cut_short_is_completed_first(tmp_path: Path) -> None:
    folder = tmp_path / "baselines"

    class Off(Disk):
        def move(self, source: Path, path: Path) -> None:
            if path.suffix == ".json":
                raise KeyboardInterrupt
            super().move(source, path)

    with pytest.raises(KeyboardInterrupt):
        update(folder, {folder / "text" / "a.json": "{}\n"}, disk=Off())
    assert not (folder / "text" / "a.json").exists()
    parts = Parts(tmp_path)
    assert "completed an update of 1 files that was cut short" in parts.notes
    assert (folder / "text" / "a.json").read_text() == "{}\n"
    assert parts.end() == pytest.ExitCode.OK
