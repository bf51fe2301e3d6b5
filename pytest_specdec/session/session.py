"""The session's parts, made together and registered with pytest."""

from __future__ import annotations

import pytest

from ..config.dividing import SHARD
from ..config.settings import Settings
from ..judging.judgements import JudgementLog
from .build import Components
from .collection import CollectionHooks
from .counts_gates import CountsGates
from .finish import SessionFinish
from .gate_watch import GateWatch
from .junit import JUnitOutput
from .merging import check_not_distributed
from .rows import RowCollector
from .sharding import ShardSession
from .state import Outcome, SessionCases
from .terminal import TerminalSummary
from .workers import worker_output


class Session:
    """What fixtures reach: the components, and the parts that listen to pytest's hooks.

    On an xdist worker cases are measured and judged; files and the terminal are the controller's.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        """Raises RequestError for a session that is divided twice."""
        check_not_distributed(config, settings)
        cases, outcome, self._comparisons = SessionCases(), Outcome(), JudgementLog()
        self.components = Components(config, settings, cases)
        self.collection = CollectionHooks(config, settings, cases, outcome, self.components)
        self.counts_gates = CountsGates(settings, cases, self.components)
        self._parts: dict[str, object] = {
            "collection": self.collection,
            "gate-watch": GateWatch(self._comparisons, self.components),
            "rows": RowCollector(settings, self.components, self.counts_gates, outcome),
            "finish": SessionFinish(config, settings, self.components, self._comparisons, outcome),
        }
        shard = settings.value(SHARD)
        if shard is not None:
            self._parts["shard"] = ShardSession(config, settings, self.components, outcome, shard)
        if worker_output(config) is None:
            self._parts["junit"] = JUnitOutput(config)
            self._parts["terminal"] = TerminalSummary(
                config, settings, cases, self.components, outcome
            )

    def register(self, plugins: pytest.PytestPluginManager) -> None:
        """Let the parts listen."""
        for name, part in self._parts.items():
            plugins.register(part, f"specdec-{name}")

    def expect_comparison(self, nodeid: str) -> None:
        """A test that asks for a baseline must compare something with it."""
        self._comparisons.asking.add(nodeid)

    def expect_counts(self, item: pytest.Item) -> None:
        """A test that asks for a gate of its own must hand counts to it. Raises RequestError where
        the gate was not known at collection.
        """
        self.counts_gates.begin(item)
        self._comparisons.handing_over.add(item.nodeid)
