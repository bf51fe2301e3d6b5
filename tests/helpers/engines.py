"""An engine that answers from a table, for tests of what is done with its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from helpers.records import ENVIRONMENT, FINGERPRINTS, case
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.cases.case import Case
from pytest_specdec.engines.protocol import Measurement
from pytest_specdec.speedup.cost_profile import CostProfile

SMALL_CASE = case(k=3, new_tokens=512)
"""The case whose record `helpers.records.record` makes."""


def measurement(of: Counts, *, text: str = "text-1", **changes: Any) -> Measurement:
    """What an engine counted on the texts of `helpers.records.record`."""
    fields = {
        "counts": of,
        "fingerprints": FINGERPRINTS,
        "environment": ENVIRONMENT,
        "tokenizer": "letters",
        "template": None,
        "text_fingerprints": {key: f"{text}-{key}" for key in of.prompts},
        "texts": None,
    }
    return Measurement(**{**fields, **changes})


class ScriptedEngine:
    """Keeps every request that it gets; its models, too, follow the script."""

    name = "replay"

    def __init__(
        self, measure: Callable[[Case], Measurement], *, costs: CostProfile | None = None
    ) -> None:
        self._measure, self._costs = measure, costs
        self.models = self
        self.measured: list[Case] = []
        self.timed: list[Sequence[Case]] = []

    def measure(self, case: Case) -> Measurement:
        self.measured.append(case)
        return self._measure(case)

    def emitted(self, case: Case) -> list[Any]:
        return [SimpleNamespace(ids=[1, 2])]

    def costs(self, cases: Sequence[Case]) -> CostProfile:
        assert self._costs is not None
        self.timed.append(cases)
        return self._costs

    def words(self, case: Case, tokens: Sequence[int]) -> list[str]:
        return [f"<{token}>" for token in tokens]
