"""A shard of a session: its share is measured and written; no test runs and nothing is judged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..cases.shard import Shard
from ..common.display import short
from ..common.errors import RequestError, SpecdecError, naming_extras
from ..config.dividing import PART, SHARD
from ..config.options import UPDATE
from ..config.settings import Settings
from .build import Components
from .state import Outcome, cases_of
from .workers import command_line

if TYPE_CHECKING:
    from ..cases.case import Case

MEASURING = ("specdec_run", "specdec_baseline", "specdec_texts", "specdec_conformance")
"""Fixtures whose work a shard does its share of."""
_LEFT_OUT = (SHARD.flag, PART.flag)


class ShardSession:
    """Measures in the place of the tests."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        components: Components,
        outcome: Outcome,
        shard: Shard,
    ) -> None:
        self._config, self._settings = config, settings
        self._components, self._outcome, self._shard = components, outcome, shard

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or self._config.option.collectonly:
            return None
        try:
            with naming_extras():
                self._write(self._measure(session.items))
        except SpecdecError as error:
            raise pytest.UsageError(str(error)) from None
        return True

    def _measure(self, items: Iterable[pytest.Item]) -> list[Case]:
        """Do the share of every case that a test asks for. Raises SpecdecError."""
        from ..engines.own.replay_engine import ReplayEngine

        judged: dict[Case, bool] = {}
        for item in items:
            fixtures = getattr(item, "fixturenames", ())
            if any(name in fixtures for name in MEASURING):
                for case in cases_of([item]):
                    conforms = "specdec_conformance" in fixtures
                    judged[case] = judged.get(case, False) or conforms
        if not judged:
            raise RequestError(
                "no selected test measures anything, so there is nothing to share; leave "
                f"{SHARD.flag} out"
            )
        engine = self._components.engine
        assert isinstance(engine, ReplayEngine)  # others cannot be divided
        updates = self._settings.value(UPDATE) is not None
        for case, conforms in judged.items():
            for seeded in self._components.measured_cases[case]:
                engine.share(seeded, contexts=updates, conformance=conforms and seeded == case)
        return [*judged]

    def _write(self, cases: list[Case]) -> None:
        """Write the part. Raises SpecdecError."""
        from .. import __version__
        from ..baselines.commits import head_commit
        from ..engines.shards import ShardExecutor, part_of

        executor = self._components.executor
        assert isinstance(executor, ShardExecutor)
        part = part_of(
            self._shard,
            executor.work,
            arguments=without_shard(command_line(self._config)),
            commit=head_commit(self._config.rootpath),
            version=__version__,
        )
        path = self._path
        part.write(path)
        done = sum(len(work.results) for work in executor.work.values() if not work.everywhere)
        total = sum(work.units for work in executor.work.values() if not work.everywhere)
        self._outcome.notes.append(
            f"shard {self._shard}: {len(cases)} cases, {done} of {total} batches, written to "
            f"{short(path)}; once all shards are: python -m pytest_specdec merge PART..."
        )

    @property
    def _path(self) -> Path:
        given = self._settings.given(PART)
        if given is not None:
            path: Path = given.folder / given.value
            return path
        folder = self._config.rootpath / ".specdec" / "shards"
        return folder / f"{self._shard.number}-of-{self._shard.shards}.part"


def without_shard(words: Iterable[str]) -> tuple[str, ...]:
    """A command line without the options that tell shards from each other."""
    kept, rest = [], iter(words)
    for word in rest:
        if word in _LEFT_OUT:
            next(rest, None)
        elif word.partition("=")[0] not in _LEFT_OUT:
            kept.append(word)
    return tuple(kept)
