"""The gates on counts that tests hand over: one a test, under a name of its own."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, cast

import pytest

from ..common.errors import RequestError, SpecdecError
from ..common.printable import printable
from ..config import options
from ..config.option_type import Option
from ..config.parsers import ValueRefusedError, shown
from ..config.settings import Settings
from .build import Components
from .state import SessionCases

if TYPE_CHECKING:
    from ..gate.verdict import Verdict
    from ..judging.counts_gate import CountsGate, GateRequest
    from ..report.row import ReportRow


class SpecdecGate:
    """What `specdec_gate("name")` returns."""

    def __init__(self, gate: CountsGate) -> None:
        self._gate = gate

    def __repr__(self) -> str:
        return f"<specdec_gate {self._gate.request.id}>"

    def check(self, *, rounds: Any = None, sums: Any = None) -> Verdict:
        """Compare counts with the gate's baseline; a failed judgement fails the test.

        Parameters
        ----------
        rounds
            By request: `[drafted, accepted]` of each round. A mapping from the requests' keys, or
            a list in the order of the requests.
        sums
            In place of `rounds`, by request: `(rounds, drafted, accepted)`, where `accepted` is a
            number, or a list with the rounds that accepted position 1, 2, ..., k.

        Returns
        -------
        Verdict
            With `.now`, `.before`, `.drop`, `.p_value` and `.smallest_detectable_drop`.

        Raises
        ------
        AssertionError
            Where the gate does not pass, a missing baseline included.
        pytest.fail.Exception
            For counts that cannot be judged.
        """
        __tracebackhide__ = True
        from ..report.failure_message import headline

        try:
            verdict, passes = self._gate.judge(rounds=rounds, sums=sums)
        except SpecdecError as error:
            raise pytest.fail.Exception(
                f"specdec_gate({self._gate.request.name!r}): {error}", pytrace=False
            ) from None
        if not passes:
            raise AssertionError(printable(headline(verdict)))
        return verdict


class CountsGates:
    """Makes the gates of a session's tests and keeps them for its reports."""

    def __init__(self, settings: Settings, cases: SessionCases, components: Components) -> None:
        self._settings, self._cases, self._components = settings, cases, components
        self._owners: dict[str, str] = {}
        """By a gate's id, in one case of letters, as some file systems have it: its test."""
        self._gates: dict[str, CountsGate] = {}
        """By test."""

    def begin(self, item: pytest.Item) -> None:
        """A test asks for its gate, perhaps again. Raises RequestError where it was not known
        before the tests began.
        """
        if item.nodeid not in self._cases.counts_tests:
            raise RequestError(
                f"{item.nodeid} requests specdec_gate while it runs, after the session's "
                "false-alarm rate was shared among the gates; name the fixture among the test's "
                "arguments, or in pytest.mark.usefixtures"
            )
        self._gates.pop(item.nodeid, None)

    def gate(
        self,
        item: pytest.Item,
        name: object,
        *,
        margin: object = None,
        k: object = None,
        metric: object = "acceptance_length",
    ) -> SpecdecGate:
        """The gate of a test. Raises RequestError for a name or setting that cannot be used."""
        request = self._request(item, name, margin, k, metric)
        self._claim(item.nodeid, request.id)
        if item.nodeid not in self._gates:
            self._gates[item.nodeid] = self._components.counts_gate(request)
        elif self._gates[item.nodeid].request != request:
            raise RequestError(
                f"{item.nodeid} asks for the gates {self._gates[item.nodeid].request.id} and "
                f"{request.id} with settings of their own, and each test has one gate, to which "
                "its share of the false-alarm rate belongs; parametrize the test, one gate each"
            )
        return SpecdecGate(self._gates[item.nodeid])

    def row(self, nodeid: str) -> ReportRow | None:
        """The report row of a test's gate; None where it has judged nothing."""
        gate = self._gates.get(nodeid)
        return None if gate is None else gate.row

    def _request(
        self, item: pytest.Item, name: object, margin: object, k: object, metric: object
    ) -> GateRequest:
        from ..cases.counts_case import checked_name
        from ..config.case_grid import suite_name
        from ..judging.counts_gate import METRICS, GateRequest

        if metric not in METRICS:
            raise RequestError(
                f"metric={shown(metric)} is not one of {', '.join(METRICS)}; choose one of these"
            )
        return GateRequest(
            name=checked_name(name),
            suite=suite_name(item.path.parent, self._settings.root),
            margin=self._settings.value(options.MARGIN)
            if margin is None
            else cast(float, _checked(options.MARGIN, "margin", margin)),
            k=None if k is None else cast("tuple[int, ...]", _checked(options.K, "k", [k]))[0],
            metric=metric,
        )

    def _claim(self, nodeid: str, gate_id: str) -> None:
        """Refuse the name of another test's gate, or of a case: both would share a baseline."""
        cases = {case.id.casefold() for case in self._cases.generated}
        owner = self._owners.setdefault(gate_id.casefold(), nodeid)
        if owner != nodeid or gate_id.casefold() in cases:
            other = f"the gate of {owner}" if owner != nodeid else "a case of specdec_run"
            raise RequestError(
                f"{gate_id} already names {other}, and both would share a baseline; give this gate "
                "another name"
            )


def _checked(option: Option[Any], name: str, value: object) -> object:
    """A value that a test gives for an option. Raises RequestError."""
    try:
        return option.parser.check(value)
    except (ValueRefusedError, argparse.ArgumentTypeError) as refusal:
        raise RequestError(f"{name}={shown(value)} {refusal}") from None
