"""Which comparisons a test made with its baseline, and whether anybody saw that the gate failed
one.

The exit status must agree with the table: a failed judgement fails its test, whatever became of the
value of `==`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..common.printable import printable
from ..report.layout import wrapped


@dataclasses.dataclass(frozen=True)
class Judgement:
    """One comparison of a run with a baseline, as the gate judged it."""

    case_id: str
    passes: bool
    headline: str
    message: Sequence[str]
    """What is printed of one that does not pass; empty otherwise."""
    expected: bool
    """Whether the test asked for a difference (`!=`) and there is one; an error is none."""


class Comparisons:
    """The judgements of a session by test. A test has seen one that failed if it failed itself, or
    looked for it.

    `!=` and a mark `xfail` look for it. What nobody saw is in `unseen`, by case.
    """

    def __init__(self) -> None:
        self.asking: set[str] = set()
        """Node ids of the tests that asked for a baseline."""
        self.unseen: set[str] = set()
        self._compared: set[str] = set()
        self._held: dict[str, list[Judgement]] = {}
        self._messages: dict[str, list[Sequence[str]]] = {}
        self._failed: dict[str, set[str]] = {}

    def hold(self, nodeid: str, judgements: Sequence[Judgement]) -> None:
        """Keep the judgements of a test's fixtures until the test itself has run."""
        self._held.setdefault(nodeid, []).extend(judgements)

    def failed(self, nodeid: str, judgements: Sequence[Judgement]) -> Sequence[Judgement]:
        """Take the judgements of a phase that failed by itself; all of them, those that were held
        included.
        """
        judgements = [*self._held.pop(nodeid, []), *judgements]
        if judgements:
            self._compared.add(nodeid)
        failures = [one for one in judgements if not one.passes]
        self._messages.setdefault(nodeid, []).extend(
            one.message for one in failures if not one.expected
        )
        self._failed.setdefault(nodeid, set()).update(
            one.case_id for one in failures if not one.expected
        )
        return judgements

    def dropped(self, nodeid: str, judgements: Sequence[Judgement]) -> str | None:
        """Take the judgements of a phase that did not fail; why it must, or None."""
        dropped = [
            one for one in self.failed(nodeid, judgements) if not (one.passes or one.expected)
        ]
        if not dropped:
            return None
        return (
            f"{dropped[0].headline}, and the test went on; assert the comparison, or mark the test "
            "xfail"
        )

    def missing(self, nodeid: str) -> str | None:
        """Why a test that passed must fail: it asked for a baseline and compared nothing with
        it.
        """
        if nodeid not in self.asking or nodeid in self._compared:
            return None
        return (
            "the test asks for specdec_baseline and compares nothing with it by == or !=, so no "
            "gate judged it (pytest.approx "
            "and >= compare numbers); write `assert specdec_run == specdec_baseline` (without -O) "
            "and set what may be lost by "
            "--specdec-margin, or leave the fixture out"
        )

    def explain_no_baseline(self, nodeid: str, case_id: str) -> None:
        """Add a message to a test that failed: nothing was compared with the baseline that is
        missing, so none is created.
        """
        if self.missing(nodeid) is not None:
            reason = (
                f"{case_id} has no baseline, and the test failed before it compared anything with "
                "one by == or !=, so "
                "--specdec-update=new creates none (pytest.approx and >= compare numbers); set "
                "what may be lost by "
                "--specdec-margin, and compare by"
            )
            self._messages.setdefault(nodeid, []).append(
                [*wrapped(printable(reason)), "    assert specdec_run == specdec_baseline"]
            )

    def take_messages(self, nodeid: str, *, seen: bool) -> list[Sequence[str]]:
        """The messages of the failures since the last call; `seen` where the test was expected to
        fail.
        """
        failed = self._failed.pop(nodeid, set())
        if not seen:
            self.unseen |= failed
        return self._messages.pop(nodeid, [])
